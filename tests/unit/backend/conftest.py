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
"""A service in this process: real database, real appraisal, a clock of the test's own."""

import itertools
from dataclasses import dataclass
from pathlib import Path

import falcon.testing
import pytest

from oat_trusted_filter.backend.api.application import make_application
from oat_trusted_filter.backend.api.service import make_service
from oat_trusted_filter.backend.settings import Settings
from oat_trusted_filter.backend.signing import rotated
from oat_trusted_filter.backend.store import hosts, migrate
from oat_trusted_filter.backend.store.engine import Store
from oat_trusted_filter.backend.store.tables import audit_head, metadata
from oat_trusted_filter.trail import BEGINNING
from tests.unit.backend.attesting import AttestingHost

#: When the tests take place, milliseconds since 1970.
START = 1_800_000_000_000
BANKS = ("sha1", "sha256", "sha384", "sha512")

_numbers = itertools.count(1)


class Clock:
    """Milliseconds since 1970, as the test says."""

    def __init__(self, now=START):
        self.now = now

    def __call__(self):
        return self.now

    def pass_by(self, seconds):
        self.now += int(seconds * 1000)


@dataclass
class Place:
    """A service and its parts."""

    settings: Settings
    store: Store
    clock: Clock
    service: object
    client: falcon.testing.TestClient

    def call(self, method, path, body=None, **keywords):
        """The answer to a request."""
        return self.client.simulate_request(method, path, json=body, **keywords)

    def get(self, path, **keywords):
        """The decoded answer to a request that succeeds."""
        answer = self.call("GET", path, **keywords)
        assert answer.status_code == 200, answer.text
        return answer.json

    def approved_host(self, name="node-1", boot="machine-a", region="", **fields):
        """A host that is approved and has not attested."""
        host = AttestingHost(self, name, boot, region)
        candidate = candidate_of(host, **fields)

        def work(connection):
            return hosts.approve(connection, hosts.enrol(connection, candidate, self.clock()))

        host.binding = self.store.write(work)
        return host

    def trust(self, *machines):
        """Take the boots of these hosts as good."""
        name = f"good-{next(_numbers)}"
        body = {"name": name, "from_hosts": [host.name for host in machines]}
        answer = self.call("POST", "/v1/reference-sets", body)
        assert answer.status_code == 201, answer.text
        return name


def candidate_of(machine, /, **fields):
    """What an enrolment of this host comes to."""
    values = {
        "region": machine.region,
        "host": machine.name,
        "ek_fingerprint": f"{next(_numbers):064x}",
        "ak_public": machine.key.public,
        "banks": BANKS,
        "software_tpm": None,
        "ek_certificate_status": hosts.ABSENT,
        "manufacturer": None,
        "service_host": None,
        "resource_provider": None,
    }
    return hosts.Candidate(**{**values, **fields})


def pytest_generate_tests(metafunc):
    """Run tests marked ``every_database`` on every database."""
    marked = metafunc.definition.get_closest_marker("every_database")
    if marked and "database" in metafunc.fixturenames:
        metafunc.parametrize("database", ["sqlite", "mariadb", "postgresql"], indirect=True)


@pytest.fixture
def database(request, tmp_path):
    """The URL of a database with all tables and nothing in them."""
    kind = getattr(request, "param", "sqlite")
    if kind == "sqlite":
        return f"sqlite:///{tmp_path / 'oat.sqlite'}"
    return request.getfixturevalue(f"{kind}_url")


@pytest.fixture(scope="session")
def mariadb_url(mariadb):
    """One database for all tests; making tables takes MariaDB a second or two."""
    return mariadb.create("oat_unit")


@pytest.fixture(scope="session")
def postgresql_url(postgresql):
    """One database for all tests."""
    return postgresql.create("oat_unit")


@pytest.fixture
def store(database):
    """A database with all tables and nothing in them."""
    made = Store(database)
    if migrate.sync(made)[0] is not None:
        made.write(_delete_everything)
        migrate.sync(made)
    yield made
    made.close()


def _delete_everything(connection):
    for table in reversed(metadata.sorted_tables):
        if table is not audit_head:
            connection.execute(table.delete())
    connection.execute(audit_head.update().values(sequence=0, digest=BEGINNING))


@pytest.fixture
def place_maker(tmp_path, store):
    """Makes services; all of one test have the same database and the same clock."""
    (tmp_path / "challenge.key").write_text("5a" * 32)
    (tmp_path / "signing.key").write_bytes(rotated(None))
    clock = Clock()

    def make(**options):
        values = {
            "bind_host": "127.0.0.1",
            "port": 8443,
            "tls_certificate": Path(tmp_path / "server.pem"),
            "tls_key": Path(tmp_path / "server.key"),
            "workers": 1,
            "auth_strategy": "noauth",
            "state_dir": tmp_path,
            "ek_ca_dir": None,
            "allow_software_tpm": False,
            "interval": 60.0,
            "verdict_lifetime": 300.0,
            "challenge_lifetime": 60.0,
            "verdict_lease": 30.0,
            "database": "",
        }
        settings = Settings(**{**values, **options})
        service = make_service(settings, store, clock)
        client = falcon.testing.TestClient(make_application(service))
        return Place(settings, store, clock, service, client)

    return make


@pytest.fixture
def operator(place_maker):
    """Another service on the same database, where everybody may do everything."""
    return place_maker()


@pytest.fixture
def place(place_maker):
    """A service with the default options, where everybody may do everything."""
    return place_maker()
