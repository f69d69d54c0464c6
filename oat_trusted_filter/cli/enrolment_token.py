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
"""``oat enrolment-token``: let hosts in without approving each of them."""

import argparse
import os
from pathlib import Path
from typing import Any

from oat_trusted_filter.cli.arguments import add_region
from oat_trusted_filter.cli.backend import path
from oat_trusted_filter.cli.binding import duration
from oat_trusted_filter.cli.command import ServiceCommand
from oat_trusted_filter.cli.errors import UsageError
from oat_trusted_filter.cli.output import Column, Record, RecordShow
from oat_trusted_filter.cli.paging import PagedLister


class CreateToken(RecordShow):
    """Make a token that lets one host in without an operator's approval.

    The token is shown once. Put it into a file on the host that [agent] enrolment_token_file
    names. It is good once, and only for a TPM with a certificate of its maker.
    """

    columns = (
        Column("token"),
        Column("id"),
        Column("host"),
        Column("region"),
        Column("expires_at"),
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add what the token is good for."""
        parser = super().get_parser(prog_name)
        parser.add_argument("--host", metavar="HOST", help="only for the host of this name")
        parser.add_argument(
            "--expires",
            metavar="TIME",
            type=duration,
            default=duration("1d"),
            dest="lifetime",
            help="how long it is good: 30m, 12h, 7d (default: 1d)",
        )
        parser.add_argument(
            "--output-file",
            metavar="FILE",
            type=Path,
            help="write the token into this new file, for nobody else to read, and do not show it",
        )
        add_region(parser, "only for hosts of this region")
        return parser

    def record(self, parsed_args: argparse.Namespace) -> Record:
        """Create it."""
        body: dict[str, Any] = {"lifetime": parsed_args.lifetime}
        for name in ("host", "region"):
            if getattr(parsed_args, name) is not None:
                body[name] = getattr(parsed_args, name)
        if parsed_args.output_file is None:
            return self.backend.post(path("enrolment-tokens"), body)
        try:
            # Before it is made: a token nobody can read is of no use.
            number = os.open(parsed_args.output_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise UsageError(f"cannot write {parsed_args.output_file}: {error.strerror}") from error
        with os.fdopen(number, "w") as file:
            made = dict(self.backend.post(path("enrolment-tokens"), body))
            file.write(f"{made.pop('token')}\n")
        return made


class ListTokens(PagedLister):
    """List enrolment tokens: which were used, and by whom; the oldest first."""

    resource = "enrolment-tokens"
    marker = ("ID", "id")
    columns = (
        Column("id"),
        Column("state"),
        Column("host"),
        Column("region"),
        Column("expires_at"),
        Column("used_by"),
        Column("used_at", long=True),
        Column("created_by", long=True),
        Column("created_at", long=True),
    )


class RevokeToken(ServiceCommand):
    """Revoke an enrolment token. Hosts it has let in stay."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add its number."""
        parser = super().get_parser(prog_name)
        parser.add_argument("id", metavar="ID", help="id of the token, not the token itself")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Revoke it."""
        self.backend.delete(path("enrolment-tokens", parsed_args.id))
        self.app.LOG.info("enrolment token %s revoked", parsed_args.id)
