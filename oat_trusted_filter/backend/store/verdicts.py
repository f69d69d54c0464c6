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
"""Verdicts: one row for each approved binding, from its approval on.

Every write raises ``serial``. Evidence is appraised without a lock and then stored on the condition
that the serial is still the one that was read, so two submissions of one host, a submission and an
edit of the rules, or a submission and a deletion cannot overwrite each other unseen.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, bindparam, delete, exists, null, select, update
from sqlalchemy.exc import IntegrityError

from oat_trusted_filter.backend.store import changes, ima, notes
from oat_trusted_filter.backend.store.errors import BootLogGone, ChallengeSpent, Overtaken
from oat_trusted_filter.backend.store.notes import Note
from oat_trusted_filter.backend.store.reports import EVIDENCE, LAPSE, RULES, Circumstances
from oat_trusted_filter.backend.store.tables import (
    boot_logs,
    hosts,
    reports,
    spent_challenges,
    state,
    tag_records,
    verdicts,
)

UNKNOWN = "unknown"
_NOTHING = "[]"
NOT_ATTESTED = "not-attested"
LAPSED = "verdict-lapsed"
_NOT_ATTESTED_FINDINGS = (
    '[{"code":"not-attested","message":"the host has not attested since it was approved"}]'
)
_LAPSED_FINDINGS = (
    '[{"code":"verdict-lapsed",'
    '"message":"the host has proven nothing since it was last appraised"}]'
)
_CHUNK = 500
#: Milliseconds in which a host gets one report of evidence that says what was said before.
_REPETITION_MS = 3600 * 1000
# As a key of JSON.
_IMA_PCR = "10"


class Subject(NamedTuple):
    """What is known of an approved host when its evidence comes in."""

    host_id: int
    region: str
    host: str
    ak_public: bytes
    banks: str
    software_tpm: bool | None
    policy: str
    labels: str | None
    override: str | None
    ek_fingerprint: str
    tag_record: str | None
    """JWS."""
    serial: int
    level: str
    reason: str
    findings: str
    appraised_at: int | None
    tpm_state: str | None
    evidence: str | None
    boot_log_digest: str | None
    rules: int


class Spent(NamedTuple):
    """A challenge that is used up by what is stored with it."""

    digest: str
    expires_at: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an appraisal found. Moments are milliseconds since 1970, documents are JSON."""

    level: str
    reason: str
    """Code of the first finding, or empty."""
    findings: str
    reference_sets: str
    appraised_at: int
    deadline: int
    tpm_state: str | None
    evidence: str | None
    """Digest over PCR values, name of the boot log and length of the IMA log; None: they prove
    nothing."""
    pcrs: str | None
    boot_log_digest: str | None
    challenged_at: int
    tags: str | None = None
    """What was known of the tags of the host."""


class Appraisable(NamedTuple):
    """A verdict that still runs, and the evidence it rests on."""

    host_id: int
    region: str
    host: str
    policy: str
    labels: str | None
    override: str | None
    evidence: str | None
    boot_log_digest: str | None
    challenged_at: int | None
    tpm_state: str | None
    ek_fingerprint: str
    tag_record: str | None
    """JWS."""
    pcrs: str | None
    """None: not asked for."""
    appraised_at: int | None
    level: str
    reason: str
    findings: str
    reference_sets: str
    deadline: int
    tags: str | None
    """What was known of the tags of the host, JSON."""

    @property
    def judged_by(self) -> tuple[str | int | None, ...]:
        """All of it that a judgement depends on."""
        return (*self[3:11], self.tags)


class Revision(NamedTuple):
    """What a verdict becomes under other rules."""

    level: str
    reason: str
    findings: str
    reference_sets: str
    deadline: int
    tags: str | None


#: Joins a host with the record of its tags, as long as that is not over.
HAS_RECORD = (tag_records.c.host_id == hosts.c.id) & tag_records.c.expired.is_(False)

