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

from oslo_log import log as logging

from oat_trusted_filter.cmd import notify

LOG = logging.getLogger(__name__)

_PAUSE = 0.1
_REQUEST_SECONDS = 5.0


def announce_when_serving(address: str, port: int) -> None:
    """Say ``READY=1`` (sd_notify) as soon as a worker has answered a request; returns at once.

    The port is open before the workers are there, so that it can be connected to says nothing.
    Where no service manager waits for it, nothing is done.

    :param address: what the service listens on.
    """
    if notify.VARIABLE not in os.environ:
        return
    thread = threading.Thread(
        target=_wait_and_announce, args=(address, port), name="readiness", daemon=True
    )
    thread.start()


def _wait_and_announce(address: str, port: int) -> None:
    while not _answers(address, port):
        time.sleep(_PAUSE)
    notify.ready("serving")


def _answers(address: str, port: int) -> bool:
    # In a process of its own, for this one forks its workers meanwhile. A fork while a thread is in
    # the middle of a TLS handshake leaves the worker with locks of OpenSSL that nobody will open.
    probe = subprocess.run(
        [sys.executable, "-m", __name__, address, str(port)],
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return probe.returncode == 0


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
    sys.exit(0 if _ask(sys.argv[1], int(sys.argv[2])) else 1)
