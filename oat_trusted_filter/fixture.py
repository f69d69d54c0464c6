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
"""A fake attestation backend for other people's tests.

It speaks the part of the API that relying parties use, over HTTPS on loopback, with verdicts as a
test says. It needs the library ``fixtures`` (``pip install 'oat-trusted-filter[fixture]'``)::

    class TestPlacement(fixtures.TestWithFixtures):
        def test_a_trusted_server_lands_on_the_trusted_host(self):
            backend = self.useFixture(FakeBackend())
            backend.say("trusted", "compute-1")
            backend.say("untrusted", "compute-2", reason="pcr-mismatch")
            nova = start_my_cloud(trusted_computing=backend.options)
            ...

A fixture is a context manager as well: ``with FakeBackend() as backend: ...``
"""

import datetime
import ipaddress
import json
import ssl
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import fixtures
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_NOT_MODIFIED = 304


class FakeBackend(fixtures.Fixture):  # type: ignore[misc]
    """A backend that says what a test tells it to say.

    :param name: the IP address or DNS name in its certificate.
    :param folder: where its certificate, key and token go; None: a temporary one.
    :ivar cacert: PEM file with the CA certificate to check it by.
    :ivar token: of the role ``service``; the file ``token_file`` holds it.
    :ivar lease: seconds its answers may be used.
    :ivar lapsing: hosts whose verdict ends earlier, with their seconds.
    :ivar tags_lapsing: hosts whose tags do, but not their verdict.
    :ivar fault: takes over every answer if it is set; a function of the request handler.
    :ivar requests: path and headers of each request; ``bodies`` what came with it.
    :ivar connections: how many there were.
    """

    def __init__(self, name: str = "127.0.0.1", folder: Path | None = None) -> None:
        super().__init__()
        self.token = "token-of-the-scheduler"  # noqa: S105  nobody's
        self.epoch = "epoch-1"
        self.cursor = 0
        self.lease = 30.0
        self.lapsing: list[tuple[str, float]] = []
        self.tags_lapsing: list[tuple[str, float]] = []
        self.fault: Callable[[Any], None] | None = None
        self.authorized: Callable[[Any], bool] = lambda headers: (
            headers.get("Authorization") == f"Bearer {self.token}"
        )
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.bodies: list[bytes] = []
        self.connections = 0
        self._name = name
        self._folder = folder
        self._lock = threading.Lock()
        self._rows: dict[tuple[str, str], tuple[int, dict[str, Any] | None]] = {}
        self._server: ThreadingHTTPServer | None = None

    def _setUp(self) -> None:
        folder = self._folder or Path(self.useFixture(fixtures.TempDir()).path)
        self.cacert, key = make_certificate(folder, self._name)
        self.token_file = str(folder / "backend.token")
        Path(self.token_file).write_text(self.token)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(self.cacert, key)
        self._server = _Server(("127.0.0.1", 0), type("Handler", (Handler,), {"script": self}))
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.addCleanup(self.stop)

    def stop(self) -> None:
        """Stop listening."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()

    @property
    def endpoint(self) -> str:
        """Where it is."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def options(self) -> Mapping[str, str]:
        """Options of ``[trusted_computing]`` that lead here."""
        return {
            "endpoint": self.endpoint,
            "attestation_server_ca_file": self.cacert,
            "token_file": self.token_file,
        }

    def say(
        self,
        level: str,
        *hosts: str,
        reason: str = "",
        region: str = "",
        tags: Mapping[str, str] | None = None,
        resource_provider: str | None = None,
    ) -> None:
        """A new verdict on these hosts.

        :param level: ``trusted``, ``untrusted`` or ``unknown``.
        :param hosts: hypervisor host names.
        """
        with self._lock:
            for host in hosts:
                self.cursor += 1
                record = {
                    "reason": reason,
                    "service_host": host,
                    "resource_provider": resource_provider,
                    "tags": dict(tags or {}),
                }
                told = {name: value for name, value in record.items() if value}
                self._rows[region, host] = (
                    self.cursor,
                    {"region": region, "host": host, "level": level, **told},
                )

    def forget(self, host: str, region: str = "") -> None:
        """The host is deleted."""
        with self._lock:
            self.cursor += 1
            self._rows[region, host] = (self.cursor, None)

    def answer(self, since: str | None, etag: str | None) -> tuple[int, Any]:
        """Status and body for a request."""
        with self._lock:
            if etag == self.etag and not self.lapsing and not self.tags_lapsing:
                return _NOT_MODIFIED, None
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
                    for lapsing, tags_only in ((self.lapsing, False), (self.tags_lapsing, True))
                    for host, seconds in lapsing
                ],
            }

    @property
    def etag(self) -> str:
        """The entity tag of an answer."""
        return f'"{self.epoch}:{self.cursor}"'


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is nothing to print."""


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # otherwise each answer waits for a delayed acknowledgement
    script: FakeBackend
    timeout = 60

    def setup(self) -> None:
        """Begin with TLS."""
        self.script.connections += 1
        self.request = self.script._context.wrap_socket(self.request, server_side=True)
        super().setup()

    def log_message(self, *args: Any) -> None:
        """Write nothing."""

    def _serve(self) -> None:
        script = self.script
        script.requests.append((self.path, dict(self.headers)))
        script.bodies.append(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        if script.fault is None:
            self.answer_now()
        else:
            script.fault(self)

    def answer_now(self) -> None:
        """Answer as a backend does that has no fault."""
        script = self.script
        if not script.authorized(self.headers):
            reply(self, 401, {"code": "unauthorized", "detail": "who are you?"})
            return
        query = parse_qs(urlsplit(self.path).query)
        since = query.get("since", [None])[0]
        status, body = script.answer(since, self.headers.get("If-None-Match"))
        reply(self, status, body, {"ETag": script.etag, "OAT-Lease": str(script.lease)})

    do_GET = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815  names of the library


def reply(
    handler: BaseHTTPRequestHandler,
    status: int,
    body: Any,
    headers: Mapping[str, str] | None = None,
) -> None:
    """A complete answer."""
    data = b"" if body is None else json.dumps(body).encode()
    handler.send_response(status)
    for name, value in (headers or {}).items():
        handler.send_header(name, value)
    if status != _NOT_MODIFIED:
        handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)


def make_certificate(folder: Path, name: str) -> tuple[str, str]:
    """A certificate that is its own CA, and its key, as files."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fake attestation backend")])
    now = datetime.datetime.now(datetime.UTC)
    alternative: x509.GeneralName
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
    certificate_path, key_path = folder / "backend-ca.pem", folder / "backend-key.pem"
    certificate_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return str(certificate_path), str(key_path)
