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
"""``oat report`` and the history of hosts: how verdicts changed, and what they rested on."""

import argparse
import datetime
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from oat_trusted_filter.cli import findings
from oat_trusted_filter.cli.arguments import add_host, add_region
from oat_trusted_filter.cli.backend import path
from oat_trusted_filter.cli.errors import Refused, UsageError
from oat_trusted_filter.cli.output import Column, Record, RecordLister, RecordShow, for_programs
from oat_trusted_filter.cli.paging import positive
from oat_trusted_filter.cli.text import plain

_PAGE = 1000


def moment(text: str) -> str:
    """A moment as the backend takes it.

    :param text: ISO 8601; without a time zone it is UTC.
    :raises argparse.ArgumentTypeError: anything else.
    """
    try:
        parsed = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a time such as 2026-01-31T12:00:00Z"
        ) from None
    if parsed.tzinfo is None:
        parsed = parsed.replace(tzinfo=datetime.UTC)
    return parsed.astimezone(datetime.UTC).isoformat()


class HostHistory(RecordLister):
    """List how the verdict about a host has changed, newest first.

    Evidence that changed nothing shows only in "confirmed until".
    """

    columns = (
        Column("id"),
        Column("at"),
        Column("confirmed_until"),
        Column("level"),
        Column("cause"),
        Column("summary"),
        Column("policy", long=True),
        Column("rules", long=True),
        Column("reference_sets", long=True),
        Column("boot_log_digest", long=True),
        Column("findings", text=findings.summary, long=True),
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the host and how far to look back."""
        parser = super().get_parser(prog_name)
        add_host(parser, "name of the hypervisor, also of old")
        add_region(parser)
        parser.add_argument(
            "--until", metavar="TIME", type=moment, help="only what had happened by then (ISO 8601)"
        )
        parser.add_argument(
            "--limit", metavar="N", type=positive, default=100, help="at most so many (default 100)"
        )
        return parser

    def records(self, parsed_args: argparse.Namespace) -> Iterable[Record]:
        """The reports."""
        left, marker = parsed_args.limit, None
        while left > 0:
            query = {
                "host": parsed_args.host,
                "region": parsed_args.region,
                "until": parsed_args.until,
                "limit": str(min(left, _PAGE)),
                "marker": marker,
            }
            page = self.backend.get(path("reports", query=query))
            for report in page["reports"]:
                yield {**report, "summary": findings.summary(report.get("findings"))}
            left -= len(page["reports"])
            marker = page.get("marker")
            if marker is None:
                return


class HostDiff(RecordLister):
    """Compare what a host has proven at two times, or two hosts: PCRs, events of the boot, facts.

    With --at alone the other time is now.
    """

    columns = (
        Column("kind"),
        Column("item"),
        Column("before"),
        Column("after"),
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the host and what to compare it with."""
        parser = super().get_parser(prog_name)
        add_host(parser)
        add_region(parser)
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument("--at", metavar="TIME", type=moment, help="the earlier time (ISO 8601)")
        what.add_argument("--other", metavar="HOST", help="another host, as it is now")
        parser.add_argument("--to", metavar="TIME", type=moment, help="the later time (ISO 8601)")
        return parser

    def records(self, parsed_args: argparse.Namespace) -> Iterable[Record]:
        """The differences."""
        if parsed_args.other is not None and parsed_args.to is not None:
            raise UsageError("--to goes with --at")
        before = self._report(parsed_args.host, parsed_args.region, parsed_args.at)
        after = self._report(
            parsed_args.other or parsed_args.host, parsed_args.region, parsed_args.to
        )
        found = self.backend.get(path("reports", before, "differences", after))
        yield from _differences(found)

    def _report(self, host: str, region: str | None, until: str | None) -> str:
        """The number of the report that stood then."""
        query = {"host": host, "region": region, "until": until, "limit": "1"}
        reports = self.backend.items(path("reports", query=query), "reports")
        if not reports:
            when = "" if until is None else f" at {until}"
            raise Refused("report-unknown", f"there is no report of host {host}{when}")
        return str(reports[0]["id"])


class ShowReport(RecordShow):
    """Show a report: the verdict as it had become, and what it rested on."""

    columns = (
        Column("id"),
        Column("host"),
        Column("region"),
        Column("at"),
        Column("confirmed_until"),
        Column("level"),
        Column("cause"),
        # Laid out in lines already.
        Column("findings", text=str),
        Column("reference_sets"),
        Column("policy"),
        Column("rules"),
        Column("evidence_of"),
        Column("signed"),
        Column("boot_log_digest"),
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the number."""
        parser = super().get_parser(prog_name)
        parser.add_argument("id", metavar="ID", help="number, from: oat host history")
        return parser

    def record(self, parsed_args: argparse.Namespace) -> Record:
        """The report."""
        report = self.backend.get(path("reports", parsed_args.id))
        if for_programs(parsed_args):
            return report
        text = findings.report(report.get("findings"), str(report.get("host")))
        return {**report, "findings": text}


class AppraiseReport(RecordShow):
    """Appraise the evidence of a report again, by the rules of then.

    The signature of the TPM is checked again as well, where the quote was kept.
    """

    columns = (
        Column("same"),
        Column("level"),
        Column("signature"),
        Column("findings", text=findings.summary),
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the number."""
        parser = super().get_parser(prog_name)
        parser.add_argument("id", metavar="ID", help="number, from: oat host history")
        return parser

    def record(self, parsed_args: argparse.Namespace) -> Record:
        """What it comes to."""
        return self.backend.get(path("reports", parsed_args.id, "appraisal"))


def _differences(found: Mapping[str, Any]) -> Iterator[Record]:
    for item in found["pcrs"]:
        name = f"{item['bank']}:{item['pcr']}"
        yield _row("pcr", name, item["before"], item["after"])
    for item in found["facts"]:
        yield _row("fact", item["fact"], item["before"], item["after"])
    for side in ("removed", "added"):
        for event in found["events"][side]:
            name = f"{event['pcr']}: {event['type']} {event['description']}"
            digest = event["digest"]
            before, after = (digest, None) if side == "removed" else (None, digest)
            yield _row("event", name, before, after)
    for pcr in found["events"]["reordered"]:
        yield _row("event", f"{pcr}: the same events in another order", None, None)


def _row(kind: str, item: Any, before: Any, after: Any) -> Record:
    return {"kind": kind, "item": plain(item), "before": before, "after": after}
