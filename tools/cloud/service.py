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
"""The processes of the mini cloud: started with a log each, and none of them outlives it.

Every process is a child of the one that made the cloud, in a session of its own, and carries
:data:`MARK` in its environment. So also what a service left behind is found at the end.
"""

import contextlib
import os
import random
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.lab.wait import WaitTimeout, wait_for

#: Environment variable with the folder of the cloud a process belongs to.
MARK = "OAT_MINICLOUD"
ADDRESS = "127.0.0.1"

#: Below those that Linux gives to outgoing connections.
_PORTS = range(20000, 32000)
_STOP_SECONDS = 10.0
_RUN_SECONDS = 180.0
_POLL_SECONDS = 0.1


class CloudError(Exception):
    """A part of the cloud failed; the text says which one and names its log."""


class Service:
    """A program that runs until it is stopped.

    :param folder: of the cloud; the program's working directory, its log is ``log/NAME.log``.
    :param environment: variables beside the usual ones.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        command: Sequence[str | os.PathLike[str]],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.log_file = folder / "log" / f"{name}.log"
        self._folder = folder
        self._command = list(command)
        self._environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """All it has written."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def start(self) -> None:
        """Start it; it need not be ready."""
        self._process = _spawn(self._folder, self._command, self.log_file, self._environment)

    def wait_until(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        """Wait until it is as far as that.

        :raises CloudError: it ended, or the time is over.
        """

        def met() -> bool:
            if self._process is None or self._process.poll() is not None:
                raise CloudError(f"{self.name} ended early: {describe_log(self.log_file)}")
            return condition()

        try:
            wait_for(met, seconds, what, poll_seconds=_POLL_SECONDS)
        except WaitTimeout as error:
            raise CloudError(f"{self.name}: {error}: {describe_log(self.log_file)}") from None

    def wait_for_port(self, port: int, seconds: float = 90.0) -> None:
        """Wait until it listens.

        :raises CloudError: it ended, or the time is over.
        """
        self.wait_until(lambda: _listens(port), seconds, f"port {port}")

    def terminate(self) -> None:
        """Ask it to end; harmless if it is not running."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def stop(self) -> None:
        """End it and all processes of its session, and wait for that."""
        self.terminate()
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_SECONDS)
        # Itself, if it has not obeyed, and what it may have left behind.
        _kill_group(process.pid)
        process.wait()


def run(
    folder: Path,
    name: str,
    command: Sequence[str | os.PathLike[str]],
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run a command to its end, its output in ``log/NAME.log``.

    :raises CloudError: it failed, or did not end in time.
    """
    log = folder / "log" / f"{name}.log"
    process = _spawn(folder, command, log, environment or {})
    try:
        status = process.wait(_RUN_SECONDS)
    except subprocess.TimeoutExpired:
        _kill_group(process.pid)
        process.wait()
        raise CloudError(f"{name} did not end in {_RUN_SECONDS:g} s: {describe_log(log)}") from None
    if status != 0:
        raise CloudError(f"{name} ended with status {status}: {describe_log(log)}")


def describe_log(log: Path) -> str:
    """The last line of a log that says something, and where the log is."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    last = next((line.strip() for line in reversed(lines) if line.strip()), "nothing")
    return f"{last[:300]} (all of it in {log})"


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface nobody listens on, nor is given for an outgoing connection.

    :raises CloudError: there are none.
    """
    found: list[int] = []
    for port in random.sample(_PORTS, len(_PORTS)):
        if not _listens(port):
            found.append(port)
        if len(found) == count:
            return found
    raise CloudError("no ports are free")


def processes(folder: Path) -> list[int]:
    """The processes that belong to the cloud in this folder, the caller excepted."""
    mark = f"{MARK}={folder}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                belongs = mark in (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if belongs:
                found.append(int(entry.name))
    return found


def sweep(folder: Path) -> None:
    """Kill what is left of the cloud in this folder, and wait until nothing is.

    :raises WaitTimeout: something cannot be killed.
    """

    def gone() -> bool:
        left = processes(folder)
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        return not left

    wait_for(gone, _STOP_SECONDS, f"the processes of {folder} to end", poll_seconds=_POLL_SECONDS)


def _spawn(
    folder: Path,
    command: Sequence[str | os.PathLike[str]],
    log: Path,
    environment: Mapping[str, str],
) -> subprocess.Popen[bytes]:
    inherited = ("LANG", "PATH", "TMPDIR")
    with log.open("ab") as output:
        # A session of its own: an interrupt from the terminal is for the owner of the cloud, who
        # then stops everything in order.
        return subprocess.Popen(
            command,
            cwd=folder,
            env={
                **{name: os.environ[name] for name in inherited if name in os.environ},
                "HOME": str(folder),
                "PYTHONWARNINGS": "ignore",
                MARK: str(folder),
                **environment,
            },
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _listens(port: int) -> bool:
    try:
        with socket.create_connection((ADDRESS, port), 1.0):
            return True
    except OSError:
        return False
