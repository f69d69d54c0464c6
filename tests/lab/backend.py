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
"""A real attestation backend: the programs, over TLS, on a free port of the loopback interface."""

import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.lab.wait import WaitTimeout, wait_for

_START_SECONDS = 20.0
_STOP_SECONDS = 15.0
_MANAGE_SECONDS = 60.0
_HOST = "127.0.0.1"
# Both commands in one process: half of the time goes into imports.
_INIT = """
import sys
from oat_trusted_filter.backend.manage.program import run
sys.exit(run([*sys.argv[1:], "db", "sync"]) or run([*sys.argv[1:], "init"]))
"""


class BackendError(Exception):
    """A program of the backend failed; the text is what it complained about."""


class Backend:
    """A backend and everything it keeps.

    As a context manager it runs inside. It may be stopped and started again: folder, port and
    credentials stay the same.

    :param folder: for configuration, log and state; made if it is not there.
    :param options: ``{(group, option): value}`` for the configuration file.
    :param port: to listen on; by default one that is free.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        options: Mapping[tuple[str, str], object] | None = None,
        port: int | None = None,
    ) -> None:
        self.folder = Path(folder).absolute()
        self.state_dir = self.folder / "state"
        self.config_file = self.folder / "oat.conf"
        self.log_file = self.folder / "oat-attestation-api.log"
        self.options = dict(options or {})
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None
        self._workers: list[int] = []

    # -- what others need to know -------------------------------------------------------------

    @property
    def port(self) -> int:
        """The port, chosen when it is first asked for."""
        if self._port is None:
            with socket.socket() as probe:
                probe.bind((_HOST, 0))
                self._port = int(probe.getsockname()[1])
        return self._port

    @property
    def endpoint(self) -> str:
        """``https://127.0.0.1:PORT``."""
        return f"https://{_HOST}:{self.port}"

    @property
    def cacert(self) -> Path:
        """Certificate of the backend's own authority (PEM)."""
        return self.state_dir / "ca.pem"

    @property
    def admin_token(self) -> str:
        """The token of ``admin-openrc``."""
        text = (self.state_dir / "admin-openrc").read_text()
        found = re.search(r"^export OAT_TOKEN=(\S+)$", text, re.MULTILINE)
        if found is None:
            raise BackendError("admin-openrc has no token")
        return found.group(1)

    @property
    def scheduler_token(self) -> str:
        """The token in ``scheduler.token``."""
        return (self.state_dir / "scheduler.token").read_text().strip()

    @property
    def log(self) -> str:
        """All the service has written."""
        return self.log_file.read_text() if self.log_file.exists() else ""

    @property
    def running(self) -> bool:
        """Whether the service is there."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """The main process of the service."""
        return self._process.pid if self._process is not None and self.running else None

    def worker_pids(self) -> list[int]:
        """The processes of the service beside the main one."""
        return [] if self.pid is None else _children(self.pid)

    # -- what it does -------------------------------------------------------------------------

    def write_config(self) -> None:
        """Write the configuration file."""
        options: dict[tuple[str, str], object] = {
            ("api", "bind_host"): _HOST,
            ("api", "port"): self.port,
            ("attestation", "state_dir"): self.state_dir,
            **self.options,
        }
        groups: dict[str, list[str]] = {}
        for (group, name), value in options.items():
            groups.setdefault(group, []).append(f"{name} = {value}")
        text = "\n".join(
            "\n".join([f"[{group}]", *lines, ""]) for group, lines in sorted(groups.items())
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        self.config_file.write_text(text)

    def manage(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run ``oat-manage`` to its end, however that is."""
        return self._ran(_program("oat-manage", "manage"), *words, stdin=stdin)

    def init(self) -> None:
        """Write the configuration, make the database, certificates and credentials.

        :raises BackendError: a command failed.
        """
        self.write_config()
        ran = self._ran([sys.executable, "-c", _INIT])
        if ran.returncode != 0:
            raise BackendError(f"oat-manage: {ran.stderr.strip()}")

    def start(self) -> None:
        """Start the service, after :meth:`init` if that is still to do, and wait until it serves.

        :raises BackendError: it ended, or did not answer in time.
        """
        if self.running:
            return
        if not (self.state_dir / "admin-openrc").exists():
            self.init()
        self.write_config()
        # A session of its own: an interrupt from the terminal is for the program that started it.
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [*_program("oat-attestation-api", "api"), "--config-file", str(self.config_file)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            wait_for(self._answers, _START_SECONDS, "the backend to answer", poll_seconds=0.02)
        except (WaitTimeout, BackendError):
            self.stop()
            raise
        self._workers = self.worker_pids()

    def stop(self) -> None:
        """Stop the service; afterwards none of its processes is left. Harmless if it is off.

        :raises BackendError: it had to be killed.
        """
        process, self._process = self._process, None
        if process is None:
            return
        workers = {*self._workers, *_children(process.pid)}
        obeyed = True
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                obeyed = False
        try:
            wait_for(lambda: not any(map(alive, workers)), _STOP_SECONDS, "the workers to end")
        except WaitTimeout:
            for pid in filter(alive, workers):
                os.kill(pid, signal.SIGKILL)
            obeyed = False
        if not obeyed:
            raise BackendError(f"the backend did not stop in {_STOP_SECONDS:g} s")

    def restart(self) -> None:
        """Stop and start."""
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _ran(
        self, command: list[str], *words: str, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, "--config-file", str(self.config_file), *words],
            check=False,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=_MANAGE_SECONDS,
        )

    def _answers(self) -> bool:
        if not self.running:
            raise BackendError(f"the backend ended at once: {self.log[-2000:].strip()}")
        context = ssl.create_default_context(cafile=str(self.cacert))
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        try:
            with opener.open(f"{self.endpoint}/healthz", timeout=5.0) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False


def _program(name: str, module: str) -> list[str]:
    """The console script if it is installed, otherwise the module it would run."""
    script = Path(sys.executable).with_name(name)
    if script.exists():
        return [str(script)]
    return [sys.executable, "-m", f"oat_trusted_filter.cmd.{module}"]


def _children(pid: int) -> list[int]:
    try:
        return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def alive(pid: int) -> bool:
    """Whether the process is there and not merely waiting to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
