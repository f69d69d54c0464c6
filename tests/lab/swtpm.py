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
"""A software TPM (swtpm) as the TPM of a test host.

Each :class:`SoftwareTpm` is a TPM of its own: its seeds, its endorsement keys and its EK
certificates are made by ``swtpm_setup`` (0.6 s), nothing is copied from another one. Only the
certificate authority that signs the EK certificates is shared, by those that are given the same
``ca_dir``.

Only the standard library is used, so the demo can import this before anything is installed. Every
file lives under the two folders given; the one exception are the sockets of a TPM whose folder has
a path too long for a socket name: they live in a short folder under the temporary folder that
``stop`` removes. Its name follows from ``state_dir``, so the TCTI is the same at every start.
"""

import contextlib
import hashlib
import os
import shutil
import socket
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.lab.wait import WaitTimeout, wait_for

#: Banks a freshly made TPM has allocated.
PCR_BANKS = ("sha1", "sha256", "sha384")

# sun_path of a Unix socket address holds 108 bytes with the final NUL; the TCTI appends ".ctrl".
_LONGEST_SOCKET = 100

_TPM2_STARTUP_CLEAR = bytes.fromhex("80010000000c000001440000")
_TPM2_SHUTDOWN_CLEAR = bytes.fromhex("80010000000c000001450000")
_TPM2_GET_RANDOM = bytes.fromhex("80010000000c0000017b0002")
_RC_SUCCESS = bytes(4)
_RC_INITIALIZE = bytes.fromhex("00000100")
_ANSWER_SECONDS = 5.0
_START_SECONDS = 10.0
_STOP_SECONDS = 5.0
_SETUP_SECONDS = 60.0


class SoftwareTpmError(Exception):
    """swtpm is not installed, did not start, or ``swtpm_setup`` failed."""


