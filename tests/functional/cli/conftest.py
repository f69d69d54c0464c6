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
"""A backend, hosts with software TPMs, and the program as an operator runs it."""

import json
import os
import subprocess
import sys

import pytest

from tests.functional.agent.running import run_agent, write_config
from tests.lab.backend import Backend
from tests.lab.boots import Boot, replay
from tests.lab.swtpm import SoftwareTpm

COMMAND = [sys.executable, "-m", "oat_trusted_filter.cmd.oat"]
_SECONDS = 60


class Host:
    """A compute host: a software TPM that booted, and its agent."""

    def __init__(self, folder, ca_dir, name):
        self.name = name
        self.folder = folder / name
        self.software = SoftwareTpm(self.folder, ca_dir)
        self.software.create()

    def boot(self, boot, backend):
        """Boot this recording, and be configured for the backend."""
        recorded = Boot(boot)
        if self.software.running:
            self.software.power_cycle()
        else:
            self.software.start()
        replay(recorded, self.software.tcti)
        self.config = write_config(
            self.folder,
            endpoint=backend.endpoint,
            ca_file=backend.cacert,
            host=self.name,
            tcti=self.software.tcti,
            boot_log=recorded.boot_log_path,
        )

    def attest(self):
        """One round of the agent; what it says."""
        return run_agent(self.config, "--once").stdout


class Operator:
    """Runs ``oat`` with the credential of the backend in the environment."""

    def __init__(self, backend):
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("OAT_")},
            "OAT_ENDPOINT": backend.endpoint,
            "OAT_TOKEN": backend.admin_token,
            "OAT_CACERT": str(backend.cacert),
        }

    def run(self, *argv, **environment):
        """Run it to its end, whatever that is."""
        return subprocess.run(
            [*COMMAND, *argv],
            check=False,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
        )

    def start(self, *argv, stdout, stderr):
        """Let it run."""
        return subprocess.Popen(
            [*COMMAND, *argv],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
        )

    def __call__(self, *argv):
        """Run it, and it must do what it says; what it prints."""
        ran = self.run(*argv)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def json(self, *argv):
        """The same for programs."""
        return json.loads(self(*argv, "-f", "json"))


@pytest.fixture(scope="module")
def hosts(tmp_path_factory):
    """Two hosts that have not booted yet, with TPMs of one vendor."""
    folder = tmp_path_factory.mktemp("hosts")
    made = {name: Host(folder, folder / "ca", name) for name in ("node-a", "node-b")}
    yield made
    for host in made.values():
        host.software.stop()


@pytest.fixture(scope="module")
def backend(tmp_path_factory, hosts):
    """A backend that takes the certificates of these TPMs."""
    ek_ca = tmp_path_factory.mktemp("ek-ca")
    for path in hosts["node-a"].software.ca_certificates:
        (ek_ca / path.name).write_bytes(path.read_bytes())
    running = Backend(
        tmp_path_factory.mktemp("backend"),
        options={
            ("attestation", "allow_software_tpm"): True,
            ("attestation", "ek_ca_dir"): str(ek_ca),
        },
    )
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def oat(backend):
    """The operator at his terminal."""
    return Operator(backend)


@pytest.fixture
def clean(oat):
    """Nothing is left on the backend by the test before."""
    yield
    for host in oat.json("host", "list"):
        oat("host", "delete", host["host"], "--ek-fingerprint", host["ek_fingerprint"])
    for reference in oat.json("reference", "list"):
        oat("reference", "delete", reference["name"])


@pytest.fixture
def approved(hosts, backend, oat, clean):
    """Both hosts booted well and are approved; nobody has said yet which boots are good."""
    for host, boot in zip(hosts.values(), ("machine-a", "machine-b"), strict=True):
        host.boot(boot, backend)
        host.attest()
        oat("host", "approve", host.name, "--yes")
        host.attest()
    return hosts
