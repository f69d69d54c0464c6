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
from pathlib import Path
from typing import Any

from oat_trusted_filter.cli import findings
from oat_trusted_filter.cli.arguments import add_region, region_in
from oat_trusted_filter.cli.backend import path
from oat_trusted_filter.cli.binding import moment
from oat_trusted_filter.cli.boot_files import document_of
from oat_trusted_filter.cli.command import ServiceCommand
from oat_trusted_filter.cli.document import Document, read_allow_list, read_document
from oat_trusted_filter.cli.errors import Refused, UsageError
from oat_trusted_filter.cli.output import Column, Record, RecordShow, for_programs
from oat_trusted_filter.cli.paging import PagedLister
from oat_trusted_filter.cli.policy import add_generation
from oat_trusted_filter.cli.text import plain, printable, wrapped

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


def _provenance(known: Any) -> str:
    """Where a set comes from, in one line."""
    if not isinstance(known, Mapping):
        return ""
    source = str(known.get("source"))
    what = {
        "hosts": f"taken from {plain(known.get('hosts'))}",
        "files": f"computed from {plain(known.get('files'))}",
    }.get(source, plain(source))
    text = f"{what} by {plain(known.get('by'))} at {plain(known.get('at'))}"
    origin = known.get("origin")
    return f"{text}; {_provenance(origin)}" if origin else text


_COLUMNS = (
    Column("name"),
    Column("kind"),
    Column("pcrs", text=_pcr_summary),
    Column("events", text=_event_count),
    Column("valid_from"),
    Column("valid_until"),
    Column("validity"),
    Column("provenance", text=_provenance),
    Column("differing", text=_differences),
    Column("files", text=_file_count),
)


class CreateReference(RecordShow):
    """Take reference values from hosts that are known to be good, or from files.

    From two or more hosts only what is the same on all of them is taken, and the events that
    differ are named; on a terminal each PCR that differs is asked about. The hosts must have sent
    evidence; they need not be trusted yet.

    From files of boot loaders, kernels and initrds their digests are computed as firmware and
    GRUB measure them, for the demands images and boot_files of policies.

    With --kind ima it is an allow list: all files that any of the hosts has used, or those of a
    list that sha256sum, sha384sum or sha512sum wrote.
    """

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
        source.add_argument(
            "--from-file",
            metavar="FILE",
            action="append",
            dest="files",
            help="compute the digests of this boot loader, kernel or initrd; repeat it for more",
        )
        parser.add_argument(
            "--kind",
            metavar="KIND",
            help="what the set describes: platform (the default), firmware, boot-loader, kernel, "
            "os, txt, ima or a name of your own",
        )
        parser.add_argument(
            "--take",
            metavar="N,...",
            action="append",
            dest="taken",
            type=pcr_numbers,
            help="of these PCRs take the values of all hosts although they differ",
        )
        add_validity(parser)
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
        if (parsed_args.pcrs or parsed_args.taken) and not parsed_args.hosts:
            raise UsageError("--pcr and --take go with --from-host")
        if parsed_args.hosts:
            body |= _of_hosts(parsed_args)
            if not parsed_args.taken and (taken := self._taken(body)):
                body["take"] = taken
        elif parsed_args.files:
            if parsed_args.kind is None:
                raise UsageError("--from-file goes with --kind, boot-loader or kernel for instance")
            body["document"], said = document_of(parsed_args.kind, parsed_args.files)
            body["from_files"] = [Path(name).name for name in parsed_args.files]
            for sentence in said:
                self.app.LOG.info("%s", printable(sentence))
        else:
            body["document"] = _of_document(parsed_args)
        validity = validity_of(parsed_args)
        if validity and parsed_args.hosts:
            body |= validity
        elif validity:
            body["document"].update(validity)
        try:
            return _flat(self.backend.post(path("reference-sets"), body))
        except Refused as refusal:
            document = body.get("document")
            raise document.refused(refusal) if isinstance(document, Document) else refusal  # noqa: B904

    def _taken(self, body: dict[str, Any]) -> list[int]:
        """The PCRs somebody at a terminal wants all values of although they differ."""
        if len(body["from_hosts"]) < 2 or body.get("kind") == _IMA or not self.app.stdin.isatty():
            return []
        shown = self.backend.post(path("reference-sets"), {**body, "preview": True})
        taken = []
        for item in shown.get("differing") or ():
            self.app.stderr.write(f"{_differences([item])}\n")
            self.app.stderr.write(
                f"Leave PCR {plain(item['pcr'])} out, or take the values of all hosts [y/N]? "
            )
            self.app.stderr.flush()
            if self.app.stdin.readline().strip().lower() in ("y", "yes"):
                taken.append(int(item["pcr"]))
        return taken