_SUBJECT = (
    select(
        hosts.c.id, hosts.c.region, hosts.c.host, hosts.c.ak_public, hosts.c.banks,
        hosts.c.software_tpm, hosts.c.policy, hosts.c.labels, hosts.c.override,
        hosts.c.ek_fingerprint, tag_records.c.record.label("tag_record"),
        verdicts.c.serial, verdicts.c.level, verdicts.c.reason, verdicts.c.findings,
        verdicts.c.appraised_at, verdicts.c.tpm_state, verdicts.c.evidence,
        verdicts.c.boot_log_digest,
        select(state.c.rules).scalar_subquery(),
    )
    .join_from(hosts, verdicts, verdicts.c.host_id == hosts.c.id)
    .outerjoin(tag_records, HAS_RECORD)
    .where(hosts.c.approved_name == bindparam("name"))
)  # fmt: skip

_SHORT = ("level", "reason", "findings", "reference_sets", "appraised_at", "deadline", "tpm_state",
          "challenged_at", "tags")  # fmt: skip
_LONG = (*_SHORT, "evidence", "pcrs", "boot_log_digest")
_SPEND = spent_challenges.insert()


def _renewal(*columns: str) -> Any:
    return (
        update(verdicts)
        .where(verdicts.c.host_id == bindparam("b_host"), verdicts.c.serial == bindparam("b_was"))
        .values(
            serial=bindparam("b_was") + 1,
            **{column: bindparam(f"b_{column}") for column in columns},
        )
    )


_RENEW_SHORT = _renewal(*_SHORT)
_RENEW_LONG = _renewal(*_LONG)
_MARK_CHANGED = (
    update(verdicts)
    .where(verdicts.c.host_id == bindparam("b_host"))
    .values(changed=bindparam("b_changed"))
)


def subject(connection: Connection, approved_name: str) -> Subject | None:
    """What is known of the approved binding of a name; None if there is none."""
    row = connection.execute(_SUBJECT, {"name": approved_name}).first()
    return None if row is None else Subject._make(row)


def create(connection: Connection, host_id: int) -> None:
    """The host was approved and has proven nothing yet."""
    connection.execute(
        verdicts.insert().values(
            host_id=host_id,
            serial=0,
            changed=changes.next_cursor(connection),
            level=UNKNOWN,
            reason=NOT_ATTESTED,
            findings=_NOT_ATTESTED_FINDINGS,
            reference_sets=_NOTHING,
        )
    )


def remove(connection: Connection, host_id: int) -> None:
    """Forget the verdict and, if nobody else has it, the boot log."""
    query = select(verdicts.c.boot_log_digest).where(verdicts.c.host_id == host_id)
    digest = connection.scalar(query)
    connection.execute(delete(verdicts).where(verdicts.c.host_id == host_id))
    _drop_unused(connection, digest)


def reset(connection: Connection, host_id: int, cause: str, now: int) -> None:
    """The host goes on under another key or another name, and has proven nothing under it.

    The serial goes on as well, so that an appraisal under way is overtaken.

    :param cause: for its history.
    """
    written = _notes_of_silence(
        connection, [host_id], now, cause, NOT_ATTESTED, _NOT_ATTESTED_FINDINGS
    )
    query = select(verdicts.c.boot_log_digest).where(verdicts.c.host_id == host_id)
    digest = connection.scalar(query)
    nothing: dict[str, Any] = dict.fromkeys(_LONG)
    connection.execute(
        update(verdicts)
        .where(verdicts.c.host_id == host_id)
        .values(
            nothing
            | {
                "serial": verdicts.c.serial + 1,
                "changed": changes.next_cursor(connection),
                "level": UNKNOWN,
                "reason": NOT_ATTESTED,
                "findings": _NOT_ATTESTED_FINDINGS,
                "reference_sets": _NOTHING,
            }
        )
    )
    _drop_unused(connection, digest)
    ima.forget(connection, host_id)
    notes.write(connection, written)


