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
"""Verdicts in the database: conditions, constraints, and what relying parties hear of."""

from types import SimpleNamespace

import pytest

from oat_trusted_filter.backend.store import (
    activations,
    changes,
    hosts,
    proven_boot_logs,
    renewing,
    reports,
    revising,
    snapshot,
    tags,
    verdicts,
)
from oat_trusted_filter.backend.store.activations import Activation
from oat_trusted_filter.backend.store.errors import (
    BootLogGone,
    ChallengeSpent,
    NotFound,
    Overtaken,
)
from oat_trusted_filter.backend.store.renewing import Outcome, Spent
from oat_trusted_filter.backend.store.tables import boot_logs
from tests.lab.quotes import SigningKey
from tests.unit.backend.conftest import START, candidate_of

pytestmark = pytest.mark.every_database

KEY = SigningKey.ecc()


def outcome(**fields):
    values = {
        "level": "trusted",
        "reason": "",
        "findings": "[]",
        "reference_sets": '["good"]',
        "appraised_at": START,
        "deadline": START + 300_000,
        "tpm_state": "{}",
        "evidence": "e" * 64,
        "pcrs": "{}",
        "boot_log_digest": "d" * 64,
        "challenged_at": START - 1_000,
    }
    return Outcome(**{**values, **fields})


class Books:
    """The database of these tests with one approved host in it."""

    def __init__(self, store):
        self.store = store
        self.spent = 0
        self.host = self.approve("node-1")

    def approve(self, name):
        host = SimpleNamespace(name=name, region="", key=KEY)
        return self.store.write(
            lambda connection: hosts.approve(
                connection, hosts.enrol(connection, candidate_of(host), START)
            )
        )

    def subject(self, name="node-1"):
        with self.store.read() as connection:
            return renewing.subject(connection, hosts.approved_name("", name))

    def renew(self, known=None, *, spent=None, boot_log=b"log", **fields):
        self.spent += 1
        mark = Spent(spent or f"{self.spent:064}", START + 60_000)
        known = known or self.subject()
        self.store.write(
            lambda connection: renewing.renew(
                connection, known, outcome(**fields), mark, boot_log
            )
        )  # fmt: skip

    def lapse(self, now, latest=START + 10**9):
        return self.store.write(lambda connection: verdicts.lapse(connection, now, latest))

    @property
    def cursor(self):
        with self.store.read() as connection:
            return changes.position(connection).cursor

    def told(self, since=None):
        with self.store.read() as connection:
            return [(t.host, t.level, t.reason) for t in snapshot.told(connection, since)]

    def boot_log(self, digest="d" * 64):
        with self.store.read() as connection:
            return proven_boot_logs.data_of(connection, digest)


@pytest.fixture
def books(store):
    return Books(store)


def test_an_approved_host_is_unknown_until_it_attests(books):
    assert books.told() == [("node-1", "unknown", "not-attested")]
    assert books.subject().tpm_state is None
    assert books.subject("node-2") is None


def test_renewals_of_an_unchanged_verdict_do_not_move_the_cursor(books):
    books.renew()
    moved = books.cursor
    for number in range(3):
        books.renew(appraised_at=START + number, deadline=START + number, evidence=f"{number:064}")
    assert books.cursor == moved
    assert books.told(moved) == []


def test_what_ends_before_a_moment_is_told_verdicts_first(books):
    ends = {"node-1": START + 300, "node-2": START + 200}
    books.approve("node-2")
    for name, deadline in ends.items():
        books.renew(books.subject(name), deadline=deadline)
    books.store.write(
        lambda connection: tags.assign(
            connection, books.host.id, lambda _serial: "signed", None, START + 100
        )
    )
    with books.store.read() as connection:
        assert snapshot.lapsing(connection, START + 100) == []
        assert snapshot.lapsing(connection, START + 300) == [
            ("", "node-2", START + 200, False),
            ("", "node-1", START + 100, True),
        ]


@pytest.mark.parametrize(
    "fields", [{"level": "untrusted"}, {"level": "untrusted", "reason": "x"}, {"reason": "y"}]
)
def test_a_change_of_level_or_reason_moves_it(books, fields):
    books.renew()
    moved = books.cursor
    books.renew(**fields)
    assert books.cursor == moved + 1
    assert len(books.told(moved)) == 1


def test_a_challenge_is_spent_once_whoever_comes_second_stores_nothing(books):
    books.renew(spent="s" * 64)
    before = books.subject()
    with pytest.raises(ChallengeSpent):
        books.renew(spent="s" * 64, level="untrusted")
    assert books.subject() == before


def test_what_was_judged_by_an_old_state_is_not_stored_and_costs_no_challenge(books):
    old = books.subject()
    books.renew(level="untrusted", reason="bad")
    for _ in range(2):
        with pytest.raises(Overtaken):
            books.renew(old, spent="s" * 64)
    assert books.told() == [("node-1", "untrusted", "bad")]
    books.renew(spent="s" * 64)


