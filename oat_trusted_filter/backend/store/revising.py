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
"""What other rules make of the verdicts that still run."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, null, select, update

from oat_trusted_filter.backend.store import notes
from oat_trusted_filter.backend.store.notes import Note
from oat_trusted_filter.backend.store.reports import RULES, Circumstances
from oat_trusted_filter.backend.store.tables import hosts, tag_records, verdicts
from oat_trusted_filter.backend.store.verdicts import HAS_RECORD, mark_changed

_CHUNK = 500


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