def forget_tpm_state(connection: Connection, host_id: int, *, identity_changed: bool) -> bool:
    """Take the counters of the TPM from the next quote, whatever they are.

    :returns: whether any were known.
    """
    known = select(verdicts.c.tpm_state).where(verdicts.c.host_id == host_id)
    forgotten = connection.scalar(known) is not None
    values: dict[str, Any] = {"tpm_state": None, "serial": verdicts.c.serial + 1}
    if identity_changed:
        values["changed"] = changes.next_cursor(connection)
    connection.execute(update(verdicts).where(verdicts.c.host_id == host_id).values(values))
    # Another boot may come to have the same number.
    ima.forget(connection, host_id)
    return forgotten


def mark_changed(connection: Connection, host_ids: Iterable[int]) -> None:
    """Let relying parties hear of these hosts, whose verdict stays."""
    cursor = changes.next_cursor(connection)
    connection.execute(
        _MARK_CHANGED, [{"b_host": number, "b_changed": cursor} for number in host_ids]
    )


def renew(
    connection: Connection,
    known: Subject,
    outcome: Outcome,
    spent: Spent,
    boot_log: bytes | None,
    ima_change: ima.ImaChange | None = None,
    keep: Callable[[], bytes] | None = None,
) -> bool:
    """Store an appraisal and use up its challenge, or do neither.

    :param known: what the appraisal was made from.
    :param boot_log: the boot log, if it was sent along.
    :param ima_change: what changes of the IMA log, if anything does.
    :param keep: packs the evidence, for the history.
    :returns: whether there is a report about it.
    :raises ChallengeSpent: the challenge has led to a verdict before.
    :raises Overtaken: ``known`` is out of date.
    :raises BootLogGone: the boot log is not stored and was not sent.
    """
    try:
        connection.execute(_SPEND, spent._asdict())
    except IntegrityError as error:
        raise ChallengeSpent("the challenge has been answered before") from error
    digest = outcome.boot_log_digest
    if digest is not None and (boot_log is not None or digest != known.boot_log_digest):
        _keep_boot_log(connection, digest, boot_log)
    same = outcome.evidence == known.evidence
    other = not same and _another_boot(connection, known, outcome)
    columns = _SHORT if same else _LONG
    values = {f"b_{column}": getattr(outcome, column) for column in columns}
    values |= {"b_host": known.host_id, "b_was": known.serial}
    renewed = connection.execute(_RENEW_SHORT if same else _RENEW_LONG, values)
    if renewed.rowcount != 1:
        raise Overtaken
    if (outcome.level, outcome.reason) != (known.level, known.reason):
        mark_changed(connection, [known.host_id])
    changed = not notes.same(known.level, known.findings, outcome.level, outcome.findings)
    if changed or other:
        if not changed:
            since = outcome.appraised_at - _REPETITION_MS
            notes.forget_repetition(connection, known.host_id, since)
        notes.write(connection, [_note_of_evidence(known, outcome, keep, changed=changed)])
    if digest != known.boot_log_digest:
        _drop_unused(connection, known.boot_log_digest)
    if ima_change is not None:
        ima.change(connection, known.host_id, ima_change)
    return changed or other


def lapse(connection: Connection, now: int, latest: int) -> int:
    """Turn verdicts past their deadline into ``unknown``.

    :param latest: no deadline may be later than this; one that is was set by a clock that has been
        put back since, and is brought forward.
    :returns: how many lapsed.
    """
    connection.execute(
        update(verdicts)
        .where(verdicts.c.deadline > latest)
        .values(deadline=latest, serial=verdicts.c.serial + 1)
    )
    due = select(verdicts.c.host_id).where(verdicts.c.deadline <= now).order_by(verdicts.c.host_id)
    found = connection.execute(due.with_for_update()).scalars().all()
    if not found:
        return 0
    cursor = changes.next_cursor(connection)
    written: list[Note] = []
    for start in range(0, len(found), _CHUNK):
        numbers = found[start : start + _CHUNK]
        written += _notes_of_silence(
            connection, numbers, now, LAPSE, LAPSED, _LAPSED_FINDINGS
        )
        connection.execute(
            update(verdicts)
            .where(verdicts.c.host_id.in_(numbers))
            .values(
                level=UNKNOWN,
                reason=LAPSED,
                findings=_LAPSED_FINDINGS,
                reference_sets=_NOTHING,
                deadline=None,
                changed=cursor,
                serial=verdicts.c.serial + 1,
            )
        )
    notes.write(connection, written)
    return len(found)


