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
"""Compute hosts whose kernel measures files, their agents, and the operator."""

import itertools
import json
import os
import subprocess
import sys

from oat_trusted_filter.agent.api import BackendApi
from oat_trusted_filter.agent.attester import Attester
from oat_trusted_filter.agent.settings import Settings
from oat_trusted_filter.client.http import AttestationClient
from tests.functional.agent.running import run_agent, write_config
from tests.lab.boots import Boot, extend_pcr, replay
from tests.lab.measuring import Kernel

BANKS = ("sha1", "sha256", "sha384")
_SECONDS = 60
_numbers = itertools.count(1)


class MeasuredHost:
    """A software TPM that booted a recording, and a kernel that goes on measuring."""

    def __init__(self, backend, software, folder):
        self.backend = backend
        self.software = software
        self.folder = folder
        self.name = f"measured-{next(_numbers)}"
        self.ima_log = folder / f"{self.name}.ima"
        self.boot()

    def boot(self, name="machine-a"):
        """Power-cycle, and boot this recording."""
        recorded = Boot(name)
        self.software.power_cycle()
        replay(recorded, self.software.tcti)
        self.boot_log = recorded.boot_log_path
        self.kernel = Kernel(recorded.ima_log)
        self.write_log()

    def write_log(self, data=None):
        """What the agent reads: what the kernel has written, or something else."""
        self.ima_log.write_bytes(self.kernel.log if data is None else data)

    def run(self, *paths, content=b"program", signature=b""):
        """Use files."""
        for path in paths:
            self._measured(self.kernel.run(path, content, signature))

    def violate(self, path):
        """Measure a file that somebody writes to."""
        self._measured(self.kernel.violate(path))

    def kexec(self):
        """Load another kernel."""
        self._measured(self.kernel.kexec())

    def _measured(self, data):
        # First the log, then the TPM, as the kernel does.
        self.write_log()
        extend_pcr(self.software.tcti, 10, self.kernel.extends(data, BANKS))

    @property
    def settings(self):
        """The agent's."""
        return Settings(
            endpoint=self.backend.endpoint,
            ca_file=str(self.backend.cacert),
            timeout=30.0,
            region="",
            host=self.name,
            service_host=None,
            resource_provider=None,
            tcti=self.software.tcti,
            boot_log=self.boot_log,
            ima_log=self.ima_log,
            ek_template="auto",
            ak_algorithm="ecc",
            interval=1.0,
            retry_max=1.0,
        )

    def agent(self):
        """The agent, just started."""
        settings = self.settings
        client = AttestationClient(settings.endpoint, cacert=settings.ca_file)
        return Attester(settings, BackendApi(client, settings.region, settings.host))

    def program(self, *switches):
        """``oat-agent`` as the program it is."""
        settings = self.settings
        names = ("endpoint", "ca_file", "host", "tcti", "boot_log", "ima_log")
        config = write_config(self.folder, **{name: getattr(settings, name) for name in names})
        return run_agent(config, *switches)


class Operator:
    """An operator, who runs ``oat``; all he does has to succeed."""

    def __init__(self, backend):
        self._client = AttestationClient(
            backend.endpoint, token=backend.admin_token, cacert=str(backend.cacert)
        )
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("OAT_")},
            "OAT_ENDPOINT": backend.endpoint,
            "OAT_TOKEN": backend.admin_token,
            "OAT_CACERT": str(backend.cacert),
        }

    def run(self, *argv):
        """Run it to its end, whatever that is."""
        return subprocess.run(
            [sys.executable, "-m", "oat_trusted_filter.cmd.oat", *argv],
            check=False,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
        )

    def __call__(self, *argv):
        """Run it; what it prints."""
        ran = self.run(*argv)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def json(self, *argv):
        """The same for programs."""
        return json.loads(self(*argv, "-f", "json"))

    def call(self, method, path, body=None):
        """What ``oat`` would do, in a hundredth of the time."""
        return self._client.request(method, path, json=body)[2]

    def show(self, host):
        """All about a host."""
        return self.call("GET", f"/v1/hosts/{host.name}")

    def approve(self, host):
        """Approve a host that has enrolled."""
        body = {"ek_fingerprint": self.show(host)["ek_fingerprint"]}
        self.call("POST", f"/v1/hosts/{host.name}/approve", body)

    def take(self, host, **fields):
        """Take a reference set from a host."""
        self.call("POST", "/v1/reference-sets", {"from_hosts": [host.name], **fields})

    def policy(self, **ima):
        """Set what the policy asks of IMA logs."""
        document = self.call("GET", "/v1/policies/default") | {"ima": ima}
        self.call("PUT", "/v1/policies/default", document)

    def clean(self):
        """Leave nothing behind."""
        for host in self.call("GET", "/v1/hosts")["hosts"]:
            self.call("DELETE", f"/v1/hosts/{host['host']}")
        for reference in self.call("GET", "/v1/reference-sets")["reference_sets"]:
            self.call("DELETE", f"/v1/reference-sets/{reference['name']}")
        self.policy(mode="off")
