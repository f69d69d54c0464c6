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
"""A user of the cloud: boots servers, and looks at the traits of the hosts."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from keystoneauth1.adapter import Adapter
from keystoneauth1.session import Session

from tests.lab.wait import wait_for
from tools.cloud.access import Access
from tools.cloud.identity import admin_session

_BOOT_SECONDS = 60.0
_PLACEMENT_MICROVERSION = "1.18"


@dataclass(frozen=True, slots=True)
class Server:
    """What became of a request for a server."""

    id: str
    status: str
    """``ACTIVE`` or ``ERROR``."""
    host: str | None
    """Hypervisor host name, None if it is on none."""
    fault: str
    """Nova's message if that is ``ERROR``."""

    @property
    def refused(self) -> bool:
        """Whether there was no valid host for it."""
        return self.status == "ERROR" and "No valid host" in self.fault


class Tenant:
    """The cloud's administrator, who alone may name a host.

    :param access: to the cloud.
    """

    def __init__(self, access: Access) -> None:
        session = admin_session(access.auth_url, access.password)
        self._image = access.image
        self._compute = Adapter(
            session, service_type="compute", default_microversion=access.microversion
        )
        self._placement = Traits(session)

    def create_flavor(self, name: str, extra_specs: Mapping[str, str]) -> str:
        """Make a flavor, or take the one that has this name; returns its id."""
        listed = self._compute.get("/flavors").json()["flavors"]
        if not any(flavor["id"] == name for flavor in listed):
            flavor = {"name": name, "id": name, "ram": 64, "vcpus": 1, "disk": 0}
            self._compute.post("/flavors", json={"flavor": flavor})
        if extra_specs:
            self._compute.post(
                f"/flavors/{name}/os-extra_specs", json={"extra_specs": dict(extra_specs)}
            )
        return name

    def boot(self, flavor: str, *, host: str | None = None, zone: str | None = None) -> Server:
        """Ask for a server and wait until it runs or is refused.

        :param host: to be placed there, if the filters agree.
        :param zone: the availability zone; ``nova:HOST`` is a host the filters are not asked about.
        """
        wish: dict[str, Any] = {
            "name": f"{flavor}-server",
            "flavorRef": flavor,
            "imageRef": self._image,
            "networks": "none",
        }
        wish |= {"host": host} if host else {}
        wish |= {"availability_zone": zone} if zone else {}
        made = self._compute.post("/servers", json={"server": wish}).json()["server"]
        return wait_for(
            lambda: self._settled(made["id"]), _BOOT_SECONDS, f"server {made['id']}",
            poll_seconds=0.1,
        )  # fmt: skip

    def hosts_with(self, trait: str) -> Collection[str]:
        """The compute hosts whose resource providers have the trait."""
        return self._placement.hosts_with(trait)

    def _settled(self, server: str) -> Server | None:
        found = self._compute.get(f"/servers/{server}").json()["server"]
        if found["status"] not in ("ACTIVE", "ERROR"):
            return None
        return Server(
            id=server,
            status=found["status"],
            host=found["OS-EXT-SRV-ATTR:hypervisor_hostname"],
            fault=found.get("fault", {}).get("message", ""),
        )


class Traits:
    """Traits in placement, with the rights of whoever the session belongs to."""

    def __init__(self, session: Session) -> None:
        self._placement = Adapter(
            session, service_type="placement", default_microversion=_PLACEMENT_MICROVERSION
        )

    def hosts_with(self, trait: str) -> Collection[str]:
        """The compute hosts whose resource providers have the trait."""
        found = self._placement.get(f"/resource_providers?required={trait}").json()
        return sorted(provider["name"] for provider in found["resource_providers"])

    def add(self, host: str, trait: str) -> None:
        """Give the resource provider of a host a trait beside those it has."""
        listed = self._placement.get(f"/resource_providers?name={host}").json()
        path = f"/resource_providers/{listed['resource_providers'][0]['uuid']}/traits"
        traits = self._placement.get(path).json()
        traits["traits"].append(trait)
        self._placement.put(path, json=traits)
