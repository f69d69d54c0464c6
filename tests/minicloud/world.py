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
"""The cloud as its users, its operator and its misfortunes see it."""

import json
from collections.abc import Collection

from tests.lab.wait import wait_for
from tools.cloud.access import Access
from tools.cloud.cloud import MiniCloud
from tools.cloud.tenant import Server, Tenant

TRUSTED = "CUSTOM_OAT_TRUSTED"
#: For anything that takes rounds of attestation or of the enforcer, on a busy machine.
SECONDS = 90.0


class World:
    """The cloud and those who use it.

    :param cloud: for what may happen to it.
    """

    def __init__(self, cloud: MiniCloud) -> None:
        self.cloud = cloud
        self.access: Access = cloud.access()
        self.tenant = Tenant(self.access)
        self.tenant.create_flavor("plain", {})
        self.tenant.create_flavor("trusted", {"trust:trusted_host": "trusted"})

    def boot(self, flavor: str, *, host: str | None = None, zone: str | None = None) -> Server:
        """Boot a server and wait until it is somewhere or refused."""
        return self.tenant.boot(flavor, host=host, zone=zone)

    def log(self, service: str) -> str:
        """The log of a service."""
        return self.access.log(service).read_text(errors="replace")

    def levels(self) -> dict[str, str]:
        """What the backend says of each host."""
        hosts = json.loads(self.cloud.oat("host", "list", "-f", "json"))
        return {host["host"]: host["level"] for host in hosts}

    def incidents(self) -> int:
        """Incidents the enforcer has reported to the backend since its start."""
        (enforcer,) = json.loads(self.cloud.oat("enforcer", "list", "-f", "json"))
        return int(enforcer["counts"]["incidents"])

    def wait_for_level(self, host: str, level: str) -> None:
        """Wait until the backend says this of the host."""
        wait_for(lambda: self.levels()[host] == level, SECONDS, f"{host} to be {level}")

    def wait_for_trait_on(self, hosts: Collection[str]) -> None:
        """Wait until exactly these hosts have the trait."""
        wait_for(
            lambda: self.tenant.hosts_with(TRUSTED) == sorted(hosts),
            SECONDS,
            f"{TRUSTED} on {', '.join(hosts) or 'no host'}",
            poll_seconds=0.1,
        )
