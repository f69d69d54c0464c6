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
"""The fake backend of :mod:`oat_trusted_filter.fixture` with faults as a test says.

It stands at the edge: all of the filter, of the client and of the libraries below is real::

    with ScriptedBackend(folder) as backend:
        backend.say("trusted", "compute-1")
        backend.fault = status(500)
"""

import socket
import threading

from oat_trusted_filter.fixture import FakeBackend, reply

__all__ = ["ScriptedBackend", "reply"]


class ScriptedBackend(FakeBackend):
    """A context manager; ``fault`` takes over the answer if it is set.

    :param name: the IP address or DNS name in the certificate.
    """

    def __init__(self, folder, name="127.0.0.1"):
        super().__init__(name, folder)
        self.released = threading.Event()

    def stop(self):
        """Stop listening; what is connected is cut off by ``cut``."""
        super().stop()
        self.fault = cut

    def __exit__(self, *exc_info):
        self.released.set()
        super().__exit__(*exc_info)

    def start_over(self):
        """Another database: nobody's cursor means anything."""
        with self._lock:
            self.epoch += "'"
            self._rows.clear()
            self.cursor = 0


# -- faults ---------------------------------------------------------------------------------------


def cut(handler):
    """Hang up without a word."""
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)


def hang(handler):
    """Say nothing until the test is over."""
    handler.script.released.wait(30)
    handler.close_connection = True


def drip_body(handler):
    """Announce a large body and send a byte at a time."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    _drip(handler)


def drip_headers(handler):
    """Never come to the end of a header."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
    _drip(handler)


def _drip(handler):
    handler.close_connection = True
    while not handler.script.released.wait(0.02):
        handler.wfile.write(b" ")


def status(code, body=b"<html>no</html>", **headers):
    """Answer with this status and these bytes; ``_`` in a header's name stands for a hyphen."""

    def fault(handler):
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return fault


def endless(handler):
    """A body without end."""
    handler.close_connection = True
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n[")
    while not handler.script.released.is_set():
        handler.wfile.write(b"0," * 50_000)


def not_http(handler):
    """Another protocol."""
    handler.close_connection = True
    handler.wfile.write(b"\x00\x01SSH-2.0-nonsense\r\n\r\n")
