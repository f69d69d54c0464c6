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
"""Nova as the commands see it: reached as by every OpenStack client, through ``OS_*`` of the
environment or ``clouds.yaml``.
"""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from keystoneauth1 import exceptions
from keystoneauth1.adapter import Adapter

from oat_trusted_filter.cli.errors import Refused, Unreachable, UsageError
from oat_trusted_filter.cli.text import printable

#: Pages of hypervisors came with 2.33, extra specs in flavors with 2.61.
_MICROVERSION = "2.61"
_PAGE = 1000
_HTTP_NOT_FOUND = 404


class Nova:
    """The few requests to Nova the commands make."""

    def __init__(self, adapter: Adapter) -> None:
        self._adapter = adapter

    @classmethod
    def of_environment(cls) -> "Nova":
        """The cloud the environment names.

        :raises UsageError: it names none, or not completely.
        """
        # It takes longer to load than all the rest, and few commands talk to Nova.
        from openstack.config import OpenStackConfig  # noqa: PLC0415
        from openstack.exceptions import ConfigException  # noqa: PLC0415

        try:
            cloud = OpenStackConfig().get_one()
            return cls(
                Adapter(
                    cloud.get_session(),
                    service_type="compute",
                    interface=cloud.get_interface("compute"),
                    region_name=cloud.get_region_name("compute"),
                    endpoint_override=cloud.get_endpoint("compute"),
                )
            )
        except (ConfigException, exceptions.ClientException) as error:
            raise UsageError(
                f"which cloud? Set OS_CLOUD, or OS_AUTH_URL and the rest: {printable(str(error))}"
            ) from error

    def hypervisors(self) -> list[str]:
        """Hypervisor host names.

        :raises Refused: Nova said no, ``nova-refused``.
        :raises Unreachable: Nova or Keystone is not reached, ``nova-unreachable``.
        """
        return [str(item["hypervisor_hostname"]) for item in self._hypervisors()]

    def extra_specs(self, flavor: str) -> Mapping[str, str]:
        """The extra specs of a flavor, by its id or its name.

        :raises Refused: there is no such flavor, ``flavor-unknown``, or as above.
        """
        found = self._get(f"/flavors/{quote(flavor, safe='')}", missing_ok=True)
        if found is not None:
            return _specs(found["flavor"])
        listed = self._get("/flavors/detail?is_public=None") or {}
        for item in listed.get("flavors", ()):
            if item.get("name") == flavor:
                return _specs(item)
        raise Refused("flavor-unknown", f"Nova has no flavor {printable(flavor)}")

    def _hypervisors(self) -> Iterator[Mapping[str, Any]]:
        marker = ""
        while True:
            page = self._get(f"/os-hypervisors?limit={_PAGE}{marker}") or {}
            items = page.get("hypervisors", [])
            yield from items
            if len(items) < _PAGE:
                return
            marker = f"&marker={quote(str(items[-1]['id']), safe='')}"

    def _get(self, path: str, *, missing_ok: bool = False) -> Any:
        try:
            response = self._adapter.get(path, microversion=_MICROVERSION, raise_exc=False)
        except exceptions.ClientException as error:
            raise Unreachable("nova-unreachable", printable(str(error))) from error
        if response.status_code == _HTTP_NOT_FOUND and missing_ok:
            return None
        if response.status_code >= 300:
            raise Refused(
                "nova-refused",
                f"Nova answers {response.status_code} to GET {path}: {printable(response.text)}",
            )
        try:
            return response.json()
        except ValueError as error:
            raise Unreachable(
                "nova-unreachable", f"what answered GET {path} is not Nova"
            ) from error


def _specs(flavor: Mapping[str, Any]) -> Mapping[str, str]:
    specs = flavor.get("extra_specs")
    return specs if isinstance(specs, Mapping) else {}
