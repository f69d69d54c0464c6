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
"""Two API hosts on one MariaDB, and a MariaDB that goes away and returns."""

import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from sqlalchemy import text

from oat_trusted_filter import trail
from oat_trusted_filter.backend.store import audit, hosts
from oat_trusted_filter.backend.store.engine import Store
from tests.functional.backend.parts import Http, Operator
from tests.lab.backend import Backend
from tests.lab.databases import MariaDb
from tests.lab.wait import wait_for
from tests.unit.backend.attesting import AttestingHost
from tests.unit.backend.conftest import candidate_of

_SECONDS = 60.0
FLIPS = 8


class Api:
    """An API host, as hosts of the unit tests call it."""

    def __init__(self, backend):
        self.backend = backend
        self.http = Http(backend)

    def call(self, method, path, body=None):
        answer = self.http.call(method, path, body, token=self.backend.admin_token)
        return SimpleNamespace(
            status_code=answer.status,
            headers=answer.headers,
            text=answer.body.decode(),
            json=json.loads(answer.body) if answer.body else None,
        )

    def get(self, path):
        answer = self.call("GET", path)
        assert answer.status_code == 200, answer.text
        return answer.json


@pytest.fixture(scope="module")
def url(mariadb):
    return mariadb.create("oat_functional")


@pytest.fixture(scope="module")
def apis(tmp_path_factory, url):
    """Two API hosts: the second has the state folder of the first."""
    options = {("database", "connection"): url, ("audit", "interval"): 0.2}
    first, second = (Backend(tmp_path_factory.mktemp("api"), options=options) for _ in range(2))
    with first:
        shutil.copytree(first.state_dir, second.state_dir)
        with second:
            yield Api(first), Api(second)


@pytest.fixture(scope="module")
def store(url):
    made = Store(url)
    yield made
    made.close()


@pytest.fixture
def approve(store):
    """Makes approved hosts."""

    def make(name, place):
        host = AttestingHost(place, name)

        def work(connection):
            return hosts.approve(connection, hosts.enrol(connection, candidate_of(host), 1))

        store.write(work)
        return host

    return make


@pytest.fixture(scope="module")
def good(apis, store):
    """The boots of machine-a are good."""
    host = AttestingHost(apis[0], "pattern")
    store.write(lambda c: hosts.approve(c, hosts.enrol(c, candidate_of(host), 1)))
    host.attest()
    Operator(apis[0].backend).trust(host)
    return host


def test_a_challenge_is_spent_once_whoever_takes_it(apis, approve, good):
    first = approve("spender", apis[0])
    for _ in range(5):
        body = first.evidence()
        with ThreadPoolExecutor(4) as pool:
            answers = list(
                pool.map(lambda n, b=body: apis[n % 2].call("POST", "/v1/evidence", b), range(4))
            )
        codes = sorted(answer.status_code for answer in answers)
        assert codes == [200, 403, 403, 403]
        assert {a.json["code"] for a in answers if a.status_code == 403} == {"challenge-spent"}


def test_B3_one_of_two_approvals_at_once_wins(apis, store):
    for number in range(5):
        name = f"twice-{number}"
        keys = []
        for _ in range(2):
            candidate = candidate_of(AttestingHost(apis[0], name))
            keys.append(candidate.ek_fingerprint)
            store.write(lambda c, one=candidate: hosts.enrol(c, one, 1))
        with ThreadPoolExecutor(2) as pool:
            answers = list(
                pool.map(
                    lambda item, n=name: item[0].call(
                        "POST", f"/v1/hosts/{n}/approve", {"ek_fingerprint": item[1]}
                    ),
                    zip(apis, keys, strict=True),
                )
            )
        assert sorted(answer.status_code for answer in answers) == [200, 409]
        winner = keys[[answer.status_code for answer in answers].index(200)]
        approved = [
            host["ek_fingerprint"] for host in apis[0].get("/v1/hosts")["hosts"]
            if host["host"] == name and host["state"] == "approved"
        ]  # fmt: skip
        assert approved == [winner]


