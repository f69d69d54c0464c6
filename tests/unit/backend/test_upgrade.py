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
"""A database of an earlier release, with the rows that release wrote, brought to this one."""

import base64
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import MetaData, func, inspect, select
from sqlalchemy import table as named_table

from oat_trusted_filter import trail
from oat_trusted_filter.backend.store import audit, credentials, migrate, schema
from oat_trusted_filter.backend.store.engine import Store
from oat_trusted_filter.backend.store.tables import metadata
from tests.lab.quotes import SigningKey
from tests.unit.backend.attesting import AttestingHost

DATA = Path(__file__).resolve().parents[2] / "data"
OLD = json.loads((DATA / "databases/0001.json").read_text())


@pytest.fixture(scope="module", params=["sqlite", "mariadb", "postgresql"])
def upgraded(request, tmp_path_factory):
    """A database of revision 0001, filled, and brought to this release."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('old') / 'oat.sqlite'}"
    else:
        url = request.getfixturevalue(request.param).create("oat_upgrade")
    made = Store(url)
    migrate.sync(made, OLD["revision"])
    made.write(fill)
    assert not schema.synced(made)
    assert migrate.sync(made)[0] == OLD["revision"]
    yield made
    made.close()


@pytest.fixture
def store(upgraded):
    """That one."""
    return upgraded


def fill(connection):
    tables = MetaData()
    tables.reflect(connection)
    for table in tables.sorted_tables:
        rows = [{k: value(v) for k, v in row.items()} for row in OLD["tables"].get(table.name, ())]
        if table.name == "state":
            connection.execute(table.delete())
        if rows:
            connection.execute(table.insert(), rows)
    if connection.dialect.name == "postgresql":
        # Rows that bring their number do not move the counter on.
        number = len(OLD["tables"]["hosts"]) + 1
        connection.exec_driver_sql(f"ALTER SEQUENCE hosts_id_seq RESTART WITH {number}")


def value(stored):
    if not isinstance(stored, dict):
        return stored
    if "boot" in stored:
        return (DATA / "boots" / stored["boot"]).read_bytes()
    return base64.b64decode(stored["base64"])


@pytest.fixture
def old_place(place):
    """A service on this database, at the time the rows were written."""
    place.clock.now = OLD["now"]
    return place


def test_E8_rows_of_the_previous_release_load(old_place):
    place = old_place
    levels = {host["host"]: host["level"] for host in place.get("/v1/hosts")["hosts"]}
    assert levels == {
        "node-1": "trusted", "node-2": "untrusted", "node-3": "trusted", "node-4": "unknown",
        "node-5": "unknown", "node-6": "unknown",
    }  # fmt: skip
    shown = place.get("/v1/hosts/node-3")
    assert shown["ima"]["files"] > 0
    assert {item["name"] for item in place.get("/v1/reference-sets")["reference_sets"]} == {
        item["name"] for item in OLD["tables"]["reference_sets"]
    }
    assert place.get("/v1/policies/default")["ima"]["mode"] == "report"
    assert {host["host"] for host in place.get("/v1/verdicts")["hosts"]} == {
        "node-1", "node-2", "node-3", "node-4",
    }  # fmt: skip


def test_E8_credentials_are_valid(store):
    with store.read() as connection:
        assert credentials.holder_of(connection, OLD["token"], OLD["now"]) is not None
        assert credentials.user(connection, "ann").role == "admin"


def test_E8_the_history_begins_with_what_there_was(old_place):
    place = old_place
    for name in ("node-1", "node-2", "node-3"):
        (report,) = place.get("/v1/reports", params={"host": name})["reports"]
        assert report["cause"] == "upgrade"
        assert report["at"] == place.get(f"/v1/hosts/{name}")["appraised_at"]
    for name in ("node-1", "node-2"):
        (report,) = place.get("/v1/reports", params={"host": name})["reports"]
        again = place.get(f"/v1/reports/{report['id']}/appraisal")
        assert again["level"] == report["level"]
    with place.store.read() as connection:
        assert audit.head(connection) == (0, trail.BEGINNING)


def test_E8_nothing_was_lost(store):
    with store.read() as connection:
        for name, rows in OLD["tables"].items():
            found = connection.scalar(select(func.count()).select_from(named_table(name)))
            assert found == len(rows), name
        assert set(inspect(connection).get_table_names()) == {*metadata.tables, "alembic_version"}


def test_an_upgrade_that_was_done_is_not_done_again(store):
    before, after = migrate.sync(store)
    assert before == after
    assert schema.synced(store)


def test_E8_hosts_go_on_attesting(old_place):
    place = old_place
    host = AttestingHost(place, "node-1")
    private = ec.derive_private_key(int(OLD["attestation_key"], 16), ec.SECP256R1())
    host.key = SigningKey(private, host.key.scheme, host.key.bank)
    host.clock, host.reset_count = OLD["clock"], OLD["reset_count"]
    body = host.evidence(with_log=False) | {"ima_log": {"offset": 0, "data": "", "more": True}}
    assert host.submit(body).json["level"] == "trusted"
    # The counters of the TPM are remembered across the upgrade.
    host.clock = 0
    assert host.submit().json["code"] == "clock-backwards"
