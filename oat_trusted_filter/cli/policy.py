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
"""``oat policy``: what a host has to show to be trusted."""

import argparse
from collections.abc import Iterable, Mapping
from typing import Any

from oat_trusted_filter.cli.app import OatApp
from oat_trusted_filter.cli.backend import path
from oat_trusted_filter.cli.document import read_document
from oat_trusted_filter.cli.output import Column, Record, RecordLister, RecordShow
from oat_trusted_filter.cli.text import plain


def _requirements(value: Any) -> str:
    if not isinstance(value, list):
        return plain(value)
    return "; ".join(
        f"{plain(item.get('kind'))}: PCRs {plain(item.get('pcrs'))}"
        for item in value
        if isinstance(item, Mapping)
    )


def _certificates(value: Any) -> str:
    if not isinstance(value, Mapping):
        return plain(value)
    return "\n".join(f"{plain(name)}: {plain(known)}" for name, known in value.items())


def _count(value: Any) -> str:
    return f"{len(value)} digests" if isinstance(value, list) and value else ""


def _ima(value: Any) -> str:
    if not isinstance(value, Mapping):
        return plain(value)
    parts = [plain(value.get("mode"))]
    for key, word in (("exclude", "patterns"), ("keys", "keys")):
        if value.get(key):
            parts.append(f"{len(value[key])} {word}")
    return ", ".join(parts)


def _tags(value: Any) -> str:
    if not isinstance(value, Mapping):
        return plain(value)
    require = value.get("require")
    parts = []
    if isinstance(require, Mapping):
        parts = [f"{plain(name)}: {plain(values)}" for name, values in require.items()]
    if value.get("nvram") == "required":
        parts.append("held by the TPM")
    return "; ".join(parts)


_COLUMNS = (
    Column("name"),
    Column("secure_boot"),
    Column("requirements", text=_requirements),
    Column("kernel_command_line"),
    Column("images"),
    Column("dynamic_launch"),
    Column("ima", text=_ima),
    Column("tags", text=_tags),
    Column("certificates", text=_certificates, long=True),
    Column("dbx_minimum", text=_count, long=True),
)


class ListPolicies(RecordLister):
    """List the appraisal policies."""

    app: OatApp
    columns = _COLUMNS

    def records(self, parsed_args: argparse.Namespace) -> Iterable[Record]:
        """The policies by name."""
        policies = self.app.backend.items(path("policies"), "policies")
        return sorted(policies, key=lambda item: str(item.get("name")))


class ShowPolicy(RecordShow):
    """Show an appraisal policy.

    With -f json or -f yaml it is a document that `oat policy set` takes.
    """

    app: OatApp
    columns = _COLUMNS

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the name."""
        parser = super().get_parser(prog_name)
        parser.add_argument("name", metavar="NAME", help="name of the policy, mostly: default")
        return parser

    def record(self, parsed_args: argparse.Namespace) -> Record:
        """The policy."""
        return self.app.backend.get(path("policies", parsed_args.name))


class SetPolicy(RecordShow):
    """Create or replace an appraisal policy; all hosts are appraised anew at once."""

    app: OatApp
    columns = _COLUMNS

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the name and the document."""
        parser = super().get_parser(prog_name)
        parser.add_argument("name", metavar="NAME", help="name of the policy, mostly: default")
        parser.add_argument("file", metavar="FILE", help="JSON or YAML document; - is stdin")
        return parser

    def record(self, parsed_args: argparse.Namespace) -> Record:
        """Set it, and return it as the backend has it then."""
        where = path("policies", parsed_args.name)
        self.app.backend.put(where, read_document(parsed_args.file))
        return self.app.backend.get(where)
