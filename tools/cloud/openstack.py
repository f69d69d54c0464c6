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
"""The OpenStack services of the cloud: databases, users, then the programs."""

import os
import secrets
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from keystoneauth1.adapter import Adapter
from keystoneauth1.exceptions import ClientException

from tests.lab.wait import WaitTimeout, wait_for
from tools.cloud import neutron_stub, settings
from tools.cloud.access import COMPUTES, REGION
from tools.cloud.identity import admin_session, introduce
from tools.cloud.infrastructure import Infrastructure
from tools.cloud.release import NovaRelease, layer_command, serve_command
from tools.cloud.service import ADDRESS, CloudError, Service, describe_log, free_ports, run
from tools.cloud.settings import Site

_DATABASES = ("keystone", "placement", "glance", "nova_api", "nova_cell0", "nova_cell1")
_APIS = ("keystone", "placement", "glance", "nova", "neutron")
_START_SECONDS = 90.0
_HYPERVISORS_SECONDS = 120.0


class OpenStack:
    """Keystone, placement, glance and Nova, on an infrastructure of their own.

    :param folder: of the cloud.
    """

    def __init__(self, folder: Path, release: NovaRelease) -> None:
        self._folder = folder
        self._release = release
        self.infrastructure = Infrastructure(folder, _DATABASES)
        self.site = Site(
            folder=folder,
            infrastructure=self.infrastructure,
            ports=dict(zip(_APIS, free_ports(len(_APIS)), strict=True)),
            password=secrets.token_urlsafe(16),
        )
        self.services: list[Service] = []

    # -- first all that needs no other service but the database, side by side ------------------

    def preparations(self) -> Sequence[Callable[[], None]]:
        """What is to be done once the infrastructure runs; each raises CloudError."""
        return (self._prepare_keystone, self._prepare_nova, self._prepare_rest)

    def _prepare_keystone(self) -> None:
        config = self._folder / "etc" / "keystone" / "keystone.conf"
        settings.write(config, settings.keystone(self.site))
        manage = layer_command(
            "keystone-manage", "keystone.cmd.manage", "--config-file", str(config)
        )
        (config.parent / "fernet-keys").mkdir(0o700)
        ids = ("--keystone-user", str(os.geteuid()), "--keystone-group", str(os.getegid()))
        run(self._folder, "keystone-fernet-setup", [*manage, "fernet_setup", *ids])
        run(self._folder, "keystone-db-sync", [*manage, "db_sync"])
        urls = [
            word
            for interface in ("internal", "public")
            for word in (f"--bootstrap-{interface}-url", self.site.auth_url)
        ]
        run(
            self._folder,
            "keystone-bootstrap",
            [*manage, "bootstrap", *urls, "--bootstrap-region-id", REGION],
            {"OS_BOOTSTRAP_PASSWORD": self.site.password},
        )
        self._start_api("keystone", "keystone.wsgi.api:application", self._config_dir("keystone"))
        introduce(self.site)

    def _prepare_rest(self) -> None:
        config = self._folder / "etc" / "placement" / "placement.conf"
        settings.write(config, settings.placement(self.site))
        manage = layer_command(
            "placement-manage", "placement.cmd.manage", "--config-file", str(config)
        )
        run(self._folder, "placement-db-sync", [*manage, "db", "sync"])
        config = self._folder / "etc" / "glance" / "glance-api.conf"
        settings.write(config, settings.glance(self.site))
        manage = layer_command("glance-manage", "glance.cmd.manage", "--config-file", str(config))
        run(self._folder, "glance-db-sync", [*manage, "db_sync"])

    def _prepare_nova(self) -> None:
        config = self._nova_config("controller")
        settings.write(config, settings.nova_controller(self.site, {}))
        shutil.copy(self._release.paste, config.with_name("api-paste.ini"))
        cell0 = self.infrastructure.database_url("nova_cell0")
        for name, words in (
            ("api-db-sync", ("api_db", "sync")),
            ("map-cell0", ("cell_v2", "map_cell0", "--database_connection", cell0)),
            ("create-cell1", ("cell_v2", "create_cell", "--name", "cell1")),
            ("db-sync", ("db", "sync")),
        ):
            run(
                self._folder,
                f"nova-{name}",
                self._release.command("nova-manage", "--config-file", str(config), *words),
                self._release.environment,
            )

    # -- then the services ---------------------------------------------------------------------

    def start(self, trusted_computing: Mapping[str, object]) -> None:
        """Start the services and wait until all hypervisors are there.

        :param trusted_computing: the options of TrustedFilter.
        :raises CloudError: one failed.
        """
        config = settings.nova_controller(self.site, trusted_computing)
        settings.write(self._nova_config("controller"), config)
        stub = Service(
            self._folder,
            "neutron-stub",
            [sys.executable, neutron_stub.__file__, str(self.site.ports["neutron"])],
        )
        self._start(stub)
        apis = [
            self._start_api("placement", "placement.wsgi.api:application",
                            self._config_dir("placement"), wait=False),
            self._start_api("glance", "glance.wsgi.api:application",
                            self._config_dir("glance"), wait=False),
        ]  # fmt: skip
        self.infrastructure.wait_for_queue()
        conductor = self._start_nova("nova-conductor", "controller")
        # A compute service that finds no conductor waits for ten seconds.
        conductor.wait_until(
            lambda: "Starting conductor node" in conductor.log, _START_SECONDS, "its start"
        )
        self._start_nova("nova-scheduler", "controller")
        if self._release.wsgi is None:
            apis.append(self._start_nova("nova-api", "controller"))
        else:
            environment = {"OS_NOVA_CONFIG_DIR": str(self._nova_config("controller").parent)}
            apis.append(self._start_api("nova", self._release.wsgi, environment, wait=False))
        for host in COMPUTES:
            settings.write(self._nova_config(host), settings.nova_compute(self.site, host))
            self._start_nova("nova-compute", host)
        for service, name in zip(apis, ("placement", "glance", "nova"), strict=True):
            service.wait_for_port(self.site.ports[name])
        self._wait_for_hypervisors()

    def create_image(self) -> str:
        """Put a small image into glance; returns its id."""
        images = Adapter(
            admin_session(self.site.auth_url, self.site.password), service_type="image"
        )
        image = images.post(
            "/v2/images",
            json={
                "name": "tiny",
                "disk_format": "raw",
                "container_format": "bare",
                "visibility": "public",
            },
        ).json()
        images.put(
            f"/v2/images/{image['id']}/file",
            data=bytes(1024),
            headers={"Content-Type": "application/octet-stream"},
        )
        return str(image["id"])

    def _wait_for_hypervisors(self) -> None:
        compute = Adapter(
            admin_session(self.site.auth_url, self.site.password),
            service_type="compute",
            default_microversion="2.53",
        )

        def there() -> bool:
            try:
                found = compute.get("/os-hypervisors").json()["hypervisors"]
                listed = compute.get("/os-services?binary=nova-scheduler").json()["services"]
            except ClientException:
                return False
            return {node["hypervisor_hostname"] for node in found} == set(COMPUTES) and bool(listed)

        try:
            wait_for(there, _HYPERVISORS_SECONDS, "all hypervisors", poll_seconds=0.3)
        except WaitTimeout as error:
            log = self._folder / "log" / f"nova-compute-{COMPUTES[0]}.log"
            raise CloudError(f"Nova: {error}: {describe_log(log)}") from None

    def _config_dir(self, service: str) -> dict[str, str]:
        folder = self._folder / "etc" / service
        return {f"OS_{service.upper()}_CONFIG_DIR": str(folder)}

    def _nova_config(self, host: str) -> Path:
        return self._folder / "etc" / "nova" / host / "nova.conf"

    def _start_nova(self, program: str, host: str) -> Service:
        name = f"{program}-{host}" if program == "nova-compute" else program
        config = self._nova_config(host)
        service = Service(
            self._folder,
            name,
            self._release.command(program, "--config-file", str(config)),
            self._release.environment,
        )
        (self._folder / "nova" / host).mkdir(parents=True, exist_ok=True)
        self._start(service)
        return service

    def _start_api(
        self, name: str, application: str, environment: Mapping[str, str], *, wait: bool = True
    ) -> Service:
        service = Service(
            self._folder,
            f"{name}-api",
            serve_command(application, ADDRESS, self.site.ports[name]),
            environment,
        )
        self._start(service)
        if wait:
            service.wait_for_port(self.site.ports[name])
        return service

    def _start(self, service: Service) -> None:
        self.services.append(service)
        service.start()

    def stop(self) -> None:
        """Stop all of it; harmless if it is off."""
        for services in (self.services, self.infrastructure.services):
            for service in services:
                service.terminate()
            for service in services:
                service.stop()


def side_by_side(tasks: Sequence[Callable[[], None]], abort: Callable[[], None]) -> None:
    """Do all this at once, for each waits for others most of the time.

    :param abort: called if one fails or the user interrupts; has to let the others end soon.
    """
    with ThreadPoolExecutor(len(tasks)) as pool:
        try:
            for future in [pool.submit(task) for task in tasks]:
                future.result()
        except BaseException:
            abort()
            raise
