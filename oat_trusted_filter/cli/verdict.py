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
"""``oat verdict``: what relying parties such as the scheduler are told."""

import argparse
from collections.abc import Iterable

from oat_trusted_filter.cli.backend import path
from oat_trusted_filter.cli.output import Column, Record, RecordLister


class ListVerdicts(RecordLister):
    """List the verdicts as relying parties get them.

    A verdict that lapses in a number of seconds becomes unknown then unless the host attests.
    """

    columns = (
        Column("host"),
        Column("region"),
        Column("level"),
        Column("reason"),
        Column("lapses_in"),
        Column("tags"),
        Column("service_host", long=True),
        Column("resource_provider", long=True),
    )

    def records(self, parsed_args: argparse.Namespace) -> Iterable[Record]:
        """The verdicts by region and name."""
        snapshot = self.backend.get(path("verdicts"))
        lapsing = {
            (item.get("region"), item.get("host")): item.get("seconds")
            for item in snapshot.get("lapsing") or ()
            if not item.get("tags_only")
        }
        hosts = snapshot.get("hosts") or ()
        return [
            {**host, "lapses_in": lapsing.get((host.get("region"), host.get("host")))}
            for host in sorted(hosts, key=lambda item: (item["region"], item["host"]))
        ]
