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
from pathlib import Path
from typing import Any

from oat_trusted_filter.cli import findings
from oat_trusted_filter.cli.arguments import add_region, region_in
from oat_trusted_filter.cli.backend import path
from oat_trusted_filter.cli.command import ServiceCommand
from oat_trusted_filter.cli.document import read_document
from oat_trusted_filter.cli.errors import Refused, UsageError
from oat_trusted_filter.cli.output import Column, Record, RecordLister, RecordShow
from oat_trusted_filter.cli.paging import PagedLister
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
    Column("boot_files", long=True),
    Column("orderly_shutdown", long=True),
    Column("tpm_firmware", long=True),
    Column("max_age", long=True),
    Column("labels"),
    Column("generation", long=True),
)


def add_generation(parser: argparse.ArgumentParser) -> None:
    """Add ``--generation``."""
    parser.add_argument(
        "--generation",
        metavar="N",
        type=int,
        help="only if nobody has changed it since it was shown with this generation",
    )


class ListPolicies(PagedLister):
    """List the appraisal policies by name."""

    resource = "policies"
    columns = _COLUMNS


class ShowPolicy(RecordShow):
    """Show an appraisal policy.

    With -f json or -f yaml it is a document that `oat policy set` takes.
    """

    columns = _COLUMNS

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the name."""
        parser = super().get_parser(prog_name)
        parser.add_argument("name", metavar="NAME", help="name of the policy, mostly: default")
        return parser

    def record(self, parsed_args: argparse.Namespace) -> Record:
        """The policy."""
        return self.backend.get(path("policies", parsed_args.name))


class SetPolicy(RecordShow):
    """Create or replace an appraisal policy; all hosts are appraised anew at once.

    What is wrong with the file is told as FILE:LINE: FIELD: what is wrong.
    """

    columns = _COLUMNS

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the name and the document."""
        parser = super().get_parser(prog_name)
        parser.add_argument("name", metavar="NAME", help="name of the policy, mostly: default")
        parser.add_argument("file", metavar="FILE", help="JSON or YAML document; - is stdin")
        add_generation(parser)
        return parser

    def record(self, parsed_args: argparse.Namespace) -> Record:
        """Set it, and return it as the backend has it then."""
        where = path("policies", parsed_args.name)
        document = read_document(parsed_args.file)
        try:
            self.backend.put(where, document, parsed_args.generation)
        except Refused as refusal:
            raise document.refused(refusal) from refusal
        return self.backend.get(where)


class DeletePolicy(ServiceCommand):
    """Forget an appraisal policy that no host is judged by."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the name."""
        parser = super().get_parser(prog_name)
        parser.add_argument("name", metavar="NAME", help="name of the policy")
        add_generation(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Delete."""
        self.backend.delete(path("policies", parsed_args.name), parsed_args.generation)
        self.app.LOG.info("policy %s deleted", parsed_args.name)


class CheckPolicy(RecordLister):
    """Say what a policy, or a draft of one, would make of the hosts; nothing is changed.

    The evidence is what the hosts have sent last. Without --host and --all it is about the hosts
    the policy is for, before or after.
    """

    columns = (
        Column("host"),
        Column("region"),
        Column("level"),
        Column("would_be"),
        Column("changes"),
        Column("reason"),
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the policy and the hosts."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "policy",
            metavar="POLICY",
            help="file of a draft, with the name of the policy in it; - is stdin; or the name of "
            "a policy that exists",
        )
        hosts = parser.add_mutually_exclusive_group()
        hosts.add_argument(
            "--host",
            metavar="HOST",
            action="append",
            dest="hosts",
            help="this host, as if it were bound to the policy; repeat it for more",
        )
        hosts.add_argument(
            "--all", action="store_true", help="all hosts, as if they were bound to the policy"
        )
        add_region(parser, "region of the hosts")
        parser.add_argument("--changes", action="store_true", help="only hosts that would change")
        return parser

    def records(self, parsed_args: argparse.Namespace) -> Iterable[Record]:
        """The hosts by region and name."""
        body: dict[str, Any] = {"all": parsed_args.all}
        if parsed_args.hosts:
            body["hosts"] = parsed_args.hosts
            body |= region_in(parsed_args)
        found = self._checked(parsed_args.policy, body).get("hosts")
        hosts = [host for host in found or () if isinstance(host, Mapping)]
        return [
            {**host, "reason": findings.summary(host.get("findings"))}
            for host in sorted(hosts, key=lambda item: (item["region"], item["host"]))
            if host.get("changes") or not parsed_args.changes
        ]

    def _checked(self, policy: str, body: dict[str, Any]) -> Mapping[str, Any]:
        if policy != "-" and not Path(policy).is_file():
            return self.backend.post(path("policies", policy, "check"), body)
        draft = read_document(policy)
        name = draft.get("name")
        if not isinstance(name, str):
            raise UsageError(f"{policy}:1: name: the draft has no name of a policy")
        try:
            return self.backend.post(path("policies", name, "check"), {**body, "document": draft})
        except Refused as refusal:
            raise draft.refused(refusal) from refusal
