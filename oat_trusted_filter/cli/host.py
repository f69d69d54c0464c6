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
"""``oat host``: which compute hosts there are, whether they are trusted, who may join."""

import argparse
from collections.abc import Iterable, Mapping
from typing import Any

from oat_trusted_filter.cli import findings
from oat_trusted_filter.cli.arguments import add_host, add_key, add_region
from oat_trusted_filter.cli.backend import path
from oat_trusted_filter.cli.command import ServiceCommand
from oat_trusted_filter.cli.errors import Refused, UsageError
from oat_trusted_filter.cli.output import Column, Record, RecordLister, RecordShow, for_programs
from oat_trusted_filter.cli.text import plain

STATES = ("pending", "approved", "registered")
LEVELS = ("trusted", "untrusted", "unknown")

_WAITING = {
    "pending": "waits for approval: oat host approve",
    "registered": "waits for the agent on the host to enrol",
}


def _ima(known: Any) -> str:
    """What is known of the files the host has used."""
    if not isinstance(known, Mapping):
        return ""
    numbers = ", ".join(
        f"{plain(known.get(key))} {word}"
        for key, word in (
            ("entries", "entries"), ("unknown", "unknown files"), ("violations", "violations"),
        )
    )  # fmt: skip
    rest = "" if known.get("complete") else "; more to come"
    return f"{numbers}, kexec {'' if known.get('kexec') else 'not '}seen{rest}"


def tag_record_line(record: Any) -> str:
    """What is to be known of the signed record of the tags of a host."""
    if not isinstance(record, Mapping):
        return ""
    parts = [plain(record.get("state"))]
    for key, word in (
        ("serial", "serial"), ("valid_from", "from"), ("valid_until", "until"),
    ):  # fmt: skip
        if record.get(key) is not None:
            parts.append(f"{word} {plain(record[key])}")
    return ", ".join(parts)


def override_text(known: Any) -> str:
    """An override in force, in one line."""
    if not isinstance(known, Mapping):
        return ""
    return (
        f"{plain(known.get('level'))} until {plain(known.get('until'))} by "
        f"{plain(known.get('by'))}: {plain(known.get('reason'))}"
    )