def test_every_write_overtakes(books):
    writes = [
        books.renew,
        lambda: books.lapse(START + 10**9),
        lambda: books.store.write(verdicts.overtake_all),
        lambda: books.store.write(
            lambda c: verdicts.forget_tpm_state(c, books.host.id, identity_changed=False)
        ),
        lambda: books.store.write(lambda c: hosts.remove(c, books.host)),
    ]
    for write in writes:
        old = books.subject()
        write()
        with pytest.raises(Overtaken):
            books.renew(old)


def test_boot_logs_are_kept_once_and_as_long_as_somebody_has_them(books):
    books.renew()
    other = books.approve("node-2")
    books.renew(books.subject("node-2"), boot_log=None)
    assert books.boot_log() == b"log"
    books.renew(boot_log=b"new", boot_log_digest="n" * 64, evidence="f" * 64)
    assert books.boot_log("n" * 64) == b"new"
    assert books.boot_log() == b"log"
    books.store.write(lambda connection: hosts.remove(connection, other))
    assert books.boot_log() == b"log"
    for host in (books.host, other):
        books.store.write(
            lambda c, number=host.id: reports.purge_binding(c, number, before=START + 1, most=1)
        )
    books.store.write(reports.drop_unused)
    assert books.boot_log() is None
    assert books.boot_log("n" * 64) == b"new"


def test_a_boot_log_nobody_has_must_be_sent(books):
    with pytest.raises(BootLogGone):
        books.renew(boot_log=None)
    assert books.told() == [("node-1", "unknown", "not-attested")]
    books.renew()
    # Should it ever be lost, sending it brings it back.
    books.store.write(lambda connection: connection.execute(boot_logs.delete()))
    books.renew()
    assert books.boot_log() == b"log"


def test_refused_evidence_leaves_nothing_to_judge_again(books):
    books.renew()
    books.renew(level="untrusted", reason="x", evidence=None, pcrs=None, boot_log_digest=None)
    with books.store.read() as connection:
        assert list(revising.appraisable(connection, with_pcrs=False)) == []


def test_verdicts_lapse_at_their_deadline_and_not_before(books):
    books.renew(deadline=START + 1000)
    moved = books.cursor
    assert books.lapse(START + 999) == 0
    assert books.cursor == moved
    assert books.lapse(START + 1000) == 1
    assert books.told(moved) == [("node-1", "unknown", "verdict-lapsed")]
    # Once.
    assert books.lapse(START + 2000) == 0
    assert books.cursor == moved + 1


def test_E7_a_clock_that_was_put_back_does_not_lengthen_a_verdict(books):
    books.renew(deadline=START + 3_600_000)
    assert books.lapse(START, latest=START + 300_000) == 0
    assert books.lapse(START + 300_000) == 1


def test_many_verdicts_are_judged_again_in_chunks(books, monkeypatch):
    monkeypatch.setattr(revising, "_CHUNK", 3)
    for number in range(2, 9):
        books.approve(f"node-{number}")
        books.renew(books.subject(f"node-{number}"), boot_log=b"log")
    with books.store.read() as connection:
        found = list(revising.appraisable(connection, with_pcrs=False))
    assert [row.host for row in found] == [f"node-{number}" for number in range(2, 9)]


def test_spent_challenges_are_purged_when_they_are_too_old(books):
    books.renew(spent="s" * 64)
    books.store.write(lambda connection: renewing.purge_spent(connection, START + 60_000))
    with pytest.raises(ChallengeSpent):
        books.renew(spent="s" * 64)
    books.store.write(lambda connection: renewing.purge_spent(connection, START + 60_001))
    books.renew(spent="s" * 64)


class Waiting:
    """Enrolments that wait for their secret."""

    def __init__(self, store):
        self.store = store

    def add(self, number, expires_at=START + 60_000, now=START):
        made = Activation(number, "s" * 64, expires_at, "{}")
        self.store.write(lambda connection: activations.add(connection, made, now))

    def take(self, number, now=START):
        return self.store.write(lambda connection: activations.take(connection, number, now))


@pytest.fixture
def waiting(store):
    return Waiting(store)


def test_B6_an_enrolment_is_taken_once(waiting):
    waiting.add("one")
    assert waiting.take("one").id == "one"
    with pytest.raises(NotFound):
        waiting.take("one")


def test_an_enrolment_expires(waiting):
    waiting.add("one", expires_at=START + 10)
    with pytest.raises(NotFound):
        waiting.take("one", now=START + 11)


def test_C4_a_flood_of_enrolments_fills_no_table(waiting, monkeypatch):
    monkeypatch.setattr(activations, "MOST", 10)
    for number in range(30):
        waiting.add(f"{number}", expires_at=START + number)
    with pytest.raises(NotFound):
        waiting.take("19")
    # The newest are the ones whose TPM is about to answer.
    assert waiting.take("20").id == "20"
    assert waiting.take("29").id == "29"
