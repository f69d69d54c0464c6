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
"""What is written down when verdicts change: rows of the audit trail, and reports."""

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec
from sqlalchemy import Connection

from oat_trusted_filter.backend.store import audit, changes, reports
from oat_trusted_filter.backend.store.audit import VERIFIER, Entry
from oat_trusted_filter.backend.store.reports import Circumstances, NewReport


@dataclass(frozen=True, slots=True)
class Note:
    """A verdict as it has become. Moments are milliseconds since 1970, documents are JSON."""

    host_id: int
    region: str
    host: str
    policy: str
    cause: str
    at: int
    before_until: int | None
    """When the verdict before was confirmed last."""
    level: str
    reason: str
    findings: str
    reference_sets: str
    circumstances: Circumstances
    boot_log_digest: str | None = None
    evidence: bytes | None = None
    """Packed, if it is new."""
    changed: bool = True
    """False: only the evidence is another one, which is for the history and not for the trail."""


def write(connection: Connection, notes: Iterable[Note]) -> None:
    """Write it down in the caller's transaction, after it has counted its change."""
    found = list(notes)
    if not found:
        return
    rules = changes.position(connection).rules
    reports.add(connection, [_report(note, rules) for note in found])
    audit.record_all(connection, [_entry(note) for note in found if note.changed])


def forget_repetition(connection: Connection, host_id: int, since: int) -> None:
    """Make room for a report that says the same as the last one.

    Root of a host may boot something else over and over, or make its log look so. Of the reports
    that repeat an earlier one, only the last stays for as long as that one is young.

    :param since: moment; the earlier one is young if it is later.
    """
    found = reports.latest(connection, host_id, 2)
    if len(found) < 2:
        return
    last, earlier = found
    repeats = same(last.level, last.findings, earlier.level, earlier.findings)
    if last.cause == reports.EVIDENCE and repeats and earlier.at > since:
        reports.forget(connection, last.id)


def same(level: str, findings: str, other_level: str, other_findings: str) -> bool:
    """Whether two verdicts say the same: another number of files is no change."""
    return level == other_level and (
        findings == other_findings or _gist(findings) == _gist(other_findings)
    )


def _gist(findings: str) -> set[tuple[str, int | None, str]]:
    return {
        (finding["code"], finding.get("pcr"), finding.get("severity", "error"))
        for finding in msgspec.json.decode(findings)
    }


def _entry(note: Note) -> Entry:
    codes = sorted({code for code, _, _ in _gist(note.findings)})
    details = {"cause": note.cause, "level": note.level, "findings": codes}
    return Entry(VERIFIER, "verdict.change", note.region, note.host, details)


def _report(note: Note, rules: int) -> NewReport:
    return NewReport(
        host_id=note.host_id,
        region=note.region,
        host=note.host,
        at=note.at,
        before_until=note.before_until,
        cause=note.cause,
        level=note.level,
        reason=note.reason,
        findings=note.findings,
        reference_sets=note.reference_sets,
        policy=note.policy,
        circumstances=note.circumstances.document(),
        rules=rules,
        boot_log_digest=note.boot_log_digest,
        evidence=note.evidence,
    )
