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
"""Bindings: who stands for a name, and who waits."""

import threading
from types import SimpleNamespace

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from oat_trusted_filter.backend.store import changes, hosts, rebinding, snapshot
from oat_trusted_filter.backend.store.errors import BanksChanged, NameTaken
from oat_trusted_filter.backend.store.hosts import APPROVED, PENDING, REGISTERED
from oat_trusted_filter.backend.store.tables import hosts as table
from tests.lab.quotes import SigningKey
from tests.lab.wait import wait_for
from tests.unit.backend.conftest import START, candidate_of

pytestmark = pytest.mark.every_database

HOST = SimpleNamespace(name="node-1", region="", key=SigningKey.ecc())


@pytest.fixture
def enrol(store):
    """Enrols a key under the name; the binding."""

    def work(**fields):
        candidate = candidate_of(HOST, **fields)
        return store.write(lambda connection: hosts.enrol(connection, candidate, START))

    return work


@pytest.fixture
def approve(store):
    def work(host):
        return store.write(lambda connection: hosts.approve(connection, host))

    return work


def states(store, name="node-1"):
    with store.read() as connection:
        return [(item.ek_fingerprint, item.state) for item in hosts.named(connection, None, name)]


def cursor(store):
    with store.read() as connection:
        return changes.position(connection).cursor


def test_a_new_key_waits(store, enrol):
    host = enrol()
    assert host.state == PENDING
    assert (host.banks, host.ak_public) == (("sha1", "sha256", "sha384", "sha512"), HOST.key.public)
    # Relying parties hear of approved hosts only.
    assert cursor(store) == 0


def test_several_keys_wait_under_one_name_and_one_is_approved(store, enrol, approve):
    first, second = enrol(), enrol()
    assert approve(second).state == APPROVED
    assert dict(states(store)) == {first.ek_fingerprint: PENDING, second.ek_fingerprint: APPROVED}
    with pytest.raises(NameTaken):
        approve(first)
    assert dict(states(store))[first.ek_fingerprint] == PENDING
    # Once more is no mistake.
    assert approve(second).state == APPROVED


def test_B3_of_two_approvals_at_once_exactly_one_wins(store, enrol):
    waiting = [enrol() for _ in range(4)]
    barrier = threading.Barrier(len(waiting))
    outcomes = []

    def run(host):
        barrier.wait()
        try:
            store.write(lambda connection: hosts.approve(connection, host))
            outcomes.append("approved")
        except NameTaken:
            outcomes.append("taken")

    threads = [threading.Thread(target=run, args=(host,)) for host in waiting]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["approved", "taken", "taken", "taken"]
    assert [state for _, state in states(store)].count(APPROVED) == 1


def test_B3_the_database_itself_allows_one_approved_binding(store, enrol):
    def mark(host):
        statement = table.update().where(table.c.id == host.id)
        values = {"state": APPROVED, "approved_name": "/node-1"}
        store.write(lambda connection: connection.execute(statement.values(values)))

    mark(enrol())
    with pytest.raises(IntegrityError):
        mark(enrol())


def test_B3_squatters_do_not_keep_the_real_host_out(store, enrol):
    squatters = [enrol() for _ in range(hosts.WAITING_PER_NAME * 3)]
    waiting = [key for key, _ in states(store)]
    assert len(waiting) == hosts.WAITING_PER_NAME
    assert squatters[-1].ek_fingerprint in waiting
    # Keys with a certificate have a number of places of their own.
    real = enrol(ek_certificate_status=hosts.VERIFIED)
    for _ in range(hosts.WAITING_PER_NAME * 2):
        enrol()
    assert real.ek_fingerprint in [key for key, _ in states(store)]


def meanwhile(store, first, second):
    """What comes of ``second`` if it begins when ``first`` has written and not yet committed."""
    results = []

    def run():
        results.append(store.write(second))

    thread = threading.Thread(target=run)

    def work(connection):
        first(connection)
        thread.start()
        # MariaDB tells the same for as long as it is asked more often than every 0.1 s.
        wait_for(
            lambda: results or somebody_waits(store), 20, "the second one to wait",
            poll_seconds=0.15,
        )  # fmt: skip

    store.write(work)
    thread.join()
    return results[0]


def somebody_waits(store):
    """Whether a transaction waits for another one; SQLite lets none begin."""
    waiting = {
        "mysql": "SELECT count(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'",
        "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'",
        "sqlite": "SELECT 1",
    }[store.engine.dialect.name]
    with store.read() as connection:
        return connection.scalar(text(waiting))


def test_B2_enrolling_while_the_host_is_rebound_does_not_bring_the_former_key_back(
    store, enrol, approve
):
    former = approve(enrol())
    board = enrol()
    again = candidate_of(HOST, ek_fingerprint=former.ek_fingerprint)
    host = meanwhile(
        store,
        lambda connection: rebinding.rebind(connection, former, board, START),
        lambda connection: hosts.enrol(connection, again, START),
    )
    assert (host.ek_fingerprint, host.state) == (former.ek_fingerprint, PENDING)
    assert dict(states(store)) == {
        board.ek_fingerprint: APPROVED, former.ek_fingerprint: PENDING,
    }  # fmt: skip