class ListHosts(RecordLister):
    """List compute hosts with their verdict and the reason for it."""

    columns = (
        Column("host"),
        Column("region"),
        Column("state"),
        Column("level"),
        Column("reason"),
        Column("service_host", long=True),
        Column("resource_provider", long=True),
        Column("ek_fingerprint", long=True),
        Column("ek_certificate_status", long=True),
        Column("manufacturer", long=True),
        Column("software_tpm", long=True),
        Column("policy", long=True),
        Column("labels", long=True),
        Column("override", text=override_text, long=True),
        Column("appraised_at", long=True),
        Column("expires_at", long=True),
        Column("created_at", long=True),
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the options to pick hosts."""
        parser = super().get_parser(prog_name)
        add_region(parser, "only hosts of this region")
        parser.add_argument("--state", choices=STATES, help="only hosts in this state")
        parser.add_argument("--level", choices=LEVELS, help="only hosts with this verdict")
        parser.add_argument(
            "--overridden", action="store_true", help="only hosts with an override in force"
        )
        return parser

    def records(self, parsed_args: argparse.Namespace) -> Iterable[Record]:
        """The hosts, by region and name."""
        hosts = self.backend.items(path("hosts", query={"region": parsed_args.region}), "hosts")
        return [
            {**host, "reason": _reason(host)}
            for host in sorted(hosts, key=_by_name)
            if parsed_args.state in (None, host.get("state"))
            and parsed_args.level in (None, host.get("level"))
            and (host.get("override") or not parsed_args.overridden)
        ]


class ShowHost(RecordShow):
    """Show a compute host: identity, verdict, and what is wrong with it."""

    columns = (
        Column("host"),
        Column("region"),
        Column("state"),
        Column("level"),
        # Laid out in lines already.
        Column("findings", text=str),
        Column("appraised_at"),
        Column("expires_at"),
        Column("policy"),
        Column("bound_policy"),
        Column("labels"),
        Column("override", text=override_text),
        Column("service_host"),
        Column("resource_provider"),
        Column("ek_fingerprint"),
        Column("ek_certificate_status"),
        Column("manufacturer"),
        Column("software_tpm"),
        Column("boot_log_digest"),
        Column("ima", text=_ima),
        Column("tags"),
        Column("tag_record", text=tag_record_line),
        Column("created_at"),
        Column("pcrs", text=str),
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the name of the host and what to show of it."""
        parser = super().get_parser(prog_name)
        add_host(parser)
        add_region(parser)
        parser.add_argument(
            "--pcrs", action="store_true", help="also the PCR values (json and yaml have them)"
        )
        return parser

    def record(self, parsed_args: argparse.Namespace) -> Record:
        """The host as the backend knows it."""
        host = self.backend.get(
            path("hosts", parsed_args.host, query={"region": parsed_args.region})
        )
        if for_programs(parsed_args):
            return host
        shown = dict(host)
        shown["findings"] = _explanation(host, parsed_args.host)
        values = shown.pop("pcrs", None)
        if parsed_args.pcrs:
            shown["pcrs"] = _pcr_lines(values)
        return shown


class ApproveHost(RecordShow):
    """Let a host that has enrolled take part.

    What is approved is an endorsement key: compare the fingerprint with the one the agent wrote
    to its log on the host, or with the list of the vendor.
    """

    columns = (
        Column("host"),
        Column("region"),
        Column("state"),
        Column("ek_fingerprint"),
        Column("ek_certificate_status"),
        Column("manufacturer"),
        Column("software_tpm"),
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the host, the key, and the way around the question."""
        parser = super().get_parser(prog_name)
        add_host(parser)
        add_key(
            parser,
            "the endorsement key to approve; without it the only one that waits is "
            "shown and approved after a question",
        )
        add_region(parser)
        parser.add_argument(
            "--yes", action="store_true", help="approve the only key that waits without asking"
        )
        return parser

    def record(self, parsed_args: argparse.Namespace) -> Record:
        """Approve, and return the host as it is then."""
        region, key = parsed_args.region, parsed_args.ek_fingerprint
        if key is None:
            waiting = self._only_candidate(parsed_args.host, region)
            region, key = str(waiting.get("region") or ""), str(waiting["ek_fingerprint"])
            self._confirm(waiting, yes=parsed_args.yes)
        body = {"ek_fingerprint": key} | ({} if region is None else {"region": region})
        return self.backend.post(path("hosts", parsed_args.host, "approve"), body)

    def _only_candidate(self, name: str, region: str | None) -> Mapping[str, Any]:
        hosts = self.backend.items(path("hosts", query={"region": region}), "hosts")
        mine = [host for host in hosts if host.get("host") == name]
        waiting = [
            host for host in mine if host.get("state") == "pending" and host.get("ek_fingerprint")
        ]
        if len(waiting) == 1:
            return waiting[0]
        if waiting:
            keys = ", ".join(
                plain(host["ek_fingerprint"])
                + (f" (region {plain(host['region'])})" if host.get("region") else "")
                for host in waiting
            )
            raise UsageError(
                f"{len(waiting)} keys wait under the name {name}; "
                f"choose with --ek-fingerprint: {keys}"
            )
        known = f"; it is {plain(mine[0].get('state'))}" if mine else "; has its agent enrolled?"
        raise Refused("host-not-pending", f"no key waits for approval under the name {name}{known}")

    def _confirm(self, waiting: Mapping[str, Any], *, yes: bool) -> None:
        # On stderr, so that the output stays what the format says.
        for key in ("host", "region", "ek_fingerprint", "ek_certificate_status", "manufacturer",
                    "software_tpm", "created_at"):  # fmt: skip
            if waiting.get(key) not in (None, ""):
                self.app.stderr.write(f"{key + ':':24}{plain(waiting[key])}\n")
        if yes:
            return
        if not self.app.stdin.isatty():
            raise UsageError("nobody to ask; give --ek-fingerprint, or --yes for the key above")
        self.app.stderr.write("Is this the endorsement key of that machine? Approve it [y/N]? ")
        self.app.stderr.flush()
        if self.app.stdin.readline().strip().lower() not in ("y", "yes"):
            raise UsageError("not approved")


class DeleteHost(ServiceCommand):
    """Forget a host: its approval, its verdict, its evidence.

    Its agent then enrols anew and waits for approval.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the host and, where several keys wait under its name, the key."""
        parser = super().get_parser(prog_name)
        add_host(parser)
        add_key(
            parser,
            "only the enrolment of this endorsement key",
        )
        add_region(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Delete."""
        query = {"region": parsed_args.region, "ek_fingerprint": parsed_args.ek_fingerprint}
        self.backend.delete(path("hosts", parsed_args.host, query=query))
        self.app.LOG.info("host %s deleted", parsed_args.host)


class RegisterHost(RecordShow):
    """Approve the endorsement key of a host before its agent has enrolled."""

    columns = ApproveHost.columns

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the host and its key."""
        parser = super().get_parser(prog_name)
        add_host(parser)
        add_key(
            parser,
            "SHA-256 of the public endorsement key, from the vendor or the host: of its "
            "SubjectPublicKeyInfo, or of the key alone",
            required=True,
        )
        parser.add_argument(
            "--accept-expired",
            action="store_true",
            help="accept the certificate of this key although it is past its end",
        )
        add_region(parser)
        return parser

    def record(self, parsed_args: argparse.Namespace) -> Record:
        """Register, and return the host as it is then."""
        body = {
            "region": parsed_args.region or "",
            "host": parsed_args.host,
            "ek_fingerprint": parsed_args.ek_fingerprint,
        }
        if parsed_args.accept_expired:
            body["accept_expired"] = True
        return self.backend.post(path("hosts"), body)


def _by_name(host: Mapping[str, Any]) -> tuple[str, str, str]:
    return (
        str(host.get("region") or ""),
        str(host.get("host") or ""),
        str(host.get("ek_fingerprint") or ""),
    )


def _reason(host: Mapping[str, Any]) -> str:
    waiting = _WAITING.get(str(host.get("state")))
    return waiting or findings.summary(host.get("findings"))


def _explanation(host: Mapping[str, Any], name: str) -> str:
    waiting = _WAITING.get(str(host.get("state")))
    if waiting:
        key = plain(host.get("ek_fingerprint"))
        return f"{waiting} {name} --ek-fingerprint {key}" if host["state"] == "pending" else waiting
    return findings.report(host.get("findings"), name)


def _pcr_lines(values: Any) -> str:
    if not isinstance(values, Mapping):
        return ""
    return "\n".join(
        f"{plain(bank)} {plain(pcr):>2} {plain(value)}"
        for bank, bank_values in values.items()
        if isinstance(bank_values, Mapping)
        for pcr, value in sorted(bank_values.items(), key=lambda item: int(item[0]))
    )
