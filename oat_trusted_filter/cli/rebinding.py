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

from oat_trusted_filter.cli.arguments import add_host, add_key, add_region, region_in
from oat_trusted_filter.cli.backend import path
from oat_trusted_filter.cli.host import ApproveHost
from oat_trusted_filter.cli.output import Record, RecordShow


class RebindHost(RecordShow):
    """Put another endorsement key in the place of the approved one.

    After a new main board, or whenever a host has another TPM. Its agent has to have enrolled, so
    that the new key waits under the name. The record of the host goes on; it has to attest anew.
    """

    columns = ApproveHost.columns

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the host and the key."""
        parser = super().get_parser(prog_name)
        add_host(parser)
        add_key(
            parser,
            "the endorsement key that takes over; the agent has written it to its log",
            required=True,
        )
        add_region(parser)
        return parser

    def record(self, parsed_args: argparse.Namespace) -> Record:
        """Rebind, and return the host as it is then."""
        body = {"ek_fingerprint": parsed_args.ek_fingerprint} | region_in(parsed_args)
        return self.backend.post(path("hosts", parsed_args.host, "rebind"), body)


class RenameHost(RecordShow):
    """Let an approved host go on under another name.

    Schedulers forget the old name at once. Give the agent on the host the new one ([agent] host);
    it may have done so before, and wait under the new name already.
    """

    columns = ApproveHost.columns

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the names."""
        parser = super().get_parser(prog_name)
        add_host(parser, "name so far")
        parser.add_argument("new_name", metavar="NEW-NAME", help="name from now on")
        add_region(parser, "region so far")
        parser.add_argument(
            "--new-region", metavar="REGION", help="region from now on (default: the same)"
        )
        return parser

    def record(self, parsed_args: argparse.Namespace) -> Record:
        """Rename, and return the host as it is then."""
        body = {"host": parsed_args.new_name} | region_in(parsed_args)
        if parsed_args.new_region is not None:
            body["new_region"] = parsed_args.new_region
        return self.backend.post(path("hosts", parsed_args.host, "rename"), body)
