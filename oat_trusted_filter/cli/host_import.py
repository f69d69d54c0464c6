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
"""``oat host import``: a list of hosts and their endorsement keys, announced at once."""

import argparse
import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any, NamedTuple

import yaml

from oat_trusted_filter.cli.arguments import add_region, fingerprint
from oat_trusted_filter.cli.backend import path
from oat_trusted_filter.cli.document import read_text
from oat_trusted_filter.cli.errors import Refused, UsageError
from oat_trusted_filter.cli.output import Column, Record, RecordShow
from oat_trusted_filter.cli.text import plain, printable

_FORMATS = ("csv", "json", "yaml")
_SUFFIXES = {".csv": "csv", ".json": "json", ".yaml": "yaml", ".yml": "yaml"}
_FIELDS = frozenset({"host", "region", "ek_fingerprint", "policy", "labels", "accept_expired"})
#: Another word lists have for it.
_HASH = "ek_hash"
_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False, "": False}
#: Hosts that are checked with one request while the operator watches.
_AT_ONCE = 2_000
_MOST_LINES = 50

# The one in C, if it is there, is ten times as fast.
_Loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


class Entry(NamedTuple):
    """A host of the list."""

    line: int
    fields: dict[str, Any]


class Mistake(NamedTuple):
    """What is wrong with the list, and where."""

    line: int
    text: str


