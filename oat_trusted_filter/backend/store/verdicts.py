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

What evidence makes of them is in :mod:`.renewing`, what other rules make of them in
:mod:`.revising`.

Every write raises ``serial``. Evidence is appraised without a lock and then stored on the condition
that the serial is still the one that was read, so two submissions of one host, a submission and an
edit of the rules, or a submission and a deletion cannot overwrite each other unseen.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, delete, select, update

from oat_trusted_filter.backend.store import changes, ima, notes, proven_boot_logs
from oat_trusted_filter.backend.store.notes import Note
from oat_trusted_filter.backend.store.reports import LAPSE, Circumstances
from oat_trusted_filter.backend.store.tables import hosts, tag_records, verdicts

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
#: What each appraisal sets,
JUDGED = ("level", "reason", "findings", "reference_sets", "appraised_at", "deadline", "tpm_state",
          "challenged_at", "tags")  # fmt: skip
#: and what it sets only if the evidence is other than before.
PROVEN = ("evidence", "pcrs", "boot_log_digest")

#: Joins a host with the record of its tags, as long as that is not over.
HAS_RECORD = (tag_records.c.host_id == hosts.c.id) & tag_records.c.expired.is_(False)

_MARK_CHANGED = (
    update(verdicts)
    .where(verdicts.c.host_id == bindparam("b_host"))
    .values(changed=bindparam("b_changed"))
)


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
    proven_boot_logs.drop_unused(connection, digest)


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
    nothing: dict[str, Any] = dict.fromkeys((*JUDGED, *PROVEN))
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
    proven_boot_logs.drop_unused(connection, digest)
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
