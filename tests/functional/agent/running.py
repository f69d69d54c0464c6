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
"""Runs ``oat-agent`` as the program it is."""

import subprocess
import sys
from pathlib import Path

COMMAND = [sys.executable, "-m", "oat_trusted_filter.cmd.agent"]
_SECONDS = 60


def write_config(folder: Path, **options: object) -> Path:
    """A configuration file with these options in the group [agent]."""
    lines = [f"{name} = {value}" for name, value in options.items() if value is not None]
    path = folder / "agent.conf"
    path.write_text("\n".join(["[agent]", *lines, ""]))
    return path


def run_agent(config: Path, *switches: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return subprocess.run(
        [*COMMAND, "--config-file", str(config), *switches],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
    )


class RunningAgent:
    """The agent in its loop, with its log in a file; a context manager."""

    def __init__(self, config: Path) -> None:
        self._config = config
        self.log_path = config.with_suffix(".log")
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "RunningAgent":
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*COMMAND, "--config-file", str(self._config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    @property
    def log(self) -> str:
        """All it has logged."""
        return self.log_path.read_text()

    def terminate(self, seconds: float) -> int:
        """Send SIGTERM; returns the exit status.

        :raises subprocess.TimeoutExpired: it did not stop in time.
        """
        self.process.terminate()
        return self.process.wait(seconds)