def _of_hosts(parsed_args: argparse.Namespace) -> dict[str, Any]:
    body: dict[str, Any] = {"from_hosts": list(dict.fromkeys(parsed_args.hosts))}
    body |= region_in(parsed_args)
    if parsed_args.kind is not None:
        body["kind"] = parsed_args.kind
    for name, groups in (("pcrs", parsed_args.pcrs), ("take", parsed_args.taken)):
        if groups:
            body[name] = sorted({pcr for group in groups for pcr in group})
    return body


def _of_document(parsed_args: argparse.Namespace) -> dict[str, Any]:
    if parsed_args.kind == _IMA:
        return {"kind": _IMA, **read_allow_list(parsed_args.file)}
    if parsed_args.kind is not None:
        raise UsageError("a document says itself what it describes; --kind goes with other sources")
    return read_document(parsed_args.file)


def add_validity(parser: argparse.ArgumentParser) -> None:
    """Add the options that say when a set counts."""
    for name, text in (("--valid-from", "not before"), ("--valid-until", "not after")):
        parser.add_argument(
            name, metavar="MOMENT", type=moment, help=f"the set counts {text} this (RFC 3339)"
        )


def validity_of(parsed_args: argparse.Namespace) -> dict[str, Any]:
    """What these options say."""
    return {
        name: value
        for name in ("valid_from", "valid_until")
        if (value := getattr(parsed_args, name)) is not None
    }


class SetReference(RecordShow):
    """Say when a set of reference values counts; all hosts are appraised anew at once.

    Before its end, by a time the backend is configured with, the set is shown as expiring and the
    verdicts that rest on it carry a warning.
    """

    columns = _COLUMNS

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the name and the times."""
        parser = super().get_parser(prog_name)
        parser.add_argument("name", metavar="NAME", help="name of the set")
        add_validity(parser)
        parser.add_argument(
            "--no-limits", action="store_true", help="let the set count at any time"
        )
        add_generation(parser)
        return parser

    def record(self, parsed_args: argparse.Namespace) -> Record:
        """Change it, and return it as it is then."""
        body = validity_of(parsed_args)
        if parsed_args.no_limits:
            body = {"valid_from": None, "valid_until": None} | body
        if not body:
            raise UsageError("nothing to set: give --valid-from, --valid-until or --no-limits")
        where = path("reference-sets", parsed_args.name)
        return _flat(self.backend.patch(where, body, parsed_args.generation))


class ListReferences(PagedLister):
    """List the sets of reference values by name."""

    resource = "reference-sets"
    columns = (
        Column("name"),
        Column("kind"),
        Column("pcrs", text=_pcr_summary),
        Column("file_count"),
        Column("valid_from"),
        Column("valid_until"),
        Column("validity"),
        Column("provenance", text=_provenance, long=True),
    )

    def records(self, parsed_args: argparse.Namespace) -> Iterable[Record]:
        """The sets, each with its values beside its name."""
        return [_flat(item) for item in super().records(parsed_args)]


class ShowReference(RecordShow):
    """Show a set of reference values and the events it knows.

    With -f json or -f yaml it is a document that `oat reference create --file` takes.
    """

    columns = (
        *_COLUMNS[:3], Column("events", text=str), *_COLUMNS[4:8], Column("files", text=str),
    )  # fmt: skip

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the name."""
        parser = super().get_parser(prog_name)
        parser.add_argument("name", metavar="NAME", help="name of the set")
        return parser

    def record(self, parsed_args: argparse.Namespace) -> Record:
        """The set."""
        known = self.backend.get(path("reference-sets", parsed_args.name))
        if for_programs(parsed_args):
            return known
        flat = {**_flat(known)}
        if isinstance(flat.get("files"), Mapping):
            flat["files"] = _file_lines(flat["files"])
        return {**flat, "events": _event_lines(flat.get("events"))}


class DeleteReference(ServiceCommand):
    """Withdraw a set of reference values.

    All hosts are appraised anew at once: those that rest on this set alone lose their trust.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the name."""
        parser = super().get_parser(prog_name)
        parser.add_argument("name", metavar="NAME", help="name of the set")
        add_generation(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Delete."""
        self.backend.delete(path("reference-sets", parsed_args.name), parsed_args.generation)
        self.app.LOG.info("reference set %s deleted", parsed_args.name)
