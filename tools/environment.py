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
"""What tools/demo and tools/test need before they can begin.

Only the standard library of Python 3.11 is used: on a bare machine there is nothing else yet.
System packages come from bindep.txt, Python packages go into ``.venv`` beside it. Both steps are
skipped if what they would install is there, so that everything works offline afterwards.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
VENV = REPOSITORY / ".venv"

#: The files that say what is installed; a change of one of them renews the environment.
_RECIPES = ("setup.cfg", "setup.py", "pyproject.toml", "requirements.txt")
_BINDEP_LINE = re.compile(
    r"(?P<package>[a-z0-9][a-z0-9.+-]+)\s+\[platform:dpkg(?P<profiles>[^]]*)\]"
)
_PROGRESS_SECONDS = 10.0
#: Debian starts the services it installs. Here tests start what they need, and stop it again.
_INSTALL_WITHOUT_STARTING = """
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    trap 'rm -f $policy' EXIT
    trap 'exit 1' HUP INT TERM
    printf '#!/bin/sh\\nexit 101\\n' > $policy
    chmod 755 $policy
fi
apt-get -q -y install --no-install-recommends "$@"
"""


class SetUpError(Exception):
    """Something cannot be installed; the text says what to do."""


def prepare(profiles: Sequence[str], extras: Sequence[str]) -> Path:
    """Install what is missing, and say so.

    :param profiles: profiles of bindep.txt, beside the packages that have none.
    :param extras: extras of setup.cfg.
    :returns: the Python interpreter of the environment.
    :raises SetUpError: no permission, no network, or an installer failed.
    """
    if sys.version_info < (3, 11):  # noqa: UP036  this is where an older one would notice
        raise SetUpError(f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}")
    with _alone():
        _install_system_packages(_wanted_packages(profiles))
        return _make_environment(extras)


def say(text: str) -> None:
    """Tell the user what happens now."""
    print(f"[set-up] {text}", flush=True)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Only one set-up at a time in this clone."""
    VENV.mkdir(exist_ok=True)
    with (VENV / "set-up.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another set-up in this folder to end")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _wanted_packages(profiles: Sequence[str]) -> list[str]:
    """The packages of bindep.txt without a profile or with one of these."""
    wanted = []
    for line in (REPOSITORY / "bindep.txt").read_text().splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        match = _BINDEP_LINE.fullmatch(line.strip())
        if match is None:
            raise SetUpError(f"bindep.txt has a line that is not understood: {line!r}")
        of_line = match["profiles"].split()
        if not of_line or set(of_line) & set(profiles):
            wanted.append(match["package"])
    return wanted


def _install_system_packages(wanted: Sequence[str]) -> None:
    missing = [package for package in wanted if not _installed(package)]
    if not missing:
        return
    names = " ".join(missing)
    if shutil.which("apt-get") is None:
        raise SetUpError(f"this is not Debian or Ubuntu; install what corresponds to: {names}")
    become_root: list[str] = []
    if os.geteuid() != 0:
        if shutil.which("sudo") is None:
            raise SetUpError(f"neither root nor sudo; have somebody install: {names}")
        become_root = ["sudo"]
    say(f"installing system packages with apt: {names}")
    become_root += ["env", "DEBIAN_FRONTEND=noninteractive"]
    run_installer([*become_root, "apt-get", "-q", "update"], VENV / "apt-update.log")
    run_installer(
        [*become_root, "sh", "-c", _INSTALL_WITHOUT_STARTING, "install", *missing],
        VENV / "apt-install.log",
    )


def _installed(package: str) -> bool:
    if shutil.which("dpkg-query") is None:
        return False
    found = subprocess.run(
        ["dpkg-query", "-W", "-f", "${db:Status-Abbrev}", package],
        check=False,
        capture_output=True,
        text=True,
    )
    return found.returncode == 0 and found.stdout.startswith("ii")


def _make_environment(extras: Sequence[str]) -> Path:
    python = VENV / "bin" / "python"
    stamp, wanted = VENV / "set-up.stamp", _fingerprint(extras)
    if stamp.exists() and stamp.read_text() == wanted and python.exists():
        return python
    stamp.unlink(missing_ok=True)
    say(f"making a virtual environment in {VENV.name}/ (the first time one to three minutes)")
    run_installer([sys.executable, "-m", "venv", str(VENV)], VENV / "venv.log")
    run_installer(
        [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar=off",
         "--editable", f"{REPOSITORY}[{','.join(extras)}]"],
        VENV / "pip.log",
    )  # fmt: skip
    stamp.write_text(wanted)
    return python


def _fingerprint(extras: Sequence[str]) -> str:
    """What the environment was made from; also where, for it cannot be moved."""
    digest = hashlib.sha256()
    for part in (sys.version, str(REPOSITORY), *extras):
        digest.update(f"{part}\0".encode())
    for name in _RECIPES:
        digest.update((REPOSITORY / name).read_bytes())
    return digest.hexdigest()


def run_installer(command: Sequence[str], log: Path) -> None:
    """Run an installer with its output in a file, and show from time to time that it works.

    :raises SetUpError: it failed.
    """
    started = spoke = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        try:
            while True:
                try:
                    status = process.wait(1)
                    break
                except subprocess.TimeoutExpired:
                    now = time.monotonic()
                    if now - spoke >= _PROGRESS_SECONDS:
                        spoke = now
                        say(f"  {now - started:3.0f} s  {_last_line(log)}")
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if status != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise SetUpError(f"{' '.join(command)}\nended with status {status}:\n{tail}")


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").split("\n")
    return next((line.strip()[:90] for line in reversed(lines) if line.strip()), "")
