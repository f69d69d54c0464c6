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
"""What the mini cloud needs beside the environment of the test suite.

Keystone, glance and the client libraries of database and cache go into ``.venv-minicloud``, laid
over ``.venv``: what is there is used from there and never changed. Nova of Debian 12 is unpacked
into a folder below it, with those of its dependencies the machine lacks; nothing of it is
installed. Only the standard library of Python 3.11 is used.
"""

import hashlib
import platform
import shutil
import sys
from pathlib import Path

from environment import REPOSITORY, VENV, SetUpError, run_installer, say

LAYER = REPOSITORY / ".venv-minicloud"
DEBIAN = LAYER / "debian"
_REQUIREMENTS = REPOSITORY / "tools" / "cloud" / "requirements.txt"
#: Nova, and what its configuration in the mini cloud asks for.
_DEBIAN_PACKAGES = ("nova-common", "python3-memcache", "python3-nova", "python3-pymysql")


def prepare_cloud(*, debian_nova: bool = False) -> None:
    """Install what is missing, after :func:`environment.prepare`.

    :param debian_nova: also fetch Nova of Debian 12.
    :raises SetUpError: no network, another system, or an installer failed.
    """
    _make_layer()
    if debian_nova:
        _unpack_nova()


def _make_layer() -> None:
    stamp = LAYER / "set-up.stamp"
    wanted = hashlib.sha256(
        _REQUIREMENTS.read_bytes() + (VENV / "set-up.stamp").read_bytes()
    ).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    say(f"laying keystone and glance over it in {LAYER.name}/ (about 20 seconds)")
    for name in ("bin", "etc", "include", "lib", "lib64"):
        _remove(LAYER / name)
    stamp.unlink(missing_ok=True)
    LAYER.mkdir(exist_ok=True)
    run_installer([sys.executable, "-m", "venv", str(LAYER)], LAYER / "venv.log")
    packages = Path("lib") / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    # A line that is code, for addsitedir also minds the .pth files of the layer below.
    (LAYER / packages / "below.pth").write_text(
        f"import site; site.addsitedir({str(VENV / packages)!r})\n"
    )
    run_installer(
        [str(LAYER / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check",
         "--progress-bar=off", "--requirement", str(_REQUIREMENTS)],
        LAYER / "pip.log",
    )  # fmt: skip
    stamp.write_text(wanted)


def _unpack_nova() -> None:
    stamp = DEBIAN / "set-up.stamp"
    if stamp.exists():
        return
    if shutil.which("apt-get") is None or _codename() != "bookworm":
        raise SetUpError("Nova 26 comes from the packages of Debian 12, which this is not")
    say(f"unpacking Nova of Debian 12 in {DEBIAN.relative_to(REPOSITORY)}/ (about 15 seconds)")
    _remove(DEBIAN)
    archives = DEBIAN / "archives"
    (archives / "partial").mkdir(parents=True)
    run_installer(
        ["apt-get", "-q", "-y", "install", "--download-only", "--no-install-recommends",
         "-o", f"Dir::Cache::archives={archives}", "-o", "Debug::NoLocking=true",
         *_DEBIAN_PACKAGES],
        LAYER / "apt-download.log",
    )  # fmt: skip
    for archive in sorted(archives.glob("*.deb")):
        run_installer(["dpkg", "-x", str(archive), str(DEBIAN)], LAYER / "dpkg.log")
    _remove(archives)
    stamp.touch()


def _codename() -> str:
    try:
        return platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    except OSError:
        return ""


def _remove(path: Path) -> None:
    if path.is_symlink():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)
