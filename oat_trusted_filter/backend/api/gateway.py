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
"""Between the server and the WSGI application: a request is complete before a thread works on it.

Threads are few. A client that sends its body byte by byte would hold one for as long as it likes,
so bodies are collected here, where waiting costs nothing, with a limit on their size, on the time
they take, and on the memory of all of them together.
"""

import asyncio
import contextlib
import functools
import io
import sys
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from granian.rsgi import ProtocolClosed
from oslo_log import log as logging

from oat_trusted_filter.backend.api.exchange import KIB, LARGE_BODY, MIB, SMALL_BODY
from oat_trusted_filter.backend.api.problems import CONTENT_TYPE, Problem
from oat_trusted_filter.backend.api.request_id import new_request_id

LOG = logging.getLogger(__name__)

#: Threads of a worker. More than there are processors, for some requests take long: a change of
#: the rules judges all hosts, and a password takes a fifth of a second.
THREADS = 8
#: Answered without a thread: handing the request to one takes longer than the answer, which neither
#: looks anything up nor waits for anybody.
AT_ONCE = "/v1/challenges"
#: Rounds of agents. SQLite takes one write at a time, so there they have one thread: more of them
#: would only wait for each other, and with all of them everybody else.
ROUNDS = "/v1/evidence"
#: Who has this header may have to wait for keystone.
_TOKEN_HEADER = "x-auth-token"  # noqa: S105
#: Seconds a client has for the body of a request.
BODY_SECONDS = 30.0
#: Bytes of a body that is waited for as a whole, which takes one turn of the loop instead of one
#: for each part of it. So much the server holds of any connection before anybody asks.
WHOLE_BODY = 16 * KIB
#: Bytes of bodies a worker holds at one time.
BODIES_IN_ALL = 64 * MIB
#: Bytes of these that are kept for small bodies: large ones that stall fill only the rest.
ROOM_FOR_SMALL = 16 * MIB
#: Bytes of a body that is too large which are read all the same, and dropped: most clients look at
#: the answer only when they have sent everything.
DROPPED_BODY = 64 * MIB


class _Reply(NamedTuple):
    status: int
    headers: list[tuple[str, str]]
    body: bytes