def _notes_of_silence(
    connection: Connection,
    numbers: Sequence[int],
    now: int,
    cause: str,
    reason: str,
    findings: str,
) -> list[Note]:
    """What to write down about hosts that are not known for anything any more."""
    query = select(
        hosts.c.id, hosts.c.region, hosts.c.host, hosts.c.policy, verdicts.c.appraised_at
    ).join_from(verdicts, hosts, verdicts.c.host_id == hosts.c.id)
    return [
        Note(
            host_id=row.id,
            region=row.region,
            host=row.host,
            policy=row.policy,
            cause=cause,
            at=now,
            before_until=row.appraised_at,
            level=UNKNOWN,
            reason=reason,
            findings=findings,
            reference_sets=_NOTHING,
            circumstances=Circumstances(),
        )
        for row in connection.execute(query.where(hosts.c.id.in_(numbers)).order_by(hosts.c.id))
    ]


def _appraisable(pcrs: Any) -> Any:
    return (
        select(
            hosts.c.id, hosts.c.region, hosts.c.host, hosts.c.policy, hosts.c.labels,
            hosts.c.override, verdicts.c.evidence, verdicts.c.boot_log_digest,
            verdicts.c.challenged_at, verdicts.c.tpm_state, hosts.c.ek_fingerprint,
            tag_records.c.record.label("tag_record"), pcrs, verdicts.c.appraised_at,
            verdicts.c.level, verdicts.c.reason, verdicts.c.findings, verdicts.c.reference_sets,
            verdicts.c.deadline, verdicts.c.tags,
        )
        .join_from(hosts, verdicts, verdicts.c.host_id == hosts.c.id)
        .outerjoin(tag_records, HAS_RECORD)
        .where(verdicts.c.deadline.is_not(None))
        .order_by(hosts.c.id)
    )  # fmt: skip


_WITH_PCRS = _appraisable(verdicts.c.pcrs)
_WITHOUT_PCRS = _appraisable(null())


def appraisable(connection: Connection, *, with_pcrs: bool) -> Iterator[Appraisable]:
    """All hosts whose stored evidence can be judged again, in chunks of ids."""
    query = (_WITH_PCRS if with_pcrs else _WITHOUT_PCRS).where(verdicts.c.evidence.is_not(None))
    last = 0
    while True:
        found = connection.execute(query.where(hosts.c.id > last).limit(_CHUNK))
        rows = [Appraisable._make(row) for row in found]
        yield from rows
        if len(rows) < _CHUNK:
            return
        last = rows[-1].host_id


def running(connection: Connection, host_id: int) -> Appraisable | None:
    """The verdict about a host, whatever it rests on; None: none that still runs."""
    row = connection.execute(_WITH_PCRS.where(hosts.c.id == host_id)).first()
    return None if row is None else Appraisable._make(row)


def pcrs_of(connection: Connection, host_id: int) -> str | None:
    """The PCR values a host has proven, as JSON."""
    return connection.scalar(select(verdicts.c.pcrs).where(verdicts.c.host_id == host_id))


def overtake(connection: Connection, host_id: int) -> None:
    """Make an appraisal of this host that is under way start over."""
    connection.execute(
        update(verdicts)
        .where(verdicts.c.host_id == host_id)
        .values(serial=verdicts.c.serial + 1)
    )


def overtake_all(connection: Connection) -> None:
    """Make every appraisal that is under way start over."""
    connection.execute(update(verdicts).values(serial=verdicts.c.serial + 1))


