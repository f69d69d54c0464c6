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
"""``oat reference``: the boots that are known to be good."""

import argparse
from collections.abc import Iterable, Mapping
from typing import Any

from cliff.command import Command

from oat_trusted_filter.cli import findings
from oat_trusted_filter.cli.app import OatApp
from oat_trusted_filter.cli.backend import path
from oat_trusted_filter.cli.document import read_allow_list, read_document
from oat_trusted_filter.cli.errors import UsageError
from oat_trusted_filter.cli.host import add_region
from oat_trusted_filter.cli.output import Column, Record, RecordLister, RecordShow, for_programs
from oat_trusted_filter.cli.text import plain, wrapped

_PCRS = range(24)
#: Sets of this kind are lists of files.
_IMA = "ima"


def pcr_numbers(text: str) -> list[int]:
    """PCR numbers separated by commas.

    :raises argparse.ArgumentTypeError: not numbers from 0 to 23.
    """
    numbers = [int(part) if part.isascii() and part.isdigit() else -1 for part in text.split(",")]
    if not all(number in _PCRS for number in numbers):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of PCRs such as 0,2,4,7")
    return numbers


def _event_count(events: Any) -> str:
    return str(len(events)) if isinstance(events, list) else ""


def _flat(record: Record) -> Record:
    """The fields of the document beside the name."""
    document = record.get("document")
    return {**document, **record} if isinstance(document, Mapping) else record


def _pcr_summary(values: Any) -> str:
    """Which PCRs the set knows, and in which banks."""
    if not isinstance(values, Mapping):
        return plain(values)
    banks: dict[str, list[str]] = {}
    for bank, pcrs in values.items():
        numbers = sorted(pcrs, key=int) if isinstance(pcrs, Mapping) else []
        banks.setdefault(",".join(plain(number) for number in numbers), []).append(plain(bank))
    return "; ".join(f"{numbers} ({', '.join(names)})" for numbers, names in banks.items())


def _file_count(files: Any) -> str:
    return str(len(files)) if isinstance(files, Mapping) else plain(files)


def _file_lines(files: Mapping[Any, Any]) -> str:
    return "\n".join(f"{plain(digest)} {plain(paths)}" for digest, paths in files.items())


def _event_lines(known: Any) -> str:
    if not isinstance(known, list):
        return ""
    return "\n".join(
        f"PCR {plain(event.get('pcr'))}: {line}"
        for event, line in zip(known, findings.events(known), strict=True)
        if isinstance(event, Mapping)
    )


def _differences(differing: Any) -> str:
    """What was left out, and the events it was left out for."""
    if not isinstance(differing, list):
        return ""
    if not differing:
        return "nothing"
    lines = []
    for item in differing:
        if not isinstance(item, Mapping):
            continue
        lines.append(f"PCR {plain(item.get('pcr'))} left out, it is not the same on all hosts:")
        lines += [wrapped(line, "  ", "    ") for line in findings.events(item.get("events") or ())]
    return "\n".join(lines)


_COLUMNS = (
    Column("name"),
    Column("kind"),
    Column("pcrs", text=_pcr_summary),
    Column("events", text=_event_count),
    Column("valid_from"),
    Column("valid_until"),
    Column("differing", text=_differences),
    Column("files", text=_file_count),
)


class CreateReference(RecordShow):
    """Take reference values from hosts that are known to be good.

    From two or more hosts only what is the same on all of them is taken, and the events that
    differ are named. The hosts must have sent evidence; they need not be trusted yet.

    With --kind ima it is an allow list: all files that any of the hosts has used, or those of a
    list that sha256sum, sha384sum or sha512sum wrote.
    """

    app: OatApp
    columns = _COLUMNS

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the name and where the values come from."""
        parser = super().get_parser(prog_name)
        parser.add_argument("name", metavar="NAME", help="name of the new set")
        source = parser.add_mutually_exclusive_group(required=True)
        source.add_argument(
            "--from-host",
            metavar="HOST",
            action="append",
            dest="hosts",
            help="take the values of the last boot of this host; repeat it for more hosts",
        )
        source.add_argument(
            "--file",
            metavar="FILE",
            help="take the values of a JSON or YAML document, or, with --kind ima, of a list of "
            "sha256sum; - is stdin",
        )
        parser.add_argument(
            "--kind", metavar="KIND", help="what the set describes (the backend says: platform)"
        )
        parser.add_argument(
            "--pcr",
            metavar="N,...",
            action="append",
            dest="pcrs",
            type=pcr_numbers,
            help="only these PCRs",
        )
        add_region(parser, "region of the hosts")
        return parser

    def record(self, parsed_args: argparse.Namespace) -> Record:
        """Create the set."""
        body: dict[str, Any] = {"name": parsed_args.name}
        if parsed_args.hosts:
            body["from_hosts"] = list(dict.fromkeys(parsed_args.hosts))
            if parsed_args.region is not None:
                body["region"] = parsed_args.region
            if parsed_args.kind is not None:
                body["kind"] = parsed_args.kind
            if parsed_args.pcrs:
                body["pcrs"] = sorted({pcr for group in parsed_args.pcrs for pcr in group})
        elif parsed_args.kind not in (None, _IMA) or parsed_args.pcrs:
            raise UsageError("--kind and --pcr go with --from-host; a document says both itself")
        elif parsed_args.kind == _IMA:
            body["document"] = {"kind": _IMA, **read_allow_list(parsed_args.file)}
        else:
            body["document"] = read_document(parsed_args.file)
        return _flat(self.app.backend.post(path("reference-sets"), body))


class ListReferences(RecordLister):
    """List the sets of reference values."""

    app: OatApp
    columns = (
        Column("name"),
        Column("kind"),
        Column("pcrs", text=_pcr_summary),
        Column("file_count"),
        Column("valid_from"),
        Column("valid_until"),
    )

    def records(self, parsed_args: argparse.Namespace) -> Iterable[Record]:
        """The sets by name."""
        sets = self.app.backend.items(path("reference-sets"), "reference_sets")
        return [_flat(item) for item in sorted(sets, key=lambda item: str(item.get("name")))]


class ShowReference(RecordShow):
    """Show a set of reference values and the events it knows.

    With -f json or -f yaml it is a document that `oat reference create --file` takes.
    """

    app: OatApp
    columns = (
        *_COLUMNS[:3], Column("events", text=str), *_COLUMNS[4:6], Column("files", text=str),
    )  # fmt: skip

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the name."""
        parser = super().get_parser(prog_name)
        parser.add_argument("name", metavar="NAME", help="name of the set")
        return parser

    def record(self, parsed_args: argparse.Namespace) -> Record:
        """The set."""
        known = self.app.backend.get(path("reference-sets", parsed_args.name))
        if for_programs(parsed_args):
            return known
        flat = {**_flat(known)}
        if isinstance(flat.get("files"), Mapping):
            flat["files"] = _file_lines(flat["files"])
        return {**flat, "events": _event_lines(flat.get("events"))}


class DeleteReference(Command):
    """Withdraw a set of reference values.

    All hosts are appraised anew at once: those that rest on this set alone lose their trust.
    """

    app: OatApp

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the name."""
        parser = super().get_parser(prog_name)
        parser.add_argument("name", metavar="NAME", help="name of the set")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Delete."""
        self.app.backend.delete(path("reference-sets", parsed_args.name))
        self.app.LOG.info("reference set %s deleted", parsed_args.name)