class Gateway:
    """An RSGI application (the asynchronous interface of granian) around a WSGI application.

    :param rounds_in_turn: whether rounds of agents come one after the other.
    """

    def __init__(
        self,
        application: Any,
        *,
        rounds_in_turn: bool = False,
        threads: int = THREADS,
        body_seconds: float = BODY_SECONDS,
        bodies_in_all: int = BODIES_IN_ALL,
    ) -> None:
        self._application = application
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="request")
        self._rounds = self._threads
        if rounds_in_turn:
            self._rounds = ThreadPoolExecutor(1, thread_name_prefix="round")
        self._body_seconds = body_seconds
        self._room = bodies_in_all

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """The worker starts."""

    def __rsgi_del__(self, loop: asyncio.AbstractEventLoop) -> None:
        """The worker ends."""
        for threads in (self._threads, self._rounds):
            threads.shutdown(wait=True, cancel_futures=True)

    async def __rsgi__(self, scope: Any, protocol: Any) -> None:
        """Serve one request."""
        await self._serve(self._application, scope, protocol)

    def beside(self, application: Any) -> Callable[[Any, Any], Awaitable[None]]:
        """Another WSGI application, for another port, with the same threads and limits."""
        return functools.partial(self._serve, application)

    async def _serve(self, application: Any, scope: Any, protocol: Any) -> None:
        try:
            reply = await self._reply(application, scope, protocol)
        except Problem as problem:
            request_id = new_request_id()
            headers = [("Content-Type", CONTENT_TYPE), ("Cache-Control", "no-store")]
            headers += problem.headers.items()
            reply = _Reply(problem.status, headers, problem.document(request_id))
        if reply.body:
            protocol.response_bytes(reply.status, reply.headers, reply.body)
        else:
            protocol.response_empty(reply.status, reply.headers)

    async def _reply(self, application: Any, scope: Any, protocol: Any) -> _Reply:
        length = _length(scope.headers)
        if length > LARGE_BODY:
            await self._drop(protocol, length)
        parts: list[bytes] = []
        try:
            if length:
                await self._collect(protocol, length, parts)
            body = b"".join(parts)
            if len(body) != length:
                raise Problem("body-invalid", "the body has another length than was announced")
            environ = environment(scope, body)
            if scope.path == AT_ONCE and _TOKEN_HEADER not in scope.headers:
                return _call(application, environ)
            threads = self._threads
            if scope.path == ROUNDS and length <= SMALL_BODY:
                threads = self._rounds
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(threads, _call, application, environ)
        finally:
            self._room += sum(map(len, parts))

    async def _collect(self, protocol: Any, length: int, parts: list[bytes]) -> None:
        """Read the body; the server sees to it that it is not longer than announced."""
        kept = 0 if length <= SMALL_BODY else ROOM_FOR_SMALL
        try:
            async with asyncio.timeout(self._body_seconds):
                if length <= WHOLE_BODY:
                    # A client that goes away meanwhile has sent nothing.
                    with contextlib.suppress(ProtocolClosed):
                        parts.append(await protocol())
                    self._reserve(sum(map(len, parts)), kept)
                    return
                async for part in protocol:
                    parts.append(part)
                    self._reserve(len(part), kept)
        except TimeoutError as error:
            raise Problem(
                "body-too-slow",
                f"the body did not come within {self._body_seconds:g} s",
                headers={"Connection": "close"},
            ) from error

    async def _drop(self, protocol: Any, length: int) -> None:
        if length <= DROPPED_BODY:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._body_seconds):
                    async for _ in protocol:
                        pass
        raise Problem(
            "body-too-large",
            f"the body is larger than {LARGE_BODY} bytes",
            headers={"Connection": "close"},
        )

    def _reserve(self, size: int, kept: int) -> None:
        """Take room for a part of a body.

        :param kept: bytes of the room that are not for it.
        """
        self._room -= size
        if self._room < kept:
            raise Problem(
                "service-busy",
                "too many large requests at this moment",
                headers={"Retry-After": "1", "Connection": "close"},
            )


def _call(application: Any, environ: dict[str, Any]) -> _Reply:
    """Run the WSGI application, in a thread."""
    status = 500
    headers: list[tuple[str, str]] = []

    def start_response(line: str, fields: list[tuple[str, str]], error: Any = None) -> None:
        nonlocal status, headers
        status, headers = int(line[:3]), fields

    chunks: Iterable[bytes] = application(environ, start_response)
    return _Reply(status, headers, b"".join(chunks))


def _length(headers: Any) -> int:
    """The length of the body as announced.

    :raises Problem: ``body-length-missing`` or ``body-invalid``.
    """
    text = headers.get("content-length")
    if text is None:
        if headers.get("transfer-encoding") is not None:
            raise Problem(
                "body-length-missing",
                "a body has to come with its length",
                headers={"Connection": "close"},
            )
        return 0
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise Problem("body-invalid", "Content-Length is not a number")
    return int(text)


def environment(scope: Any, body: bytes) -> dict[str, Any]:
    """The WSGI environment of a request (PEP 3333)."""
    server, _, port = scope.server.rpartition(":")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope.method,
        "SCRIPT_NAME": "",
        # Bytes, each as the character of its number.
        "PATH_INFO": unquote_to_bytes(scope.path).decode("latin-1"),
        "QUERY_STRING": scope.query_string,
        "SERVER_NAME": server,
        "SERVER_PORT": port,
        "SERVER_PROTOCOL": f"HTTP/{scope.http_version}",
        "REMOTE_ADDR": scope.client.rpartition(":")[0].strip("[]"),
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.scheme,
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for name, value in scope.headers.items():
        key = name.upper().replace("-", "_")
        if key == "CONTENT_TYPE":
            environ[key] = value
        elif key != "CONTENT_LENGTH" and "_" not in name:
            # An underscore in the name would pass for a hyphen.
            key = f"HTTP_{key}"
            environ[key] = f"{environ[key]},{value}" if key in environ else value
    return environ
