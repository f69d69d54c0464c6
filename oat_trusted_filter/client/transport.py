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
"""One HTTP exchange with a deadline that holds, over a kept-alive connection.

The time-outs of a socket count from byte to byte: a name server that does not answer, an address
list of dead addresses or a server that sends one byte a second would hold a caller for as long as
they like. So every exchange runs in a short-lived thread of its own and the caller waits for it no
longer than the deadline; the connection is then shut down, which ends the thread.
"""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPException, RemoteDisconnected
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import urlsplit

import requests
from keystoneauth1 import exceptions as ks_exceptions
from keystoneauth1 import session as ks_session
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.util.ssl_match_hostname import CertificateError

from oat_trusted_filter.client.errors import BackendUnreachable, BadReply, ClientError
from oat_trusted_filter.client.keystone import KeystoneCredential

#: Largest body that is read unless a caller says otherwise, in bytes.
LARGEST_BODY = 64 * 1024 * 1024
_CHUNK = 64 * 1024
#: Threads that may be left waiting for something that cannot be interrupted (a name look-up).
MOST_ABANDONED = 8
_UNAUTHORIZED = 401
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete HTTP reply."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    sent_at: float
    """Monotonic clock just before the request was sent, in seconds."""


class _Exchange:
    """One exchange: the connection it uses and its outcome."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.reply: Reply | None = None
        self.error: BaseException | None = None
        self.connected = False
        """Whether it opened a connection of its own."""
        self._sockets: list[socket.socket] = []
        self._over = False

    def use(self, sock: socket.socket) -> None:
        """Remember how to end the conversation on this socket.

        Kept as a plain duplicate, for a TLS socket cannot be shut down under the hands of the
        thread that reads from it, and takes the plain one away before its handshake.
        """
        self.release()
        self._sockets.append(socket.fromfd(sock.fileno(), sock.family, sock.type))
        if self._over:
            self.shut_down()

    def shut_down(self) -> None:
        """End the conversation, from another thread, also one that is yet to begin."""
        self._over = True
        with contextlib.suppress(IndexError, OSError), self._sockets.pop() as sock:
            sock.shutdown(socket.SHUT_RDWR)

    def release(self) -> None:
        """Forget the connection."""
        # Whoever pops it closes it, so no file descriptor is closed twice.
        with contextlib.suppress(IndexError):
            self._sockets.pop().close()


class _Current(threading.local):
    """The exchange a thread is there for."""

    exchange: _Exchange | None = None


_CURRENT = _Current()
#: Threads that are still stuck after their caller has left, of all clients of the process. A
#: dictionary, for its operations need no lock, which a fork might leave locked.
_ABANDONED: dict[threading.Thread, None] = {}


class _Watched:
    """What a connection of urllib3 tells the exchange that uses it."""

    def _new_conn(self) -> socket.socket:
        sock: socket.socket = super()._new_conn()  # type: ignore[misc]
        if _CURRENT.exchange is not None:
            _CURRENT.exchange.connected = True
            _CURRENT.exchange.use(sock)
        return sock

    def request(self, *args: Any, **kwargs: Any) -> None:
        sock = getattr(self, "sock", None)
        if sock is not None and _CURRENT.exchange is not None:
            _CURRENT.exchange.use(sock)
        super().request(*args, **kwargs)  # type: ignore[misc]


class _PlainConnection(_Watched, HTTPConnection):
    pass


class _SecureConnection(_Watched, HTTPSConnection):
    pass


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _PlainConnection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class _Adapter(ks_session.TCPKeepAliveAdapter):
    """An adapter whose connections can be shut down from outside."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _PlainPool, "https": _SecurePool}


