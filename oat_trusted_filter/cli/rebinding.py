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
"""``oat host rebind`` and ``oat host rename``: another key for a name, another name for a key."""

import argparse
from typing import Any

from oat_trusted_filter.cli.app import OatApp
from oat_trusted_filter.cli.backend import path
from oat_trusted_filter.cli.host import ApproveHost, add_region, fingerprint
from oat_trusted_filter.cli.output import Record, RecordShow


class RebindHost(RecordShow):
    """Put another endorsement key in the place of the approved one.

    After a new main board, or whenever a host has another TPM. Its agent has to have enrolled, so
    that the new key waits under the name. The record of the host goes on; it has to attest anew.
    """

    app: OatApp
    columns = ApproveHost.columns

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the host and the key."""
        parser = super().get_parser(prog_name)
        parser.add_argument("host", metavar="HOST", help="name of the hypervisor")
        parser.add_argument(
            "--ek-fingerprint",
            metavar="SHA256",
            type=fingerprint,
            required=True,
            help="the endorsement key that takes over; the agent has written it to its log",
        )
        add_region(parser)
        return parser

    def record(self, parsed_args: argparse.Namespace) -> Record:
        """Rebind, and return the host as it is then."""
        body = {"ek_fingerprint": parsed_args.ek_fingerprint} | _region(parsed_args)
        return self.app.backend.post(path("hosts", parsed_args.host, "rebind"), body)


class RenameHost(RecordShow):
    """Let an approved host go on under another name.

    Schedulers forget the old name at once. Give the agent on the host the new one ([agent] host);
    it may have done so before, and wait under the new name already.
    """

    app: OatApp
    columns = ApproveHost.columns

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the names."""
        parser = super().get_parser(prog_name)
        parser.add_argument("host", metavar="HOST", help="name so far")
        parser.add_argument("new_name", metavar="NEW-NAME", help="name from now on")
        add_region(parser, "region so far")
        parser.add_argument(
            "--new-region", metavar="REGION", help="region from now on (default: the same)"
        )
        return parser

    def record(self, parsed_args: argparse.Namespace) -> Record:
        """Rename, and return the host as it is then."""
        body = {"host": parsed_args.new_name} | _region(parsed_args)
        if parsed_args.new_region is not None:
            body["new_region"] = parsed_args.new_region
        return self.app.backend.post(path("hosts", parsed_args.host, "rename"), body)


def _region(parsed_args: argparse.Namespace) -> dict[str, Any]:
    return {} if parsed_args.region is None else {"region": parsed_args.region}
