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
"""Telling the service manager that the service answers."""

import http.client
import os
import ssl
import subprocess
import sys
import threading
import time

from oat_trusted_filter.cmd import notify

_PAUSE = 0.1
_REQUEST_SECONDS = 5.0


def announce_when_serving(address: str, port: int) -> None:
    """Say ``READY=1`` (sd_notify) as soon as a worker has answered a request; returns at once.

    To be called before the workers are made. The port is open before they are there, so that it can
    be connected to says nothing. Where no service manager waits for it, nothing is done.

    :param address: what the service listens on.
    """
    if notify.VARIABLE not in os.environ:
        return
    # In a process of its own, and that one is there before any worker: this process forks them, and
    # what a thread holds at that moment stays with the worker for good, be it a lock of OpenSSL or
    # the end of a pipe that whoever starts a process waits on.
    probe = subprocess.Popen(
        [sys.executable, "-m", __name__, address, str(port), str(os.getpid())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    threading.Thread(target=_announce, args=(probe,), name="readiness", daemon=True).start()


def _announce(probe: "subprocess.Popen[bytes]") -> None:
    if probe.wait() == 0:
        notify.ready("serving")


def _wait(address: str, port: int, service: int) -> bool:
    """Wait until the service, our parent, answers; false if it has ended before that."""
    while os.getppid() == service:
        if _ask(address, port):
            return True
        time.sleep(_PAUSE)
    return False


def _ask(address: str, port: int) -> bool:
    # Nothing secret is said, and whoever else would answer there has no business with systemd.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection = http.client.HTTPSConnection(
        address, port, timeout=_REQUEST_SECONDS, context=context
    )
    try:
        connection.request("GET", "/")
        return connection.getresponse().status < http.HTTPStatus.INTERNAL_SERVER_ERROR
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(0 if _wait(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])) else 1)