def revise(
    connection: Connection,
    revisions: Iterable[tuple[Appraisable, Revision, bytes | None]],
    now: int,
) -> int:
    """Store what verdicts become under other rules.

    :param revisions: with the evidence, packed, where it has moved on since it was kept last.
    :returns: how many of them relying parties have to hear of.
    """
    rows: list[dict[str, Any]] = []
    heard: list[int] = []
    written: list[Note] = []
    for known, revision, evidence in revisions:
        rows.append({"b_host": known.host_id, **revision._asdict()})
        if (revision.level, revision.reason) != (known.level, known.reason):
            heard.append(known.host_id)
        if not notes.same(known.level, known.findings, revision.level, revision.findings):
            written.append(_note_of_rules(known, revision, evidence, now))
    if rows:
        connection.execute(update(verdicts).where(verdicts.c.host_id == bindparam("b_host")), rows)
    if heard:
        mark_changed(connection, heard)
    notes.write(connection, written)
    return len(heard)


def _note_of_rules(
    known: Appraisable, revision: Revision, evidence: bytes | None, now: int
) -> Note:
    return Note(
        host_id=known.host_id,
        region=known.region,
        host=known.host,
        policy=known.policy,
        cause=RULES,
        at=now,
        before_until=known.appraised_at,
        level=revision.level,
        reason=revision.reason,
        findings=revision.findings,
        reference_sets=revision.reference_sets,
        circumstances=Circumstances(
            known.labels, known.override, known.tpm_state, known.challenged_at, revision.tags
        ),
        boot_log_digest=known.boot_log_digest,
        evidence=evidence,
    )


def _note_of_evidence(
    known: Subject, outcome: Outcome, keep: Callable[[], bytes] | None, *, changed: bool
) -> Note:
    return Note(
        host_id=known.host_id,
        region=known.region,
        host=known.host,
        policy=known.policy,
        cause=EVIDENCE,
        at=outcome.appraised_at,
        before_until=known.appraised_at,
        level=outcome.level,
        reason=outcome.reason,
        findings=outcome.findings,
        reference_sets=outcome.reference_sets,
        circumstances=Circumstances(
            known.labels, known.override, None, outcome.challenged_at, outcome.tags
        ),
        boot_log_digest=outcome.boot_log_digest,
        evidence=None if keep is None else keep(),
        changed=changed,
    )


def _another_boot(connection: Connection, known: Subject, outcome: Outcome) -> bool:
    """Whether the host has proven something else than another piece of its IMA log."""
    if outcome.boot_log_digest != known.boot_log_digest:
        return True
    if outcome.pcrs is None:
        return False
    before = pcrs_of(connection, known.host_id)
    return before is None or _without_ima(before) != _without_ima(outcome.pcrs)


def _without_ima(pcrs: str) -> dict[str, dict[str, str]]:
    banks = msgspec.json.decode(pcrs, type=dict[str, dict[str, str]])
    for values in banks.values():
        values.pop(_IMA_PCR, None)
    return banks


def boot_log(connection: Connection, digest: str) -> bytes | None:
    """A boot log that some host has proven."""
    return connection.scalar(select(boot_logs.c.data).where(boot_logs.c.digest == digest))


def purge_spent(connection: Connection, now: int) -> None:
    """Forget challenges that are too old to be answered anyway."""
    connection.execute(delete(spent_challenges).where(spent_challenges.c.expires_at < now))


def _keep_boot_log(connection: Connection, digest: str, data: bytes | None) -> None:
    if connection.scalar(select(exists().where(boot_logs.c.digest == digest))):
        return
    if data is None:
        raise BootLogGone("the boot log is not known here any more; send it along")
    try:
        with connection.begin_nested():
            connection.execute(boot_logs.insert().values(digest=digest, data=data))
    except IntegrityError:
        pass  # another host has just brought the same one


def _drop_unused(connection: Connection, digest: str | None) -> None:
    if digest is not None:
        connection.execute(
            delete(boot_logs).where(
                boot_logs.c.digest == digest,
                ~exists().where(verdicts.c.boot_log_digest == digest),
                ~exists().where(reports.c.boot_log_digest == digest),
            )
        )
