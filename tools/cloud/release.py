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
"""The releases of Nova the cloud can run: from PyPI on threads, from Debian on eventlet."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent
LAYER = REPOSITORY / ".venv-minicloud"
_PYTHON = LAYER / "bin" / "python"
_DEBIAN = LAYER / "debian"
_PACKAGE = "oat_trusted_filter"

_PROGRAMS = {
    "nova-api": "nova.cmd.api_os_compute",
    "nova-compute": "nova.cmd.compute",
    "nova-conductor": "nova.cmd.conductor",
    "nova-manage": "nova.cmd.manage",
    "nova-scheduler": "nova.cmd.scheduler",
}
# What a console script does; so it does not matter whether and where there is one.
_START = """
import importlib, sys
sys.argv = sys.argv[1:]
sys.exit(importlib.import_module(sys.argv.pop(1)).main())
"""
# The applications would take the server's arguments for their own.
_SERVE = """
import sys
from granian import Granian
_, application, address, port = sys.argv
del sys.argv[1:]
Granian(application, address, int(port), interface="wsgi", blocking_threads=4,
        websockets=False).serve()
"""


@dataclass(frozen=True, slots=True)
class NovaRelease:
    """One release and how it is run."""

    version: str
    microversion: str
    """The newest its API offers."""
    paste: Path
    """The file ``api-paste.ini`` that belongs to it."""
    wsgi: str | None
    """The API as a WSGI application; None if the API is a program of its own."""
    python: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def command(self, program: str, *arguments: str) -> Sequence[str]:
        """How to run one of its programs."""
        return [str(self.python), "-c", _START, program, _PROGRAMS[program], *arguments]


def layer_command(program: str, module: str, *arguments: str) -> Sequence[str]:
    """How to run a program of the environment with keystone and glance.

    :param module: where its function ``main`` is.
    """
    return [str(_PYTHON), "-c", _START, program, module, *arguments]


def serve_command(application: str, address: str, port: int) -> Sequence[str]:
    """How to serve a WSGI application of that environment, with the server we use ourselves."""
    return [str(_PYTHON), "-c", _SERVE, application, address, str(port)]


def find_release(name: str) -> NovaRelease:
    """The release by the name given to ``--nova``, 34 or 26."""
    if name == "34":
        return NovaRelease(
            version="34.0.0",
            microversion="2.96",
            paste=Path(sys.prefix) / "etc" / "nova" / "api-paste.ini",
            wsgi="nova.wsgi.osapi_compute:application",
            python=_PYTHON,
        )
    packages = _DEBIAN / "usr" / "lib" / "python3" / "dist-packages"
    return NovaRelease(
        version="26.2.2",
        microversion="2.90",
        paste=_DEBIAN / "usr" / "share" / "nova-common" / "api-paste.ini",
        wsgi=None,
        python=Path("/usr/bin/python3"),
        environment={
            "PYTHONPATH": f"{_install_beside_debian()}:{packages}",
            "LD_LIBRARY_PATH": str(_DEBIAN / "usr" / "lib" / "x86_64-linux-gnu"),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
    )


def _install_beside_debian() -> Path:
    """A folder for Debian's Python with this package, as it is here, and nothing else."""
    folder = _DEBIAN / "oat"
    folder.mkdir(exist_ok=True)
    for link in folder.iterdir():
        link.unlink()
    (folder / _PACKAGE).symlink_to(REPOSITORY / _PACKAGE)
    for metadata in Path(sys.prefix).glob(f"lib/*/site-packages/{_PACKAGE}-*.dist-info"):
        (folder / metadata.name).symlink_to(metadata)
    return folder
