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
"""What fresh evidence makes of a verdict: an outcome, and the challenge it uses up."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, bindparam, delete, select, update
from sqlalchemy.exc import IntegrityError

from oat_trusted_filter.backend.store import ima, notes, proven_boot_logs
from oat_trusted_filter.backend.store.errors import ChallengeSpent, Overtaken
from oat_trusted_filter.backend.store.notes import Note
from oat_trusted_filter.backend.store.reports import EVIDENCE, Circumstances
from oat_trusted_filter.backend.store.tables import (
    hosts,
    spent_challenges,
    state,
    tag_records,
    verdicts,
)
from oat_trusted_filter.backend.store.verdicts import (
    HAS_RECORD,
    JUDGED,
    PROVEN,
    mark_changed,
    pcrs_of,
)

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


_RENEW_SHORT = _renewal(*JUDGED)
_RENEW_LONG = _renewal(*JUDGED, *PROVEN)


def subject(connection: Connection, approved_name: str) -> Subject | None:
    """What is known of the approved binding of a name; None if there is none."""
    row = connection.execute(_SUBJECT, {"name": approved_name}).first()
    return None if row is None else Subject._make(row)


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
        proven_boot_logs.keep(connection, digest, boot_log)
    same = outcome.evidence == known.evidence
    other = not same and _another_boot(connection, known, outcome)
    columns = JUDGED if same else (*JUDGED, *PROVEN)
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
        proven_boot_logs.drop_unused(connection, known.boot_log_digest)
    if ima_change is not None:
        ima.change(connection, known.host_id, ima_change)
    return changed or other


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


def purge_spent(connection: Connection, now: int) -> None:
    """Forget challenges that are too old to be answered anyway."""
    connection.execute(delete(spent_challenges).where(spent_challenges.c.expires_at < now))
