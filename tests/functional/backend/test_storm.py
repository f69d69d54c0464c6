# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.
"""Workers that are killed at any point lose nothing they have acknowledged.

``--storm-rounds 1000`` is the long version.
"""

import datetime

import pytest

from oat_trusted_filter.backend.store import hosts as host_store
from oat_trusted_filter.backend.store.engine import Store
from oat_trusted_filter.backend.store.tables import hosts, reports, verdicts
from tests.functional.backend.parts import Http
from tests.functional.backend.storm import Storm
from tests.lab.load import BAD, GOOD, SimulatedHost, Wire, context_of
from tests.unit.backend.conftest import candidate_of

WORKERS = 3
HOSTS = 6
ENROLLING = 2


@pytest.fixture
def backend(backend_maker):
    options = {("api", "workers"): WORKERS, ("history", "reports"): 1_000_000}
    with backend_maker(options) as running:
        yield running


@pytest.fixture
def store(backend):
    made = Store(f"sqlite:///{backend.state_dir / 'oat.sqlite'}")
    yield made
    made.close()


@pytest.fixture
def attesting(backend, store):
    """Hosts that are approved; one of their two boots is good."""
    made = [SimulatedHost(f"node-{number}") for number in range(HOSTS)]

    def approve(connection):
        for host in made:
            host_store.approve(connection, host_store.enrol(connection, candidate_of(host), 1))

    store.write(approve)
    with Wire(backend, context_of(backend)) as wire:
        for host in made[:2]:
            host.boot(GOOD if host is made[0] else BAD)
            wire.round(host, with_log=True)
    body = {"name": "good", "from_hosts": [made[0].name]}
    answer = Http(backend).call("POST", "/v1/reference-sets", body, token=backend.admin_token)
    assert answer.status == 201, answer.body
    return made


def milliseconds(moment):
    return round(datetime.datetime.fromisoformat(moment).timestamp() * 1000)


# However many: each wait in it has an end of its own.
@pytest.mark.timeout(0)
def test_workers_that_are_killed_lose_nothing_they_acknowledged(
    backend, store, attesting, request
):
    rounds = request.config.getoption("--storm-rounds")
    storm = Storm(backend, attesting, ENROLLING)
    storm.rage(rounds)
    heard = storm.heard
    print(
        f"{storm.kills} workers killed; acknowledged: {sum(map(len, heard.verdicts.values()))} "
        f"verdicts, {len(heard.enrolled)} enrolments, {len(heard.approved)} approvals; "
        f"{heard.lost} requests without an answer, {heard.spent} challenges refused the second time"
    )
    assert storm.kills == rounds
    backend.stop()
    checked = backend.manage("db", "check")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    with store.read() as connection:
        for name, told in heard.verdicts.items():
            assert told
            rows = connection.execute(
                reports.select().where(reports.c.host == name).order_by(reports.c.id)
            )
            changes = [(row.at, row.level) for row in rows]
            last = 0
            for moment, level in told:
                # What was acknowledged is there, in its order; each is another level than before.
                at = milliseconds(moment)
                assert [one for one in changes if last < one[0] <= at and one[1] == level], name
                last = at
            query = verdicts.select().join(hosts).where(hosts.c.approved_name == f"/{name}")
            stored = connection.execute(query).one()
            assert stored.appraised_at >= last
            assert stored.appraised_at > last or stored.level == told[-1][1]
        found = {
            (row.host, row.ek_fingerprint): row.state for row in connection.execute(hosts.select())
        }
    for name, fingerprint in heard.enrolled.items():
        state = "approved" if name in heard.approved else "pending"
        assert found[name, fingerprint] in (state, "approved")
