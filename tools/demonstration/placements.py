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
"""Servers of the demonstration: what was asked for, what must become of it, what became of it."""

from collections.abc import Collection
from dataclasses import dataclass

from tests.lab.nova import NovaCloud, Server
from tools.demonstration.console import say, table

_NOWHERE = "no valid host"


@dataclass(frozen=True, slots=True)
class Placement:
    """One server.

    :param expected: hosts it may be on; empty if it must be refused, None if anything will do.
    """

    flavor: str
    wish: str
    expected: frozenset[str] | None
    server: Server

    @property
    def right(self) -> bool:
        """Whether it is where it must be."""
        if self.expected is None:
            return True
        if not self.expected:
            return self.server.host is None and self.server.status == "ERROR"
        return self.server.status == "ACTIVE" and self.server.host in self.expected

    @property
    def where(self) -> str:
        """The host, or that there is none."""
        return self.server.host or _NOWHERE


class Placements:
    """Boots servers and keeps account of them."""

    def __init__(self, cloud: NovaCloud) -> None:
        self._cloud = cloud
        self._flavors = {
            "plain": cloud.create_flavor(trusted=False, name="plain"),
            "trusted": cloud.create_flavor(trusted=True, name="trusted"),
        }
        self.all: list[Placement] = []

    def boot(
        self, flavor: str, expected: Collection[str] | None, *, host: str | None = None
    ) -> None:
        """Boot a server with this flavor.

        :param host: ask Nova for this host; its filters have the last word all the same.
        :param expected: where it may land; empty if it must be refused, None if it may be
            anywhere or nowhere.
        """
        name = f"{flavor}-{len(self.all) + 1}"
        logged = len(self._cloud.filter_log)
        server = self._cloud.create_server(self._flavors[flavor], name=name, host=host)
        allowed = None if expected is None else frozenset(expected)
        placement = Placement(flavor, host or "any", allowed, server)
        self.all.append(placement)
        say(
            f"{name}: flavor {flavor}, wants {placement.wish} host -> {placement.where}"
            + ("" if placement.right else f"   WRONG, {server.fault or 'see the table'}")
        )
        for line in self._cloud.filter_log[logged:]:
            level, _, text = line.partition(" ")
            if level != "DEBUG":
                say(f"    nova-scheduler: {level} {text}")

    @property
    def wrong(self) -> list[Placement]:
        """Those that are not as they must be."""
        return [placement for placement in self.all if not placement.right]

    def show(self) -> None:
        """The table of all servers."""
        table(
            ("server", "flavor", "wanted host", "host", "outcome"),
            (
                (
                    placement.server.name,
                    placement.flavor,
                    placement.wish,
                    placement.where,
                    "as it must be" if placement.right else "WRONG",
                )
                for placement in self.all
            ),
        )