class SoftwareTpm:
    """One software TPM. As a context manager: created if need be, started, and stopped."""

    def __init__(
        self,
        state_dir: str | os.PathLike[str],
        ca_dir: str | os.PathLike[str],
        banks: Sequence[str] = PCR_BANKS,
    ) -> None:
        self.banks = banks
        self.state_dir = Path(state_dir).absolute()
        self.ca_dir = Path(ca_dir).absolute()
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = _RC_SUCCESS
        self._socket = self.state_dir / "tpm"
        self._socket_dir: Path | None = None
        if len(os.fsencode(self.control_socket)) > _LONGEST_SOCKET:
            label = hashlib.sha256(os.fsencode(self.state_dir)).hexdigest()[:16]
            self._socket_dir = Path(tempfile.gettempdir()) / f"oat-tpm-{os.getuid()}-{label}"
            self._socket = self._socket_dir / "tpm"

    # -- what others need to know -------------------------------------------------------------

    @property
    def tcti(self) -> str:
        """The TCTI string for tpm2-tss; the same at every start of this TPM."""
        return f"swtpm:path={self._socket}"

    @property
    def control_socket(self) -> Path:
        """The control channel, for ``swtpm_ioctl --unix``."""
        return Path(f"{self._socket}.ctrl")

    @property
    def ca_certificates(self) -> list[Path]:
        """Root and issuer certificate (PEM) of the authority that signed the EK certificates."""
        return [self.ca_dir / "swtpm-localca-rootca-cert.pem", self.ca_dir / "issuercert.pem"]

    @property
    def running(self) -> bool:
        """Whether the swtpm process is there."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """The process id of swtpm, None while it is stopped."""
        return self._process.pid if self._process is not None and self.running else None

    @property
    def created(self) -> bool:
        """Whether the TPM was manufactured already."""
        return (self.state_dir / "tpm2-00.permall").exists()

    # -- life of a TPM ------------------------------------------------------------------------

    def create(self) -> None:
        """Manufacture the TPM: seeds, endorsement keys and their certificates, PCR banks.

        A TPM that exists already keeps its identity.

        :raises SoftwareTpmError: ``swtpm_setup`` is missing or failed.
        """
        if self.created:
            return
        # The state holds private keys, also those of the authority.
        self.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.ca_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        config = self._write_configuration()
        log = self.state_dir / "swtpm_setup.log"
        command = [
            _tool("swtpm_setup"),
            "--tpm2",
            "--tpmstate", str(self.state_dir),
            "--config", str(config),
            "--create-ek-cert",
            "--pcr-banks", ",".join(self.banks),
            "--vmid", self.state_dir.name,
            "--lock-nvram",
            "--not-overwrite",
            "--logfile", str(log),
        ]  # fmt: skip
        if os.geteuid() == 0:
            # Without this some releases change to the user "tss", who may not enter our folders.
            command += ["--runas", "root"]
        with log.open("ab") as output:
            result = subprocess.run(
                command,
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=os.environ | {"TMPDIR": str(self.state_dir)},
                timeout=_SETUP_SECONDS,
            )
        if result.returncode != 0:
            raise SoftwareTpmError(
                f"swtpm_setup ended with status {result.returncode}: {_tail(log)}"
            )

    def start(self, *, locality: int = 0, h_crtm: str | None = None) -> None:
        """Power the TPM on: all PCRs at their reset value, the reset count one higher.

        :param locality: where TPM2_Startup comes from.
        :param h_crtm: what a hardware root of trust measures before TPM2_Startup.
        :raises SoftwareTpmError: swtpm is missing, ended at once or did not answer.
        """
        if self.running:
            return
        self._drop_sockets()
        self._make_socket_dir()
        plain = not locality and h_crtm is None
        self._ready = _RC_SUCCESS if plain else _RC_INITIALIZE
        log = self.state_dir / "swtpm.log"
        command = [
            _tool("swtpm"), "socket", "--tpm2",
            "--tpmstate", f"dir={self.state_dir}",
            "--server", f"type=unixio,path={self._socket}",
            "--ctrl", f"type=unixio,path={self.control_socket}",
            "--flags", "not-need-init,startup-clear" if plain else "not-need-init",
        ]  # fmt: skip
        # Output goes to a file: a surviving swtpm that inherits a pipe would keep a caller that
        # reads it waiting. Its own session: an interrupt from the terminal is for the program
        # that started it, which then stops its TPMs in order.
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            wait_for(self._answers, _START_SECONDS, "swtpm to listen", poll_seconds=0.001)
        except WaitTimeout as error:
            self.stop()
            raise SoftwareTpmError(f"swtpm did not listen: {_tail(log)}") from error
        if not self.running:
            self.stop()
            raise SoftwareTpmError(f"swtpm ended at once: {_tail(log)}")
        if h_crtm is not None:
            self.hash_sequence(h_crtm)
        if not plain:
            self._control("-l", str(locality))
            reply = self._transmit(_TPM2_STARTUP_CLEAR)
            self._control("-l", "0")
            if reply[6:10] != _RC_SUCCESS:
                raise SoftwareTpmError(f"TPM2_Startup was answered with {reply.hex()}")

    def hash_sequence(self, text: str) -> None:
        """_TPM_Hash_Start, _TPM_Hash_Data, _TPM_Hash_End, as the processor sends them.

        In a running TPM this is a dynamic launch: PCRs 17 to 20 and 22 go from ones to zeros, and
        PCR 17 is extended with the digest of the text.

        :raises SoftwareTpmError: ``swtpm_ioctl`` failed.
        """
        self._control("-h", text)

    def stop(self) -> None:
        """Power the TPM off without TPM2_Shutdown, as a power cut does; harmless if it is off."""
        process, self._process = self._process, None
        if process is not None:
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._drop_sockets()

    def power_cycle(
        self, *, orderly: bool = True, locality: int = 0, h_crtm: str | None = None
    ) -> None:
        """Reboot the host's TPM: off and on again; the reset count goes up.

        :param locality: as for :meth:`start`, like ``h_crtm``.
        :param orderly: send TPM2_Shutdown(CLEAR) first, as an operating system that goes down
            does. Without it, as after a power cut, the clock is marked as not safe afterwards.
        """
        if orderly and self.running:
            self._shutdown_clear()
        self.stop()
        self.start(locality=locality, h_crtm=h_crtm)

    def __enter__(self) -> Self:
        self.create()
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    # -- parts --------------------------------------------------------------------------------

    def _write_configuration(self) -> Path:
        # A configuration of its own, or swtpm_localca would write to /var/lib/swtpm-localca.
        localca = self.state_dir / "swtpm-localca.conf"
        localca.write_text(
            f"statedir = {self.ca_dir}\n"
            f"signingkey = {self.ca_dir / 'signkey.pem'}\n"
            f"issuercert = {self.ca_dir / 'issuercert.pem'}\n"
            f"certserial = {self.ca_dir / 'certserial'}\n"
        )
        options = self.state_dir / "swtpm-localca.options"
        options.write_text(
            "--platform-manufacturer Test\n--platform-version 1.0\n--platform-model Lab\n"
        )
        setup = self.state_dir / "swtpm_setup.conf"
        setup.write_text(
            f"create_certs_tool = {_tool('swtpm_localca')}\n"
            f"create_certs_tool_config = {localca}\n"
            f"create_certs_tool_options = {options}\n"
            f"active_pcr_banks = {','.join(self.banks)}\n"
        )
        return setup

    def _answers(self) -> bool:
        """Whether both channels work, or the process has ended and they never will."""
        if not self.running:
            return True
        # The names appear a moment before swtpm listens, and it listens a moment before it finds
        # that it cannot read its state, so nothing less than an answer will do.
        try:
            with socket.socket(socket.AF_UNIX) as control:
                control.connect(str(self.control_socket))
            return self._transmit(_TPM2_GET_RANDOM)[6:10] == self._ready
        except OSError:
            return False

    def _control(self, *arguments: str) -> None:
        ran = subprocess.run(
            [_tool("swtpm_ioctl"), "--unix", str(self.control_socket), *arguments],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_ANSWER_SECONDS,
        )
        if ran.returncode != 0:
            raise SoftwareTpmError(f"swtpm_ioctl {' '.join(arguments)}: {ran.stderr.strip()}")

    def _transmit(self, command: bytes) -> bytes:
        with socket.socket(socket.AF_UNIX) as channel:
            channel.settimeout(_ANSWER_SECONDS)
            channel.connect(str(self._socket))
            channel.sendall(command)
            return channel.recv(64)

    def _shutdown_clear(self) -> None:
        with contextlib.suppress(OSError):
            reply = self._transmit(_TPM2_SHUTDOWN_CLEAR)
            if reply[6:10] != _RC_SUCCESS:
                raise SoftwareTpmError(f"TPM2_Shutdown was answered with {reply.hex()}")

    def _make_socket_dir(self) -> None:
        if self._socket_dir is None:
            return
        self._socket_dir.mkdir(mode=0o700, exist_ok=True)
        # The name can be foretold, so a folder that is there already has to be our own.
        status = self._socket_dir.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
            raise SoftwareTpmError(f"{self._socket_dir} belongs to somebody else")

    def _drop_sockets(self) -> None:
        for path in (self._socket, self.control_socket):
            path.unlink(missing_ok=True)
        if self._socket_dir is not None:
            with contextlib.suppress(OSError):
                self._socket_dir.rmdir()


def _tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise SoftwareTpmError(f"{name} is not installed (Debian: swtpm, swtpm-tools)")
    return path


def _tail(log: Path, lines: int = 5) -> str:
    try:
        return " | ".join(log.read_text(errors="replace").splitlines()[-lines:])
    except OSError as error:
        return f"no log: {error}"
