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
"""``oat host set`` and ``oat host override``: what an operator says about one host."""

import argparse
import re
from datetime import UTC, datetime
from typing import Any

from oat_trusted_filter.cli.arguments import add_host, add_region, region_in
from oat_trusted_filter.cli.backend import path
from oat_trusted_filter.cli.errors import UsageError
from oat_trusted_filter.cli.host import override_text
from oat_trusted_filter.cli.output import Column, Record, RecordShow

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION = re.compile(r"([0-9]{1,9})([smhd])", re.ASCII)
_COLUMNS = (
    Column("host"),
    Column("region"),
    Column("level"),
    Column("policy"),
    Column("bound_policy"),
    Column("labels"),
    Column("override", text=override_text),
)


def label(text: str) -> tuple[str, str]:
    """``NAME=VALUE``.

    :raises argparse.ArgumentTypeError: anything else.
    """
    name, sign, value = text.partition("=")
    if not (name and sign and value):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def duration(text: str) -> int:
    """A time in seconds, as ``90s``, ``30m``, ``8h`` or ``7d``.

    :raises argparse.ArgumentTypeError: anything else.
    """
    found = _DURATION.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 30m, 8h or 7d")
    return int(found[1]) * _UNITS[found[2]]


def moment(text: str) -> str:
    """A moment of RFC 3339; without a time zone it is that of this machine.

    :raises argparse.ArgumentTypeError: anything else.
    """
    try:
        return datetime.fromisoformat(text).astimezone(UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a time such as 2027-01-31T18:00:00Z"
        ) from None


class SetHost(RecordShow):
    """Bind a host to a policy, or change its labels; it is appraised anew at once.

    A host is judged by the policy it is bound to, or else by the one that is for hosts with its
    labels, or else by the policy default.
    """

    columns = _COLUMNS

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the host and what changes."""
        parser = super().get_parser(prog_name)
        add_host(parser)
        bound = parser.add_mutually_exclusive_group()
        bound.add_argument("--policy", metavar="POLICY", help="bind the host to this policy")
        bound.add_argument(
            "--unset-policy", action="store_true", help="let the labels of the host decide"
        )
        parser.add_argument(
            "--label",
            metavar="NAME=VALUE",
            action="append",
            default=[],
            type=label,
            help="set a label; repeat it for more",
        )
        parser.add_argument(
            "--unset-label",
            metavar="NAME",
            action="append",
            default=[],
            help="take a label away; repeat it for more",
        )
        add_region(parser)
        return parser

    def record(self, parsed_args: argparse.Namespace) -> Record:
        """Change, and return the host as it is then."""
        body: dict[str, Any] = {}
        if parsed_args.policy or parsed_args.unset_policy:
            body["policy"] = parsed_args.policy
        labels = {**dict.fromkeys(parsed_args.unset_label), **dict(parsed_args.label)}
        if labels:
            body["labels"] = labels
        if not body:
            raise UsageError("nothing to set: give --policy, --label or one of their opposites")
        body |= region_in(parsed_args)
        return self.backend.patch(path("hosts", parsed_args.host), body)


class OverrideHost(RecordShow):
    """Let a host count as trusted or untrusted for a while, whatever is found.

    The override is on record with its reason, shown in every verdict, and ends by itself after 30
    days at most. The host still has to attest: a silent host is unknown.
    """

    columns = _COLUMNS

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the host, and the override or its end."""
        parser = super().get_parser(prog_name)
        add_host(parser)
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument(
            "--level", choices=("trusted", "untrusted"), help="what the host counts as"
        )
        what.add_argument("--clear", action="store_true", help="let what is found count again")
        parser.add_argument("--reason", metavar="TEXT", help="why, in one line")
        end = parser.add_mutually_exclusive_group()
        end.add_argument("--for", metavar="TIME", dest="seconds", type=duration,
                         help="how long: 30m, 8h, 7d")  # fmt: skip
        end.add_argument("--until", metavar="MOMENT", type=moment, help="until when (RFC 3339)")
        add_region(parser)
        return parser

    def record(self, parsed_args: argparse.Namespace) -> Record:
        """Set or clear it, and return the host as it is then."""
        region = parsed_args.region
        if parsed_args.clear:
            if parsed_args.reason or parsed_args.seconds or parsed_args.until:
                raise UsageError("--reason, --for and --until go with --level")
            query = {"region": region}
            self.backend.delete(path("hosts", parsed_args.host, "override", query=query))
            return self.backend.get(path("hosts", parsed_args.host, query=query))
        if not parsed_args.reason or not (parsed_args.seconds or parsed_args.until):
            raise UsageError("--level goes with --reason, and with --for or --until")
        body: dict[str, Any] = {"level": parsed_args.level, "reason": parsed_args.reason}
        if parsed_args.seconds:
            body["seconds"] = parsed_args.seconds
        else:
            body["until"] = parsed_args.until
        body |= region_in(parsed_args)
        return self.backend.send("PUT", path("hosts", parsed_args.host, "override"), body)
