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
"""Telling the service manager how a service fares: sd_notify(3) without its library.

A program that systemd started with ``Type=notify`` finds the socket to speak to in the environment
variable ``NOTIFY_SOCKET``. Where there is none, nothing happens, so programs call this whether or
not systemd started them. systemd listens to the main process of a service only, unless its unit has
``NotifyAccess=all``: call it there, not in a worker process.
"""

import os
import socket

from oslo_log import log as logging

LOG = logging.getLogger(__name__)

VARIABLE = "NOTIFY_SOCKET"

# The message goes into a queue of the kernel; it is full only if the manager has stopped reading.
_SECONDS = 1.0


def ready(status: str = "") -> None:
    """The service now does what it is for; units that are ordered after it may start.

    :param status: a line for ``systemctl status``.
    """
    _send("READY=1", status)


def stopping(status: str = "") -> None:
    """The service has begun to stop.

    :param status: a line for ``systemctl status``.
    """
    _send("STOPPING=1", status)


def status(text: str) -> None:
    """How the service fares, as a line for ``systemctl status``."""
    _send("", text)


def _send(state: str, text: str) -> None:
    address = os.environ.get(VARIABLE, "")
    # A virtual machine's manager is reached over another kind of socket ("vsock:..."), but it is
    # the one that listens for the whole machine, never for a service.
    if address[:1] not in ("/", "@"):
        return
    # A line break would begin a new assignment.
    line = " ".join(text.split())
    message = "\n".join(part for part in (state, f"STATUS={line}" if line else "") if part)
    if not message:
        return
    if address.startswith("@"):
        # A name in Linux's abstract namespace begins with NUL, which no environment can hold.
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.settimeout(_SECONDS)
            channel.connect(address)
            channel.sendall(message.encode("utf-8", "replace"))
    except OSError as error:
        # The service works all the same; systemd ends it if it waits for READY=1 in vain.
        LOG.warning("cannot reach the service manager at %s: %s", os.environ[VARIABLE], error)
