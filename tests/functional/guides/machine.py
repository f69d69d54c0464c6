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
"""A machine to install things on: this one, with changes to its files that vanish with it.

A mount and process namespace in which the folders an installation touches are overlays, and a
network namespace with nothing but a loopback device. They end, with all that runs in them, with the
processes that hold them.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
SYSTEMCTL = Path(__file__).with_name("systemctl.py")

_FOLDERS = ("/etc", "/opt", "/usr", "/var", str(REPOSITORY))
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_UP = """
import fcntl, socket, struct
with socket.socket() as s:
    fcntl.ioctl(s, 0x8914, struct.pack("16sH14x", b"lo", 0x41))  # SIOCSIFFLAGS: up, running
"""
_BLOCK_SECONDS = 300


class CommandFailed(AssertionError):
    """A command of the guide ended with an error."""


def possible() -> bool:
    """Whether such a machine can be made here: it takes root, and not in a chroot."""
    unshare = ("unshare", "--mount", "--net", "--propagation", "private", "true")
    return os.geteuid() == 0 and subprocess.run(unshare, check=False).returncode == 0


class Machine:
    """Use :func:`machine`.

    :param folder: for what it needs while it lives.
    """

    def __init__(self, folder: Path, first: int, loopback: int) -> None:
        self.folder = folder
        self._first = first
        self._loopback = loopback
        self._environment = folder / "environment"
        self._ran = 0

    def run(self, script: str, *, online: bool = False, noisy: bool = True) -> str:
        """Run shell commands as root; what they export stays for the next.

        :param online: with the network of the real machine.
        :param noisy: take the commands and their messages into what is returned.
        :returns: what they printed.
        :raises CommandFailed: with the commands and what they printed.
        """
        spaces = f"/proc/{self._first}/ns"
        enter = ["nsenter", f"--mount={spaces}/mnt", f"--pid={spaces}/pid"]
        if not online:
            enter += [f"--net=/proc/{self._loopback}/ns/net"]
        whole = (
            f"cd {REPOSITORY}\n[ ! -e {self._environment} ] || . {self._environment}\n"
            f"set -eux\n{script}\nset +x; export -p > {self._environment}\n"
        )
        # Files of its own, for what was started before may still be writing to the last ones.
        said, noise = (self.folder / f"{self._ran}.{kind}" for kind in ("out", "err"))
        self._ran += 1
        with said.open("w") as output, noise.open("w") as messages:
            # Not a pipe: what is started in the background would keep it open.
            process = subprocess.Popen(
                [*enter, "bash", "-c", whole],
                env={"HOME": os.environ.get("HOME", "/root"), "PATH": _PATH, "LANG": "C.UTF-8"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT if noisy else messages,
                start_new_session=True,
            )
        if process.wait(_BLOCK_SECONDS) != 0:
            raise CommandFailed(f"{script}\n{said.read_text()}{noise.read_text()}")
        return said.read_text()

    def stop(self) -> None:
        """End everything that was started on the machine."""
        others = "pgrep --invert-match --exact 'sleep|bash|pgrep'"
        self.run(f"kill -TERM -1; while {others}; do sleep 0.1; done")

    def write(self, path: str, text: str) -> None:
        """Put a file onto the machine."""
        source = self.folder / "file"
        source.write_text(text)
        self.run(f"install -D -m 644 {source} {path}")


@contextlib.contextmanager
def machine(folder: Path) -> Iterator[Machine]:
    """A new machine, with a stand-in for systemctl; all its processes are gone afterwards."""
    overlays = folder / "overlays"
    overlays.mkdir()
    mounts = [f"mount -t tmpfs tmpfs {overlays}"]
    for number, path in enumerate(_FOLDERS):
        upper, work = overlays / f"{number}.upper", overlays / f"{number}.work"
        mounts += [
            f"mkdir {upper} {work}",
            f"mount -t overlay overlay -o lowerdir={path},upperdir={upper},workdir={work} {path}",
        ]
    ready = folder / "ready"
    os.mkfifo(ready)
    # With a process namespace of its own everything that runs on the machine ends with its first.
    hold = f"set -e; {'; '.join(mounts)}; echo > {ready}; exec sleep infinity"
    unshare = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child",
               "--mount-proc", "bash", "-c", hold]  # fmt: skip
    with (
        _held(unshare) as parent,
        _held(["unshare", "--net", "sleep", "infinity"]) as loopback,
    ):
        ready.read_text()
        first = int(Path(f"/proc/{parent}/task/{parent}/children").read_text())
        made = Machine(folder, first, loopback)
        made.run(f"{shutil.which('python3')} -c '{_UP}'")
        made.run(f"install -m 755 {SYSTEMCTL} /usr/local/bin/systemctl")
        yield made


@contextlib.contextmanager
def _held(command: list[str]) -> Iterator[int]:
    with subprocess.Popen(command) as process:
        try:
            yield process.pid
        finally:
            process.kill()