class _NoNetrc(requests.auth.AuthBase):
    """Authentication that changes nothing, so that no .netrc replaces our credential."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


class Transport:
    """HTTP to one server. Thread-safe; nothing is started before the first exchange.

    :param verify: a CA file, or whether to check the server's certificate at all.
    :param certificate: files of a client certificate and its key.
    :param credential: asked for headers within the time of each exchange.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        verify: str | bool,
        certificate: tuple[str, str] | None = None,
        credential: KeystoneCredential | None = None,
    ) -> None:
        self._credential = credential
        session = requests.Session()
        session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        if urlsplit(endpoint).hostname in _LOOPBACK:
            session.trust_env = False  # no proxy in between
        for scheme in ("http://", "https://"):
            session.mount(scheme, _Adapter())
        self._http = session
        self._session = ks_session.Session(
            session=session, verify=verify, cert=certificate, app_name="oat-trusted-filter"
        )

    def close(self) -> None:
        """Close idle connections; the next exchange opens a new one."""
        self._http.close()

    def exchange(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        data: bytes | None,
        *,
        timeout: float,
        largest: int = LARGEST_BODY,
    ) -> Reply:
        """Send one request and return the whole reply.

        :param timeout: seconds after which this returns or raises, whatever the server does.
        :param largest: most bytes of a body; a longer one is refused.
        :raises BackendUnreachable: no connection, no TLS, or no complete reply in time.
        :raises BadReply: the reply cannot be read.
        :raises ClientError: ``client-busy``.
        """
        for stuck in list(_ABANDONED):
            if not stuck.is_alive():
                _ABANDONED.pop(stuck, None)
        if len(_ABANDONED) >= MOST_ABANDONED:
            raise ClientError(
                "client-busy",
                f"{MOST_ABANDONED} earlier requests are still stuck, in name look-ups probably",
            )
        exchange = _Exchange()
        deadline = time.monotonic() + timeout

        def work() -> None:
            _CURRENT.exchange = exchange
            try:
                exchange.reply = self._authorized(
                    exchange, method, url, headers, data, deadline=deadline, largest=largest
                )
            except BaseException as error:  # noqa: BLE001  it is raised again by the caller
                exchange.error = error
            finally:
                exchange.release()
                exchange.done.set()

        thread = threading.Thread(target=work, name="oat-exchange", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            raise ClientError("client-busy", f"no thread for the request: {error}") from error
        if not exchange.done.wait(max(deadline - time.monotonic(), 0.0)):
            _ABANDONED[thread] = None
            exchange.shut_down()
            raise _late(timeout)
        if exchange.error is not None:
            raise _translated(exchange.error, timeout) from exchange.error
        if exchange.reply is None:  # pragma: no cover  one of the two is always set
            raise BadReply("reply-broken", "the request ended without a result")
        return exchange.reply

    def _authorized(
        self,
        exchange: _Exchange,
        method: str,
        url: str,
        headers: Mapping[str, str],
        data: bytes | None,
        **limits: Any,
    ) -> Reply:
        """Send it with the credential, and once more if its token was not good any more."""
        credential = self._credential
        if credential is None:
            return self._perform(exchange, method, url, headers, data, **limits)
        reply = self._perform(
            exchange, method, url, {**headers, **credential.headers()}, data, **limits
        )
        if reply.status != _UNAUTHORIZED or not credential.renew():
            return reply
        return self._perform(
            exchange, method, url, {**headers, **credential.headers()}, data, **limits
        )

    def _perform(
        self,
        exchange: _Exchange,
        method: str,
        url: str,
        headers: Mapping[str, str],
        data: bytes | None,
        *,
        deadline: float,
        largest: int,
    ) -> Reply:
        sent_at = time.monotonic()
        try:
            response = self._send(method, url, headers, data, deadline)
        except ks_exceptions.ConnectFailure as error:
            if exchange.connected or method != "GET" or not _stale(error):
                raise
            # The server closed the kept-alive connection just as it was used again.
            response = self._send(method, url, headers, data, deadline)
        with contextlib.closing(response):
            body = _read(response, deadline, largest)
            return Reply(response.status_code, dict(response.headers), body, sent_at)

    def _send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        data: bytes | None,
        deadline: float,
    ) -> requests.Response:
        return self._session.request(
            url,
            method,
            headers=dict(headers),
            data=data,
            stream=True,
            timeout=max(deadline - time.monotonic(), 0.001),
            requests_auth=_NoNetrc(),
            authenticated=False,
            raise_exc=False,
            redirect=False,
            log=False,  # it would write credentials into the log
        )


def _read(response: requests.Response, deadline: float, largest: int) -> bytes:
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise BadReply("reply-encoding", "the reply is compressed, which was not asked for")
    chunks: list[bytes] = []
    size = 0
    read: Callable[[int], bytes] = response.raw.read
    while chunk := read(_CHUNK):
        size += len(chunk)
        if size > largest:
            raise BadReply("reply-too-large", f"the reply is larger than {largest} bytes")
        if time.monotonic() > deadline:
            raise TimeoutError
        chunks.append(chunk)
    return b"".join(chunks)


def _late(timeout: float) -> BackendUnreachable:
    return BackendUnreachable("backend-timeout", f"no complete answer within {timeout:g} s")


def _stale(error: BaseException) -> bool:
    stale = (RemoteDisconnected, ConnectionResetError, BrokenPipeError)
    return any(isinstance(cause, stale) for cause in _causes(error))


def _translated(error: BaseException, timeout: float) -> Exception:
    """The error of the libraries below as one of ours."""
    if isinstance(error, ClientError):
        return error
    causes = tuple(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return BackendUnreachable(
                "tls-certificate",
                f"the certificate of the server is not trusted: {cause.verify_message}",
            )
        if isinstance(cause, CertificateError):  # urllib3 looks at the name itself
            return BackendUnreachable(
                "tls-certificate",
                f"the certificate of the server is not trusted: {_sentence(cause)}",
            )
        if isinstance(cause, requests.Timeout | TimeoutError):
            return _late(timeout)
    text = _sentence(causes[-1])
    if isinstance(causes[-1], HTTPException) and not isinstance(causes[-1], RemoteDisconnected):
        return BadReply("reply-broken", f"the reply is not HTTP: {text}")
    for cause in causes:
        if isinstance(cause, ssl.SSLError | ks_exceptions.SSLError):
            return BackendUnreachable("tls-failed", f"TLS failed: {text}")
        if isinstance(cause, ks_exceptions.ConnectionError):
            return BackendUnreachable("backend-unreachable", f"no connection: {text}")
    return BadReply("reply-broken", f"the reply cannot be read: {text}")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it came from, the origin last."""
    current: BaseException | None = error
    for _ in range(10):
        if current is None:
            return
        yield current
        current = current.__cause__ or current.__context__


def _sentence(error: BaseException) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    text = " ".join(text.split())[:300]
    return "".join(c if c.isprintable() else "?" for c in text) or type(error).__name__
