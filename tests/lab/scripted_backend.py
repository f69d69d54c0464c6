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
"""A scripted fake of the attestation backend: real HTTPS, verdicts and faults as a test says.

It speaks ``GET /v1/verdicts`` as the interface says; any other path, and any fault, is a function a
test gives. It stands at the edge: all of the filter, of the client and of the libraries below is
real::

    with ScriptedBackend(folder) as backend:
        backend.say("trusted", "compute-1")
        backend.fault = status(500)
"""

import datetime
import ipaddress
import json
import socket
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class ScriptedBackend:
    """A context manager; ``fault`` takes over the answer if it is set.

    :param name: the IP address or DNS name in the certificate.
    """

    def __init__(self, folder, name="127.0.0.1"):
        self.cacert, key = _certificate(folder, name)
        self.token = "token-of-the-scheduler"
        self.epoch = "epoch-1"
        self.cursor = 0
        self.lease = 30.0
        self.lapsing = []
        """Host and seconds."""
        self.tags_lapsing = []
        """The same, for its tags only."""
        self.fault = None
        """Takes over every answer if it is set; a function of the request handler."""
        self.authorized = lambda headers: headers.get("Authorization") == f"Bearer {self.token}"
        self.requests = []
        """Path and headers of each request."""
        self.bodies = []
        self.connections = 0
        self.released = threading.Event()
        self._lock = threading.Lock()
        self._rows = {}
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(self.cacert, key)
        self._server = None

    def __enter__(self):
        backend = self

        class Handler(_Handler):
            script = backend

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, request, client_address):
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *exc_info):
        self.released.set()
        self.stop()

    def stop(self):
        """Stop listening; what is connected is cut off by ``cut``."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
            self.fault = cut

    @property
    def endpoint(self):
        return f"https://127.0.0.1:{self.port}"

    def say(self, level, *hosts, reason="", region="", tags=None):
        """A new verdict on these hosts."""
        with self._lock:
            for host in hosts:
                self.cursor += 1
                record = {
                    "region": region, "host": host, "service_host": host, "resource_provider": None,
                    "level": level, "reason": reason, "tags": tags or {},
                }  # fmt: skip
                self._rows[region, host] = (self.cursor, record)

    def forget(self, host, region=""):
        """The host is deleted."""
        with self._lock:
            self.cursor += 1
            self._rows[region, host] = (self.cursor, None)

    def start_over(self):
        """Another database: nobody's cursor means anything."""
        with self._lock:
            self.epoch += "'"
            self._rows.clear()
            self.cursor = 0

    def answer(self, since, etag):
        """Status and body for a request."""
        with self._lock:
            if etag == self.etag and not self.lapsing and not self.tags_lapsing:
                return 304, None
            after, full = 0, True
            if since is not None:
                epoch, _, cursor = since.rpartition(":")
                if epoch == self.epoch and int(cursor) <= self.cursor:
                    after, full = int(cursor), False
            rows = [(key, row) for key, (moved, row) in self._rows.items() if moved > after]
            return 200, {
                "epoch": self.epoch,
                "cursor": self.cursor,
                "lease": self.lease,
                "full": full,
                "hosts": [row for _, row in rows if row],
                "deleted": [
                    {"region": region, "host": host}
                    for (region, host), row in rows
                    if row is None and not full
                ],
                "lapsing": [
                    {"region": "", "host": host, "seconds": seconds, "tags_only": tags_only}
                    for lapses, tags_only in ((self.lapsing, False), (self.tags_lapsing, True))
                    for host, seconds in lapses
                ],
            }

    @property
    def etag(self):
        return f'"{self.epoch}:{self.cursor}"'


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # otherwise each answer waits for a delayed acknowledgement
    script = None
    timeout = 60

    def setup(self):
        self.script.connections += 1
        self.request = self.script._context.wrap_socket(self.request, server_side=True)
        super().setup()

    def log_message(self, *args):
        pass

    def do_GET(self):
        script = self.script
        script.requests.append((self.path, dict(self.headers)))
        script.bodies.append(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        if script.fault is None:
            self.answer_now()
        else:
            script.fault(self)

    def answer_now(self):
        """Answer as a backend does that has no fault."""
        script = self.script
        if not script.authorized(self.headers):
            reply(self, 401, {"code": "unauthorized", "detail": "who are you?"})
            return
        query = parse_qs(urlsplit(self.path).query)
        since = query.get("since", [None])[0]
        status, body = script.answer(since, self.headers.get("If-None-Match"))
        reply(self, status, body, {"ETag": script.etag, "OAT-Lease": str(script.lease)})

    do_POST = do_PUT = do_DELETE = do_GET


def reply(handler, status, body, headers=None):
    """A complete answer."""
    data = b"" if body is None else json.dumps(body).encode()
    handler.send_response(status)
    for name, value in (headers or {}).items():
        handler.send_header(name, value)
    if status != 304:
        handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)


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


def _certificate(folder, name):
    """A certificate that is its own CA, and its key, as files."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "scripted backend")])
    now = datetime.datetime.now(datetime.UTC)
    try:
        alternative = x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        alternative = x509.DNSName(name)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_path, key_path = folder / "scripted-ca.pem", folder / "scripted-key.pem"
    certificate_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return str(certificate_path), str(key_path)
