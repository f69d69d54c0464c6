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
"""The whole cloud: brought up, meddled with, taken down."""

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from oat_trusted_filter.cli.cloud import SERVICE_TYPE
from tools.cloud.access import Access
from tools.cloud.attestation import Attestation
from tools.cloud.identity import offer
from tools.cloud.openstack import OpenStack, side_by_side
from tools.cloud.release import REPOSITORY, find_release
from tools.cloud.service import MARK, CloudError, sweep
from tools.demonstration.hosts import Operator

#: Everything is below this folder; it stays when the cloud has ended, for its logs.
FOLDER = REPOSITORY / ".minicloud"


class MiniCloud:
    """The cloud and its parts; made by :func:`minicloud`.

    :param release: of Nova, 34 or 26.
    :param say: takes a line of progress.
    """

    def __init__(self, folder: Path, release: str, say: Callable[[str], None]) -> None:
        self._folder = folder
        self._say = say
        self._release = find_release(release)
        self._openstack = OpenStack(folder, self._release)
        self._attestation = Attestation(self._openstack.site)
        self._image = ""

    def start(self) -> None:
        """Bring everything up.

        :raises CloudError: a service failed.
        """
        infrastructure = self._openstack.infrastructure
        self._say("database, queue and cache")
        infrastructure.start()
        self._say("the databases of all services; TPMs, backend and agents")
        side_by_side(
            [*self._openstack.preparations(), self._attestation.prepare],
            abort=lambda: sweep(self._folder),
        )
        site = self._openstack.site
        offer(site, "oat", SERVICE_TYPE, self._attestation.backend.endpoint)
        self._say(f"keystone, placement, glance, Nova {self._release.version}")
        self._openstack.start(self._attestation.filter_options())
        self._attestation.start_enforcer()
        self._image = self._openstack.create_image()
        self._say("the cloud is up")

    def stop(self) -> None:
        """Take everything down; nothing is left running."""
        try:
            self._attestation.stop()
            self._openstack.stop()
        finally:
            sweep(self._folder)

    def access(self) -> Access:
        """What a user has to know."""
        site, backend = self._openstack.site, self._attestation.backend
        return Access(
            folder=self._folder,
            nova=self._release.version,
            microversion=self._release.microversion,
            auth_url=site.auth_url,
            password=site.password,
            image=self._image,
            endpoint=backend.endpoint,
            cacert=backend.cacert,
        )

    def oat(self, *arguments: str) -> str:
        """Run a command of the attestation backend's operator and return what it printed.

        :raises OatError: it failed.
        """
        return Operator(self._attestation.backend).run(*arguments)

    # -- what may happen to it -------------------------------------------------------------------

    def boot_host(self, name: str, boot: str) -> None:
        """Power a host off and on, so that it boots this recording, its agent included."""
        host = self._attestation.hosts[name]
        host.boot(boot)
        host.start_agent(self._attestation.backend)

    def kill_agent(self, name: str) -> None:
        """Kill the agent of a host; it has no time to say anything."""
        self._attestation.hosts[name].kill_agent()

    def start_agent(self, name: str) -> None:
        """Start the agent of a host."""
        self._attestation.hosts[name].start_agent(self._attestation.backend)

    def stop_backend(self) -> None:
        """Stop the attestation backend."""
        self._attestation.backend.stop()

    def start_backend(self) -> None:
        """Start the attestation backend, with the state it had."""
        self._attestation.backend.start()

    def stop_enforcer(self) -> None:
        """Stop the enforcer."""
        self._attestation.enforcer.stop()

    def start_enforcer(self) -> None:
        """Start the enforcer."""
        self._attestation.enforcer.start()


@contextlib.contextmanager
def minicloud(release: str, say: Callable[[str], None] | None = None) -> Iterator[MiniCloud]:
    """A cloud that runs inside, one at a time in this clone.

    :raises CloudError: there is one already, or a service failed.
    """
    started = time.monotonic()

    def tell(text: str) -> None:
        if say is not None:
            say(f"{time.monotonic() - started:5.1f} s  {text}")

    with _own_folder() as folder:
        cloud = MiniCloud(folder, release, tell)
        try:
            cloud.start()
            yield cloud
        finally:
            tell("stopping everything")
            cloud.stop()
            tell("nothing is left running")


@contextlib.contextmanager
def _own_folder() -> Iterator[Path]:
    """A fresh folder, and the mark for all processes that are started in the meantime."""
    FOLDER.mkdir(exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CloudError("there is a mini cloud already: tools/minicloud down") from None
        folder = FOLDER / "run"
        sweep(folder)  # what is left of one that was killed
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "log").mkdir(0o700, parents=True)
        folder.chmod(0o700)
        os.environ[MARK] = str(folder)
        try:
            yield folder
        finally:
            del os.environ[MARK]
