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
"""A cloud that runs on in the background, and its remote control.

One process owns the cloud and everything in it. Others reach it through the file ``control.json``,
which says where it listens and has the key, and may do to it what they could do to their own.
"""

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from multiprocessing.managers import BaseManager
from typing import Any, cast

from tests.lab.backend import alive
from tests.lab.wait import wait_for
from tools.cloud.cloud import FOLDER, MiniCloud, minicloud
from tools.cloud.release import REPOSITORY
from tools.cloud.service import ADDRESS, CloudError, describe_log, sweep

CONTROL = FOLDER / "control.json"
_LOG = FOLDER / "minicloud.log"
_UP_SECONDS = 400.0
_DOWN_SECONDS = 90.0


class _Manager(BaseManager):
    """The remote control."""


_Manager.register("cloud")


def serve(release: str) -> None:
    """Own a cloud until SIGTERM; the parent of it all.

    :raises CloudError: it does not come up.
    """

    class Owner(BaseManager):
        """The side of the remote control where the cloud is."""

    with minicloud(release, _progress) as cloud:
        Owner.register("cloud", callable=lambda: cloud)
        key = secrets.token_bytes(32)
        server = Owner((ADDRESS, 0), key).get_server()
        CONTROL.touch(0o600)
        CONTROL.write_text(
            json.dumps({"pid": os.getpid(), "address": server.address, "key": key.hex()})
        )
        try:
            server.serve_forever()  # which ends with SystemExit
        finally:
            CONTROL.unlink()


def up(release: str) -> None:
    """Start the owner of a cloud in the background, and wait until the cloud is up.

    :raises CloudError: there is one already, or it does not come up.
    """
    if CONTROL.exists():
        raise CloudError("there is a mini cloud already: tools/minicloud down")
    FOLDER.mkdir(exist_ok=True)
    with _LOG.open("wb") as log:
        owner = subprocess.Popen(
            [sys.executable, "-m", "tools.cloud", "serve", "--nova", release],
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    def ready() -> bool:
        if owner.poll() is not None:
            raise CloudError(f"the cloud did not come up: {describe_log(_LOG)}")
        return CONTROL.exists()

    try:
        wait_for(ready, _UP_SECONDS, "the cloud", poll_seconds=0.2)
    except BaseException:
        owner.terminate()
        owner.wait()
        raise


def down() -> None:
    """End the cloud in the background, and whatever is left of one.

    :raises CloudError: it does not end.
    """
    if CONTROL.exists():
        owner = int(json.loads(CONTROL.read_text())["pid"])
        with contextlib.suppress(ProcessLookupError):
            os.kill(owner, signal.SIGTERM)
        wait_for(lambda: not alive(owner), _DOWN_SECONDS, f"the cloud to end, see {_LOG}")
        CONTROL.unlink(missing_ok=True)
    sweep(FOLDER / "run")


@contextlib.contextmanager
def running_or_new(release: str | None) -> Iterator[MiniCloud]:
    """The cloud that is up, or one that is up only inside.

    :param release: of Nova; by default the one that is up, or else 34.
    :raises CloudError: another release is up, or the cloud does not come up.
    """
    if not CONTROL.exists():
        with minicloud(release or "34", _progress) as cloud:
            yield cloud
        return
    cloud = _connect()
    if release is not None and not cloud.access().nova.startswith(f"{release}."):
        raise CloudError(f"the cloud that is up has Nova {cloud.access().nova}")
    yield cloud


def _connect() -> MiniCloud:
    control = json.loads(CONTROL.read_text())
    manager: Any = _Manager(tuple(control["address"]), bytes.fromhex(control["key"]))
    try:
        manager.connect()
    except OSError as error:
        raise CloudError(f"the cloud does not answer: {error}; tools/minicloud down") from error
    return cast("MiniCloud", manager.cloud())


def _progress(text: str) -> None:
    print(f"[minicloud] {text}", flush=True)