class Follower:
    """A relying party that asks now one API host and now the other for what has changed."""

    def __init__(self, apis):
        self.apis = apis
        self.levels = {}
        self.since = None
        self.asked = 0

    def poll(self, api=None):
        api = api or self.apis[self.asked % 2]
        self.asked += 1
        query = "" if self.since is None else f"?since={self.since}"
        snapshot = api.get(f"/v1/verdicts{query}")
        if snapshot["full"]:
            self.levels = {}
        for host in snapshot["hosts"]:
            self.levels[host["host"]] = host["level"]
        for host in snapshot["deleted"]:
            self.levels.pop(host["host"], None)
        self.since = f"{snapshot['epoch']}:{snapshot['cursor']}"


def test_E12_no_flip_is_missed_lost_or_out_of_order(apis, approve, good, store):
    names = [f"flipper-{number}" for number in range(4)]
    flippers = [approve(name, apis[0]) for name in names]
    stop = threading.Event()
    bystander = Follower(apis)

    def flip(host):
        follower = Follower(apis)
        follower.poll()
        for number in range(FLIPS):
            host.boot("machine-a-loader" if number % 2 == 0 else "machine-a")
            host.place = apis[(number + len(host.name)) % 2]
            level = host.attest()
            assert level == ("untrusted" if number % 2 == 0 else "trusted")
            # What was answered is what everybody hears from now on, also from the other API host.
            follower.poll(apis[number % 2])
            assert follower.levels[host.name] == level

    def follow():
        while not stop.is_set():
            bystander.poll()

    with ThreadPoolExecutor(len(names) + 1) as pool:
        following = pool.submit(follow)
        try:
            for done in [pool.submit(flip, host) for host in flippers]:
                done.result(_SECONDS)
        finally:
            stop.set()
        following.result(_SECONDS)
    for api in apis:
        bystander.poll(api)
        fresh = Follower([api])
        fresh.poll()
        assert bystander.levels == fresh.levels
    for name in names:
        reports = apis[0].get(f"/v1/reports?host={name}")["reports"]
        levels = [report["level"] for report in reversed(reports)]
        assert levels == ["untrusted", "trusted"] * (FLIPS // 2)
    with store.read() as connection:
        rows = list(audit.everything(connection))
        head = audit.head(connection)
    assert trail.faults(rows, [head]) == []


def test_a_database_that_goes_away_and_returns(apis, approve, good, mariadb):
    host = approve("survivor", apis[0])
    assert host.attest() == "trusted"
    pids = [api.backend.worker_pids() for api in apis]
    body = host.evidence()
    mariadb.stop()
    try:
        for api in apis:
            for method, path, sent in (
                ("GET", "/v1/verdicts", None), ("POST", "/v1/evidence", body),
                ("GET", "/v1/audit", None), ("GET", "/healthz", None),
            ):  # fmt: skip
                answer = api.call(method, path, sent)
                assert (answer.status_code, answer.json["code"]) == (503, "database-unavailable")
                assert int(answer.headers["retry-after"]) >= 1
    finally:
        mariadb.start()
    for api in apis:
        host.place = api
        # A connection that was used a second ago is not looked at before it is used.
        wait_for(lambda: host.submit().json.get("level") == "trusted", _SECONDS, "the API")
        wait_for(
            lambda one=api: one.call("GET", "/healthz").status_code == 200, _SECONDS, "the API"
        )
    # Nobody had to be started again, and what was acknowledged before is still there.
    assert [api.backend.worker_pids() for api in apis] == pids
    wait_for(
        lambda: apis[1].call("GET", "/v1/hosts/survivor").json.get("level") == "trusted",
        _SECONDS, "the verdict",
    )  # fmt: skip


def test_reads_on_galera_wait_for_what_other_nodes_have_committed():
    server = MariaDb(galera=True)
    try:
        server.start()
        store = Store(server.create("oat_galera"))
        with store.read() as connection:
            assert connection.scalar(text("SELECT @@SESSION.wsrep_sync_wait")) == 1
        waits = store.write(lambda c: c.scalar(text("SELECT @@SESSION.wsrep_sync_wait")))
        assert waits == 1
        store.close()
    finally:
        server.remove()


def test_without_galera_nothing_waits(store):
    with store.read() as connection:
        assert connection.scalar(text("SELECT @@SESSION.wsrep_sync_wait")) == 0