def test_B3_enrolling_while_the_host_is_approved_does_not_take_it_back(store, enrol):
    waiting = enrol()
    again = candidate_of(HOST, ek_fingerprint=waiting.ek_fingerprint)
    host = meanwhile(
        store,
        lambda connection: hosts.approve(connection, waiting),
        lambda connection: hosts.enrol(connection, again, START),
    )
    assert (host.id, host.state) == (waiting.id, APPROVED)


def test_a_host_that_is_approved_while_it_is_deleted_is_told_of(store, enrol):
    waiting = enrol()
    meanwhile(
        store,
        lambda connection: hosts.approve(connection, waiting),
        lambda connection: hosts.remove(connection, waiting),
    )
    assert states(store) == []
    with store.read() as connection:
        assert snapshot.deleted(connection, 0) == [("", "node-1")]


def test_waiting_keys_have_a_limit_in_all(store, enrol, monkeypatch):
    monkeypatch.setattr(hosts, "WAITING_IN_ALL", 5)
    for number in range(12):
        enrol(host=f"node-{number}")
    found = [states(store, f"node-{number}") for number in range(12)]
    assert [bool(item) for item in found] == [False] * 7 + [True] * 5


def test_B2_another_key_does_not_touch_the_approved_record(store, enrol, approve):
    approved = approve(enrol())
    before = cursor(store)
    newcomer = enrol(ak_public=b"another", service_host="evil")
    assert newcomer.state == PENDING
    with store.read() as connection:
        assert hosts.by_id(connection, approved.id) == approved
    assert cursor(store) == before


def test_the_same_key_renews_its_record_approved_or_not(store, enrol, approve):
    waiting = enrol()
    again = enrol(ek_fingerprint=waiting.ek_fingerprint, ak_public=b"new")
    assert (again.id, again.state, again.ak_public) == (waiting.id, PENDING, b"new")
    approve(again)
    before = cursor(store)
    third = enrol(ek_fingerprint=waiting.ek_fingerprint, ak_public=b"newer")
    assert (third.id, third.state, third.ak_public) == (waiting.id, APPROVED, b"newer")
    assert cursor(store) == before
    enrol(ek_fingerprint=waiting.ek_fingerprint, service_host="compute-1")
    assert cursor(store) == before + 1


def test_A11_an_approved_host_cannot_drop_a_bank_by_enrolling_again(store, enrol, approve):
    approved = approve(enrol())
    with pytest.raises(BanksChanged):
        enrol(ek_fingerprint=approved.ek_fingerprint, banks=("sha256",))
    with store.read() as connection:
        assert hosts.by_id(connection, approved.id) == approved


def test_a_registered_key_is_approved_when_it_enrols(store, enrol):
    key = "ab" * 32

    def register(connection):
        return hosts.register(connection, "", "node-1", key, START)

    assert store.write(register).state == REGISTERED
    assert store.write(register).state == REGISTERED
    assert enrol().state == PENDING
    assert enrol(ek_fingerprint=key).state == APPROVED


def test_registering_a_key_that_waits_approves_it_and_a_taken_name_is_refused(store, enrol):
    waiting = enrol()

    def register(key):
        return store.write(
            lambda connection: hosts.register(connection, "", "node-1", key, START)
        )  # fmt: skip

    assert register(waiting.ek_fingerprint).state == APPROVED
    with pytest.raises(NameTaken):
        register("cd" * 32)


def test_a_registered_key_of_a_name_that_was_taken_since_waits(store, enrol, approve):
    key = "ab" * 32
    store.write(lambda connection: hosts.register(connection, "", "node-1", key, START))
    approve(enrol())
    assert enrol(ek_fingerprint=key).state == PENDING


def test_names_differ_by_case_and_region(store, enrol, approve):
    approve(enrol())
    assert approve(enrol(host="NODE-1")).state == APPROVED
    assert approve(enrol(region="r")).state == APPROVED
    assert len(states(store)) == 2
    with store.read() as connection:
        assert len(hosts.named(connection, "r", "node-1")) == 1
        assert hosts.named(connection, "R", "node-1") == []


def test_deletion_is_told_and_approval_takes_it_back(store, enrol, approve):
    approved = approve(enrol())
    before = cursor(store)
    store.write(lambda connection: hosts.remove(connection, approved))
    assert states(store) == []
    with store.read() as connection:
        assert snapshot.deleted(connection, before) == [("", "node-1")]
        assert snapshot.deleted(connection, before + 1) == []
        assert snapshot.told(connection) == []
    again = approve(enrol())
    assert again.id != approved.id
    with store.read() as connection:
        assert snapshot.deleted(connection, 0) == []
        assert [item.host for item in snapshot.told(connection, before + 1)] == ["node-1"]


def test_deleting_one_that_waits_is_not_told(store, enrol, approve):
    approve(enrol())
    newcomer = enrol()
    before = cursor(store)
    store.write(lambda connection: hosts.remove(connection, newcomer))
    assert cursor(store) == before


def test_C5_characters_of_sql_are_only_characters(store, enrol):
    name = "node'; DROP TABLE hosts; --"
    assert enrol(host=name, service_host='"\\%_').host == name
    assert states(store, name)
    assert states(store, "node%") == []