class ImportHosts(RecordShow):
    """Approve the endorsement keys of many hosts before their agents have enrolled.

    FILE is CSV with a line of headings, or a list in JSON or YAML. Each host has the fields host
    and ek_fingerprint (or ek_hash, the SHA-256 of the key alone); region, policy, labels and
    accept_expired are optional. In CSV labels are written name=value;name=value.

    All of them are registered or none. Hosts that are registered already stay as they are, so the
    same file can be imported again.
    """

    columns = (Column("registered"), Column("approved"), Column("unchanged"))

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the file."""
        parser = super().get_parser(prog_name)
        parser.add_argument("file", metavar="FILE", help="the list; - is stdin")
        parser.add_argument(
            "--input-format",
            choices=_FORMATS,
            help="what the file is (default: what the end of its name says)",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="check everything and change nothing"
        )
        add_region(parser, "region of hosts that name none")
        return parser

    def record(self, parsed_args: argparse.Namespace) -> Record:
        """Read, check and send the list."""
        file = parsed_args.file
        kind = parsed_args.input_format or _SUFFIXES.get(PurePath(file).suffix.lower())
        if kind is None:
            raise UsageError(f"what is {file}? Say it with --input-format csv, json or yaml")
        entries, mistakes = _read(read_text(file), kind, parsed_args.region or "")
        if mistakes:
            raise self._told(file, mistakes, len(mistakes))
        if not entries:
            raise UsageError(f"{file} names no host")
        if len(entries) > _AT_ONCE:
            self._check(file, entries)
        return self._send(file, entries, dry_run=parsed_args.dry_run)

    def _check(self, file: str, entries: list[Entry]) -> None:
        """Check a long list part by part, and say how far that is."""
        with self.progress() as show:
            for start in range(0, len(entries), _AT_ONCE):
                part = entries[start : start + _AT_ONCE]
                self._send(file, part, dry_run=True)
                show(f"{start + len(part)} of {len(entries)} hosts checked")

    def _send(self, file: str, entries: list[Entry], *, dry_run: bool) -> Record:
        body = {"hosts": [entry.fields for entry in entries], "dry_run": dry_run}
        try:
            return self.backend.post(path("registrations"), body)
        except Refused as error:
            errors = error.body.get("errors")
            if error.code != "import-refused" or not isinstance(errors, list):
                raise
            mistakes = [
                Mistake(
                    entries[item["index"]].line, f"{plain(item['code'])}: {plain(item['detail'])}"
                )
                for item in errors
            ]
            count = error.body.get("error_count", len(mistakes))
            raise self._told(file, mistakes, count) from error

    def _told(self, file: str, mistakes: list[Mistake], count: int) -> Refused:
        for mistake in mistakes[:_MOST_LINES]:
            text = " ".join(mistake.text.split())
            self.app.stderr.write(f"{file}:{mistake.line}: {printable(text)}\n")
        more = count - min(len(mistakes), _MOST_LINES)
        rest = f" ({more} more than shown)" if more > 0 else ""
        return Refused("import-refused", f"nothing was imported, {count} mistakes in {file}{rest}")


def _read(text: str, kind: str, region: str) -> tuple[list[Entry], list[Mistake]]:
    """The hosts of a list, and what can be seen to be wrong with it."""
    entries: list[Entry] = []
    mistakes: list[Mistake] = []
    for found in _csv(text) if kind == "csv" else _tree(text):
        if isinstance(found, Mistake):
            mistakes.append(found)
            continue
        try:
            entries.append(Entry(found.line, _checked(found.fields, region)))
        except (argparse.ArgumentTypeError, UsageError) as error:
            mistakes.append(Mistake(found.line, plain(str(error))))
    return entries, mistakes


def _checked(fields: Mapping[str, Any], region: str) -> dict[str, Any]:
    """The fields of a host as the backend wants them."""
    given = {name: value for name, value in fields.items() if value != ""}
    if _HASH in given:
        if "ek_fingerprint" in given:
            raise UsageError("ek_hash and ek_fingerprint are two names for one thing")
        given["ek_fingerprint"] = given.pop(_HASH)
    unknown = given.keys() - _FIELDS
    if unknown:
        raise UsageError(f"unknown fields: {', '.join(sorted(unknown))}")
    for name in ("host", "ek_fingerprint"):
        if not isinstance(given.get(name), str):
            raise UsageError(f"{name} is missing")
    given["ek_fingerprint"] = fingerprint(given["ek_fingerprint"])
    if "accept_expired" in given:
        said = str(given["accept_expired"]).lower()
        if said not in _TRUTH:
            raise UsageError(f"accept_expired is {said!r}, neither true nor false")
        given["accept_expired"] = _TRUTH[said]
    return {"region": region, **given}


def _csv(text: str) -> Iterator[Entry | Mistake]:
    reader = csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True, strict=True)
    try:
        headings = [name.strip().lower() for name in reader.fieldnames or ()]
        if "host" not in headings or len(set(headings)) != len(headings):
            yield Mistake(1, "not a line of headings such as host,ek_fingerprint")
            return
        reader.fieldnames = headings
        for row in reader:
            if None in row or None in row.values():
                yield Mistake(reader.line_num, "not as many fields as there are headings")
                continue
            fields: dict[str, Any] = {name: value.strip() for name, value in row.items()}
            pairs = [part.partition("=") for part in fields.pop("labels", "").split(";") if part]
            if not all(equals for _, equals, _ in pairs):
                yield Mistake(reader.line_num, "labels are written name=value;name=value")
                continue
            if pairs:
                fields["labels"] = {name.strip(): value.strip() for name, _, value in pairs}
            yield Entry(reader.line_num, fields)
    except csv.Error as error:
        yield Mistake(reader.reader.line_num, f"not CSV: {error}")


def _tree(text: str) -> Iterator[Entry | Mistake]:
    """A list in YAML, of which JSON is a part; every value is a string, whatever it looks like."""
    try:
        # Tabs between values are fine in JSON, and in its strings there can be none.
        root = yaml.compose(text.replace("\t", " "), Loader=_Loader)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        yield Mistake(1 if mark is None else mark.line + 1, f"neither JSON nor YAML: {error}")
        return
    if isinstance(root, yaml.MappingNode):
        lists = [value for key, value in root.value if key.value == "hosts"]
        root = lists[0] if len(lists) == 1 and len(root.value) == 1 else None
    if not isinstance(root, yaml.SequenceNode):
        yield Mistake(1, "not a list of hosts, nor an object with the field hosts alone")
        return
    for node in root.value:
        yield _object(node)


def _object(node: yaml.Node) -> Entry | Mistake:
    """An object whose values are strings and objects of strings."""
    line = node.start_mark.line + 1
    if not isinstance(node, yaml.MappingNode):
        return Mistake(line, "not a host with named fields")
    fields: dict[str, Any] = {}
    for key, value in node.value:
        where = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode) or key.value in fields:
            return Mistake(where, "a field that is there twice or has no name")
        if isinstance(value, yaml.ScalarNode):
            fields[key.value] = value.value
            continue
        inner = _object(value)
        if isinstance(inner, Mistake):
            return Mistake(where, f"{key.value} is neither a text nor an object")
        fields[key.value] = inner.fields
    return Entry(line, fields)
