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
"""Compute hosts with software TPMs, as their agents see them, and their operator."""

import itertools

from oat_trusted_filter.agent.api import BackendApi
from oat_trusted_filter.agent.attester import Attester
from oat_trusted_filter.agent.settings import Settings
from oat_trusted_filter.client.http import AttestationClient
from tests.functional.agent.running import write_config
from tests.lab.boots import Boot, replay

_numbers = itertools.count(1)


class Operator:
    """What an operator does with the ``oat`` command."""

    def __init__(self, backend):
        self._client = AttestationClient(
            backend.endpoint, token=backend.admin_token, cacert=str(backend.cacert), timeout=30.0
        )

    def call(self, method, path, body=None):
        return self._client.request(method, path, json=body)[2]

    def show(self, host):
        return self.call("GET", f"/v1/hosts/{host}")

    def approve(self, host):
        fingerprint = self.show(host)["ek_fingerprint"]
        self.call("POST", f"/v1/hosts/{host}/approve", {"ek_fingerprint": fingerprint})

    def take_reference(self, host):
        name = f"reference-{next(_numbers)}"
        self.call("POST", "/v1/reference-sets", {"name": name, "from_hosts": [host]})
        return name


class Host:
    """A compute host: a TPM with the PCRs of a recorded boot, and the boot's log."""

    def __init__(self, software, backend, **options):
        self.name = f"host-{next(_numbers)}"
        self.software = software
        self.backend = backend
        self.options = options
        self.boot_log = None

    def boot(self, name):
        boot = Boot(name)
        self.software.power_cycle()
        replay(boot, self.software.tcti)
        self.boot_log = boot.boot_log_path

    @property
    def settings(self):
        values = {
            "endpoint": self.backend.endpoint,
            "ca_file": str(self.backend.cacert),
            "timeout": 30.0,
            "region": "",
            "host": self.name,
            "service_host": None,
            "resource_provider": None,
            "tcti": self.software.tcti,
            "boot_log": self.boot_log,
            "ek_template": "auto",
            "ak_algorithm": "ecc",
            "interval": 0.2,
            "retry_max": 0.5,
        }
        return Settings(**{**values, **self.options})

    def api(self):
        settings = self.settings
        client = AttestationClient(
            settings.endpoint, cacert=settings.ca_file, timeout=settings.timeout
        )
        return BackendApi(client, settings.region, settings.host)

    def agent(self):
        """The agent of this host, just started."""
        return Attester(self.settings, self.api())

    def config(self, folder, **options):
        settings = self.settings
        names = (
            "endpoint", "ca_file", "host", "tcti", "boot_log",
            "ek_template", "ak_algorithm", "interval", "retry_max",
        )  # fmt: skip
        return write_config(
            folder, **{**{name: getattr(settings, name) for name in names}, **options}
        )
