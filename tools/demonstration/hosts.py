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
"""A compute host of the demonstration: a software TPM, the log of a recorded boot, an agent."""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.lab.backend import Backend
from tests.lab.boots import Boot, replay
from tests.lab.swtpm import SoftwareTpm
from tools.demonstration.console import PROGRAMS

_STOP_SECONDS = 5.0


class OatError(Exception):
    """A command of the operator failed."""


class ComputeHost:
    """The host.

    :param name: the hypervisor host name, the same in Nova and in the agent's configuration.
    :param folder: where its TPM, logs and configuration live.
    :param ca_dir: the authority that signs the certificates of the TPMs.
    """

    def __init__(self, name: str, folder: Path, ca_dir: Path) -> None:
        self.name = name
        self.folder = folder
        self.tpm = SoftwareTpm(folder / "tpm", ca_dir)
        self.agent_log = folder / "agent.log"
        self._boot_log = folder / "binary_bios_measurements"
        self._config = folder / "oat-agent.conf"
        self._agent: subprocess.Popen[bytes] | None = None

    def manufacture(self) -> None:
        """Make the TPM."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.tpm.create()

    def boot(self, boot: str) -> None:
        """Power the host on, or off and on again: what this recording measured is in TPM and log.

        The TPM takes part as in a real boot: its PCRs start anew, its reset count goes up.
        """
        self.stop_agent()
        if self.tpm.running:
            self.tpm.power_cycle()
        else:
            self.tpm.start()
        recorded = Boot(boot)
        replay(recorded, self.tpm.tcti)
        self._boot_log.write_bytes(recorded.boot_log)

    def start_agent(self, backend: Backend) -> None:
        """Start ``oat-agent`` as the host's boot would."""
        self._config.write_text(
            "[agent]\n"
            f"endpoint = {backend.endpoint}\n"
            f"ca_file = {backend.cacert}\n"
            f"host = {self.name}\n"
            f"service_host = {self.name}\n"
            f"tcti = {self.tpm.tcti}\n"
            f"boot_log = {self._boot_log}\n"
            "interval = 1\n"
            "retry_max = 2\n"
        )
        with self.agent_log.open("ab") as log:
            # A session of its own: an interrupt from the terminal is for the demonstration, which
            # then stops everything in order.
            self._agent = subprocess.Popen(
                [str(PROGRAMS / "oat-agent"), "--config-file", str(self._config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def stop_agent(self) -> None:
        """Stop the agent; harmless if there is none."""
        agent, self._agent = self._agent, None
        if agent is None:
            return
        agent.terminate()
        try:
            agent.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            agent.kill()
            agent.wait()

    def kill_agent(self) -> None:
        """Kill the agent, so that it has no time to say anything; harmless if there is none."""
        agent, self._agent = self._agent, None
        if agent is not None:
            agent.kill()
            agent.wait()

    def stop(self) -> None:
        """Stop the agent and cut the power."""
        self.stop_agent()
        self.tpm.stop()


class Operator:
    """Runs ``oat`` with the credential that ``oat-manage init`` wrote."""

    def __init__(self, backend: Backend) -> None:
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("OAT_")},
            "OAT_ENDPOINT": backend.endpoint,
            "OAT_TOKEN": backend.admin_token,
            "OAT_CACERT": str(backend.cacert),
        }

    def run(self, *arguments: str) -> str:
        """Run a command to its end and return what it printed.

        :raises OatError: it failed; the text is what it complained about.
        """
        ran = subprocess.run(
            [str(PROGRAMS / "oat"), *arguments],
            check=False,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        if ran.returncode != 0:
            raise OatError(f"oat {' '.join(arguments)}: {ran.stderr.strip()}")
        return ran.stdout

    def hosts(self) -> dict[str, Mapping[str, Any]]:
        """All hosts by name."""
        found = json.loads(self.run("host", "list", "-f", "json"))
        return {host["host"]: host for host in found}

    def host(self, name: str) -> Mapping[str, Any]:
        """One host with its findings."""
        found: Mapping[str, Any] = json.loads(self.run("host", "show", name, "-f", "json"))
        return found
