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
"""``oat host compare-nova``: hypervisors nobody enrolled, and enrolments without a hypervisor."""

import argparse
from collections.abc import Iterable

from oat_trusted_filter.cli.arguments import add_region
from oat_trusted_filter.cli.backend import path
from oat_trusted_filter.cli.output import Column, Record, RecordLister

_NOT_ENROLLED = "not-enrolled"
_PENDING = "waits-for-approval"
_REGISTERED = "waits-for-agent"
_NO_HYPERVISOR = "no-hypervisor"


class CompareNova(RecordLister):
    """List what Nova and the attestation backend know differently.

    Nova is found through OS_* of the environment or clouds.yaml. The names have to be the same,
    letter by letter. Nothing is listed if all hypervisors are enrolled and approved, and no others.
    """

    columns = (Column("host"), Column("difference"))

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add ``--region``."""
        parser = super().get_parser(prog_name)
        add_region(parser, "region of the Nova that is meant")
        return parser

    def records(self, parsed_args: argparse.Namespace) -> Iterable[Record]:
        """The differences by name of the host."""
        region = parsed_args.region or ""
        hypervisors = set(self.nova.hypervisors())
        states: dict[str, set[str]] = {}
        for host in self.backend.items(path("hosts"), "hosts"):
            if host.get("region") == region:
                states.setdefault(str(host["host"]), set()).add(str(host.get("state")))
        return [
            {"host": name, "difference": difference}
            for name in sorted(hypervisors | states.keys())
            if (difference := _difference(name in hypervisors, states.get(name, set())))
        ]


def _difference(in_nova: bool, states: set[str]) -> str | None:
    if not in_nova:
        return _NO_HYPERVISOR
    if "approved" in states:
        return None
    if "pending" in states:
        return _PENDING
    return _REGISTERED if "registered" in states else _NOT_ENROLLED
