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
"""``/v1/reports``: how verdicts have changed, and what they rested on."""

import datetime
from typing import Annotated, Any

import falcon
import msgspec
from sqlalchemy import Connection

from oat_trusted_filter.backend.api.differences import (
    event_differences,
    fact_differences,
    pcr_differences,
)
from oat_trusted_filter.backend.api.exchange import answer
from oat_trusted_filter.backend.api.fields import HostName, Region, moment
from oat_trusted_filter.backend.api.history import Again
from oat_trusted_filter.backend.api.problems import Problem
from oat_trusted_filter.backend.api.rules import findings_json, milliseconds
from oat_trusted_filter.backend.api.service import Service
from oat_trusted_filter.backend.appraisal.expiry import WARNINGS
from oat_trusted_filter.backend.store import reports
from oat_trusted_filter.backend.store.reports import Report

MOST = 1000
_NUMBER = 2**62
_Moment = Annotated[datetime.datetime, msgspec.Meta(tz=True)]


class ReportsQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Which reports, newest first."""

    host: HostName
    region: Region | None = None
    until: _Moment | None = None
    marker: Annotated[int, msgspec.Meta(ge=1, lt=_NUMBER)] | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=MOST)] = 100


class ReportDocument(msgspec.Struct):
    """A verdict as it had become at a moment."""

    id: str
    region: str
    host: str
    at: str
    confirmed_until: str | None
    """When evidence last said the same."""
    cause: str
    level: str
    reason: str
    findings: list[Any]
    reference_sets: list[str]
    policy: str
    rules: int
    boot_log_digest: str | None


class ReportsDocument(msgspec.Struct):
    """Reports of a host, newest first."""

    reports: list[ReportDocument]
    marker: str | None
    """To ask for those before these; null: there are none."""


class FullReport(ReportDocument):
    """A report with what it rested on."""

    evidence_of: str | None
    """The report the evidence came with; null: there was none."""
    signed: bool
    """Whether the quote is kept."""
    pcrs: dict[str, dict[str, str]] | None


class Appraisal(msgspec.Struct):
    """What the evidence of a report comes to by the rules of then."""

    level: str
    findings: list[Any]
    same: bool
    """Whether the report says the same."""
    signature: str
    """``verified`` or ``absent``: the quote was not kept."""


class Differences(msgspec.Struct):
    """What is another between the evidence of two reports."""

    before: ReportDocument
    after: ReportDocument
    pcrs: list[dict[str, Any]]
    events: dict[str, Any]
    facts: list[dict[str, Any]]


def index(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """The reports of a host, newest first."""
    query: ReportsQuery = req.context.query
    service.snapshots.settle(service.clock())
    with service.store.read() as connection:
        found = reports.of_name(
            connection,
            query.region,
            query.host,
            until=None if query.until is None else milliseconds(query.until),
            before=query.marker,
            limit=query.limit + 1,
        )
        shown = _documents(connection, found[: query.limit])
    more = len(found) > query.limit
    answer(resp, msgspec.json.encode(ReportsDocument(shown, shown[-1].id if more else None)))


def show(service: Service, req: falcon.Request, resp: falcon.Response, number: str) -> None:
    """One report with the PCR values it rested on."""
    with service.store.read() as connection:
        report = _existing(connection, number)
        basis = reports.basis(connection, report)
        again = None if basis is None else Again(connection, report)
        (document,) = _documents(connection, [report])
    full = FullReport(
        **msgspec.structs.asdict(document),
        evidence_of=None if basis is None else str(basis.report),
        signed=again is not None and again.signed,
        pcrs=None if again is None else _hexadecimal(again),
    )
    answer(resp, msgspec.json.encode(full))


def appraise(service: Service, req: falcon.Request, resp: falcon.Response, number: str) -> None:
    """Appraise the evidence of a report again, by the rules of then."""
    with service.store.read() as connection:
        again = Again(connection, _existing(connection, number))
    verdict = again.judge()
    findings = msgspec.json.decode(findings_json(verdict.findings))
    answer(
        resp,
        msgspec.json.encode(
            Appraisal(
                level=verdict.level,
                findings=findings,
                same=(verdict.level, findings) == _said(again.report),
                signature="verified" if again.signed else "absent",
            )
        ),
    )


def differences(
    service: Service, req: falcon.Request, resp: falcon.Response, number: str, other: str
) -> None:
    """What is another in a second report, of this host or of another one."""
    with service.store.read() as connection:
        before = Again(connection, _existing(connection, number))
        after = Again(connection, _existing(connection, other))
        documents = _documents(connection, [before.report, after.report])
    if before.log is None or after.log is None:
        raise Problem("report-without-evidence", "a boot log was too large to be kept")
    answer(
        resp,
        msgspec.json.encode(
            Differences(
                before=documents[0],
                after=documents[1],
                pcrs=pcr_differences(before.pcrs, after.pcrs),
                events=event_differences(before.log.log, after.log.log),
                facts=fact_differences(before.log.facts, after.log.facts),
            )
        ),
    )


def _said(report: Report) -> tuple[str, list[Any]]:
    """What a report says, but for warnings that depend on an option."""
    findings = msgspec.json.decode(report.findings)
    return report.level, [finding for finding in findings if finding["code"] not in WARNINGS]


def _existing(connection: Connection, number: str) -> Report:
    if not number.isascii() or not number.isdigit() or int(number[:20]) >= _NUMBER:
        raise Problem("report-unknown", "there is no report of this number")
    return reports.by_id(connection, int(number))


def _documents(connection: Connection, found: list[Report]) -> list[ReportDocument]:
    until = reports.confirmed(connection, found)
    return [
        ReportDocument(
            id=str(report.id),
            region=report.region,
            host=report.host,
            at=moment(report.at) or "",
            confirmed_until=moment(until[report.id]),
            cause=report.cause,
            level=report.level,
            reason=report.reason,
            findings=msgspec.json.decode(report.findings),
            reference_sets=msgspec.json.decode(report.reference_sets),
            policy=report.policy,
            rules=report.rules,
            boot_log_digest=report.boot_log_digest,
        )
        for report in found
    ]


def _hexadecimal(again: Again) -> dict[str, dict[str, str]]:
    return {
        bank: {str(pcr): value.hex() for pcr, value in sorted(values.items())}
        for bank, values in again.pcrs.items()
    }
