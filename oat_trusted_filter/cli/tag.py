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
"""``oat tag``: what compute hosts are said to be, such as where they stand."""

import argparse
from typing import Any

from oat_trusted_filter.cli.arguments import add_host, add_region
from oat_trusted_filter.cli.backend import path
from oat_trusted_filter.cli.command import ServiceCommand
from oat_trusted_filter.cli.errors import UsageError
from oat_trusted_filter.cli.host import tag_record_line
from oat_trusted_filter.cli.output import Column, Record, RecordShow
from oat_trusted_filter.cli.paging import PagedLister
from oat_trusted_filter.cli.text import plain


def pair(text: str) -> tuple[str, str]:
    """``NAME=VALUE``.

    :raises argparse.ArgumentTypeError: something is missing.
    """
    name, equals, value = text.partition("=")
    if not name or not equals or not value:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def _hosts(having: Any) -> str:
    """The hosts that have a tag, one a line."""
    if not isinstance(having, list):
        return plain(having)
    lines = []
    for item in having:
        region = f" (region {plain(item.get('region'))})" if item.get("region") else ""
        until = item.get("valid_until")
        ends = f", until {plain(until)}" if until else ""
        lines.append(f"{plain(item.get('value'))}: {plain(item.get('host'))}{region}{ends}")
    return "\n".join(lines)


class CreateTag(RecordShow):
    """Create a tag, or add values to one.

    Names and values that no flavor could ask for, or that have no trait, are refused.
    """

    columns = (Column("name"), Column("values"))

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the name and its values."""
        parser = super().get_parser(prog_name)
        parser.add_argument("name", metavar="NAME", help="name of the tag")
        parser.add_argument("values", metavar="VALUE", nargs="+", help="value it may have")
        return parser

    def record(self, parsed_args: argparse.Namespace) -> Record:
        """Create it, and return it with all its values."""
        body = {"name": parsed_args.name, "values": parsed_args.values}
        return self.backend.post(path("tags"), body)


class ListTags(PagedLister):
    """List the tags that can be assigned, with their values."""

    resource = "tags"
    columns = (Column("name"), Column("values"))


class ShowTag(RecordShow):
    """Show a tag, its values, and the hosts that have it now."""

    columns = (Column("name"), Column("values"), Column("hosts", text=_hosts))

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the name."""
        parser = super().get_parser(prog_name)
        parser.add_argument("name", metavar="NAME", help="name of the tag")
        return parser

    def record(self, parsed_args: argparse.Namespace) -> Record:
        """The tag."""
        return self.backend.get(path("tags", parsed_args.name))


class DeleteTag(ServiceCommand):
    """Delete a tag: nobody can assign it any more. Hosts that have it keep it."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the name."""
        parser = super().get_parser(prog_name)
        parser.add_argument("name", metavar="NAME", help="name of the tag")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Delete."""
        self.backend.delete(path("tags", parsed_args.name))
        self.app.LOG.info("tag %s deleted", parsed_args.name)


class AssignTags(RecordShow):
    """Give a host these tags, and no others: what it had before is replaced.

    The backend signs them for the endorsement key that is approved for the host; a machine with
    another key that comes to have its name does not have its tags.
    """

    columns = (
        Column("host"),
        Column("region"),
        Column("ek_fingerprint"),
        Column("tags"),
        Column("tag_record", text=tag_record_line),
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the host, its tags and their time."""
        parser = super().get_parser(prog_name)
        add_host(parser)
        parser.add_argument(
            "tags", metavar="NAME=VALUE", nargs="+", type=pair, help="a tag that was created"
        )
        for option, text in (
            ("--valid-from", "when they begin (at once), as 2027-01-31T00:00:00Z"),
            ("--valid-until", "when they end (never)"),
        ):
            parser.add_argument(option, metavar="TIME", help=text)
        add_region(parser)
        return parser

    def record(self, parsed_args: argparse.Namespace) -> Record:
        """Assign them, and return what the host has then."""
        names = [name for name, _ in parsed_args.tags]
        if len(set(names)) != len(names):
            raise UsageError("a host has one value for each name of a tag")
        body: dict[str, Any] = {"tags": dict(parsed_args.tags)}
        for key in ("valid_from", "valid_until", "region"):
            if getattr(parsed_args, key) is not None:
                body[key] = getattr(parsed_args, key)
        return self.backend.put(path("hosts", parsed_args.host, "tags"), body)


class RevokeTags(ServiceCommand):
    """Take all tags of a host away. To take one away, assign the others anew."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the host."""
        parser = super().get_parser(prog_name)
        add_host(parser)
        add_region(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Revoke."""
        query = {"region": parsed_args.region}
        self.backend.delete(path("hosts", parsed_args.host, "tags", query=query))
        self.app.LOG.info("the tags of host %s are revoked", parsed_args.host)
