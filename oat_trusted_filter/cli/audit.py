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
"""``oat audit``: what operators did and how verdicts changed, and whether the trail is whole."""

import argparse
import datetime
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oat_trusted_filter import trail
from oat_trusted_filter.cli.arguments import add_region
from oat_trusted_filter.cli.backend import Backend, path
from oat_trusted_filter.cli.command import ServiceCommand
from oat_trusted_filter.cli.errors import Refused, UsageError
from oat_trusted_filter.cli.output import Column, Record, RecordLister
from oat_trusted_filter.cli.paging import positive
from oat_trusted_filter.trail import HEAD_TYPE, Head, Row

if TYPE_CHECKING:
    import jwt

_PAGE = 1000
_KEYS = "/.well-known/jwks.json"
_ALGORITHMS = ["ES256"]


class ListAudit(RecordLister):
    """List the audit trail, newest first."""

    columns = (
        Column("sequence"),
        Column("time"),
        Column("actor"),
        Column("action"),
        Column("host"),
        Column("region", long=True),
        Column("details"),
        Column("previous", long=True),
        Column("digest", long=True),
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the options to pick rows."""
        parser = super().get_parser(prog_name)
        parser.add_argument("--host", metavar="HOST", help="only rows about this host")
        add_region(parser, "only rows about hosts of this region")
        parser.add_argument("--actor", metavar="NAME", help="only what this one did")
        parser.add_argument("--action", metavar="WORD", help="only this, such as host.approve")
        parser.add_argument(
            "--limit", metavar="N", type=positive, default=100, help="at most so many (default 100)"
        )
        return parser

    def records(self, parsed_args: argparse.Namespace) -> Iterable[Record]:
        """The rows."""
        wanted = {name: getattr(parsed_args, name) for name in ("host", "region", "actor")}
        wanted |= {"action": parsed_args.action, "newest_first": "true"}
        for row in _fetched(self.backend, parsed_args.limit, wanted):
            yield {**row, "time": _time(row["at"])}


class VerifyAudit(ServiceCommand):
    """Check that no row of the audit trail was removed, changed, moved or cut off.

    Rows come from the backend, or from a file with --file. What an export says of the past is
    compared with --against: without it, rows that were cut off at the end of the database together
    with their count cannot be missed.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the files."""
        parser = super().get_parser(prog_name)
        parser.add_argument("--file", metavar="FILE", help="check this export, not the backend")
        parser.add_argument(
            "--against", metavar="FILE", action="append", default=[],
            help="an export of earlier times; may be repeated",
        )  # fmt: skip
        parser.add_argument(
            "--keys", metavar="FILE", help="JWK set of the backend (default: ask the backend)"
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Check, and name what is wrong."""
        keys = _keys(self.backend, parsed_args.keys)
        heads: list[Head] = []
        for name in parsed_args.against:
            rows, tokens = _read(name)
            heads += [Head(row.sequence, row.digest) for row in rows]
            heads += [_head(token, keys) for token in tokens]
        if parsed_args.file is not None:
            found, tokens = _read(parsed_args.file)
            heads += [_head(token, keys) for token in tokens]
        else:
            heads.append(_head(self.backend.get(path("audit", "head"))["head"], keys))
            with self.progress() as show:
                found = [_row(row) for row in _shown(_fetched(self.backend, None, {}), show)]
        faults = trail.faults(found, heads)
        for fault in faults:
            self.app.stdout.write(f"{fault.code}: {fault.message}\n")
        if faults:
            raise Refused("audit-trail-broken", f"{len(faults)} faults in {len(found)} rows")
        self.app.stdout.write(f"{len(found)} rows, {len(heads)} heads: whole\n")


class ExportAudit(ServiceCommand):
    """Write the audit trail with a signed head, a JSON object a line."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add where to begin."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--after", metavar="N", default="0", help="only rows behind the one of this number"
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Write it."""
        if not parsed_args.after.isascii() or not parsed_args.after.isdigit():
            raise UsageError(f"--after {parsed_args.after!r} is not a number")
        # The head first: rows written meanwhile are more than it says, never less.
        token = self.backend.get(path("audit", "head"))["head"]
        rows = _fetched(self.backend, None, {"marker": parsed_args.after})
        with self.progress() as show:
            for row in _shown(rows, show):
                self._write({"row": row})
            self._write({"head": token})

    def _write(self, line: Mapping[str, Any]) -> None:
        text = json.dumps(line, separators=(",", ":"), ensure_ascii=False)
        self.app.stdout.write(f"{text}\n")


def _fetched(
    backend: Backend, limit: int | None, wanted: Mapping[str, str | None]
) -> Iterator[dict[str, Any]]:
    marker: str | None = wanted.get("marker")
    left = sys.maxsize if limit is None else limit
    while left > 0:
        query = {**wanted, "marker": marker, "limit": str(min(left, _PAGE))}
        page = backend.get(path("audit", query=query))
        yield from page["rows"]
        left -= len(page["rows"])
        if page["marker"] is None:
            return
        marker = str(page["marker"])


def _shown(rows: Iterable[dict[str, Any]], show: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """The same rows, with a word after each page."""
    for count, row in enumerate(rows, 1):
        if count % _PAGE == 0:
            show(f"{count} rows")
        yield row


def _row(row: Mapping[str, Any]) -> Row:
    values = {name: row[name] for name in Row._fields}
    return Row(**{**values, "details": trail.canonical(row["details"])})


def _read(name: str) -> tuple[list[Row], list[str]]:
    """Rows and signed heads of an export."""
    rows: list[Row] = []
    tokens: list[str] = []
    try:
        with Path(name).open(encoding="utf-8") as file:
            for line in file:
                found = json.loads(line)
                if "row" in found:
                    rows.append(_row(found["row"]))
                else:
                    tokens.append(str(found["head"]))
    except OSError as error:
        raise UsageError(f"{name}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{name} is no export of the audit trail: {error}") from error
    return rows, tokens


def _keys(backend: Backend, name: str | None) -> "jwt.PyJWKSet":
    import jwt  # noqa: PLC0415  every other command would load it as well

    try:
        if name is None:
            return jwt.PyJWKSet.from_dict(dict(backend.get(_KEYS)))
        return jwt.PyJWKSet.from_json(Path(name).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{name}: {error.strerror}") from error
    except (ValueError, jwt.PyJWTError) as error:
        raise UsageError(f"{name or _KEYS}: no JWK set: {error}") from error


def _head(token: str, keys: "jwt.PyJWKSet") -> Head:
    """What a signed head says.

    :raises Refused: ``audit-head-invalid``.
    """
    import jwt  # noqa: PLC0415  see above

    try:
        header = jwt.get_unverified_header(token)
        if header.get("typ") != HEAD_TYPE:
            raise ValueError("it is none")
        said = jwt.decode(
            token, keys[header["kid"]], algorithms=_ALGORITHMS, options={"verify_iat": False}
        )
        return Head(int(said["sequence"]), str(said["digest"]))
    except (jwt.PyJWTError, KeyError, ValueError, TypeError) as error:
        raise Refused(
            "audit-head-invalid", f"a head is not signed by this backend: {error}"
        ) from error


def _time(milliseconds: Any) -> str:
    moment = datetime.datetime.fromtimestamp(int(milliseconds) / 1000, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
