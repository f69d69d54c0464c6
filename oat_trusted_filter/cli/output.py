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
"""Base classes of the commands: tables for people, the fields of the API for programs.

With ``-f json`` and ``-f yaml`` the names and values are those of the REST API, complete and
unchanged. Every other format gets text that is safe for a terminal; a table has headings.
"""

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import Any, ClassVar, TextIO

from cliff.formatters.base import SingleFormatter
from cliff.formatters.commaseparated import CSVLister
from cliff.lister import Lister
from cliff.show import ShowOne
from stevedore.extension import Extension, ExtensionManager

from oat_trusted_filter.cli.command import ServiceCommand
from oat_trusted_filter.cli.errors import UsageError
from oat_trusted_filter.cli.text import plain

Record = Mapping[str, Any]

#: Formats that are read by programs.
_FOR_PROGRAMS = frozenset({"json", "yaml"})
_ACRONYMS = {"Ek": "EK", "Pcr": "PCR", "Pcrs": "PCRs", "Tpm": "TPM", "Id": "ID"}


@dataclass(frozen=True, slots=True)
class Column:
    """One field of a record and how people see it."""

    key: str
    """Name of the field in the API."""
    text: Callable[[Any], str] = plain
    """The value as text for people."""
    long: bool = False
    """In a list for people: only with ``--long``."""

    @property
    def title(self) -> str:
        """The heading in a table."""
        words = self.key.replace("_", " ").title().split()
        return " ".join(_ACRONYMS.get(word, word) for word in words)


def for_programs(parsed_args: argparse.Namespace) -> bool:
    """Whether the output is read by a program, which gets what the API said."""
    return parsed_args.formatter in _FOR_PROGRAMS


class _Selecting:
    """A column that does not exist is a mistake on the command line, not a failure."""

    def _generate_columns_and_selector(
        self, parsed_args: argparse.Namespace, column_names: Sequence[str]
    ) -> tuple[list[str], list[bool] | None]:
        try:
            return super()._generate_columns_and_selector(  # type: ignore[misc]
                parsed_args, column_names
            )
        except ValueError:
            wanted = ", ".join(parsed_args.columns)
            raise UsageError(f"no column {wanted}; there are {', '.join(column_names)}") from None


class RecordLister(_Selecting, ServiceCommand, Lister):
    """A command that lists records."""

    columns: ClassVar[tuple[Column, ...]]

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add ``--long`` where there is more to see."""
        parser = super().get_parser(prog_name)
        parser.set_defaults(long=False)
        if any(column.long for column in self.columns):
            parser.add_argument(
                "--long", action="store_true", help="all columns (json and yaml have them anyway)"
            )
        return parser

    def records(self, parsed_args: argparse.Namespace) -> Iterable[Record]:
        """What to list, in order."""
        raise NotImplementedError

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        """Fetch the records and make rows of them."""
        programs = for_programs(parsed_args)
        shown = [
            column
            for column in self.columns
            # A column somebody names is one he wants to see.
            if parsed_args.long or programs or parsed_args.columns or not column.long
        ]
        rows = [
            [
                record.get(column.key) if programs else column.text(record.get(column.key))
                for column in shown
            ]
            for record in self.records(parsed_args)
        ]
        if parsed_args.formatter == "table":
            return [column.title for column in shown], rows
        return [column.key for column in shown], rows


class _CsvRow(CSVLister, SingleFormatter):
    """One record as a table of one row."""

    def emit_one(
        self,
        column_names: Sequence[str],
        data: Sequence[Any],
        stdout: TextIO,
        parsed_args: argparse.Namespace,
    ) -> None:
        """Write it."""
        self.emit_list(column_names, [data], stdout, parsed_args)


class RecordShow(_Selecting, ServiceCommand, ShowOne):
    """A command that shows one record."""

    columns: ClassVar[tuple[Column, ...]]

    def _load_formatter_plugins(self) -> ExtensionManager[SingleFormatter]:
        """All formats cliff has, and CSV, which it has for lists only."""
        found = super()._load_formatter_plugins()
        if "csv" not in found:
            entry = EntryPoint("csv", f"{__name__}:{_CsvRow.__name__}", self.formatter_namespace)
            found.extensions.append(Extension("csv", entry, _CsvRow, _CsvRow()))
        return found

    def record(self, parsed_args: argparse.Namespace) -> Record:
        """What to show; fetching or changing it is the command's work."""
        raise NotImplementedError

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Iterable[Any]]:
        """Do the work and make two columns of the record."""
        record = self.record(parsed_args)
        if for_programs(parsed_args):
            return list(record.keys()), list(record.values())
        shown = [column for column in self.columns if column.key in record]
        return (
            [column.key for column in shown],
            [column.text(record[column.key]) for column in shown],
        )
