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
"""Other ports, at which nothing but the interface of OpenAttestation is served.

Its clients have their ports built in. Every worker listens there as well, beside the port of the
service: so whatever starts, replaces and ends workers does it for these ports too.
"""

import asyncio
import contextlib
import logging as standard_logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.log import LogLevels
from granian.server.embed import Server
from oslo_log import log as logging

from oat_trusted_filter.backend.api.gateway import Gateway

LOG = logging.getLogger(__name__)

#: Connections of a worker at one of these ports.
CONNECTIONS = 500
_BACKLOG = 1024
_GRACE_SECONDS = 2.0
_PAUSE_SECONDS = 5.0

Serve: TypeAlias = Callable[[Any, Any], Awaitable[None]]
"""An RSGI application."""


class Listener(NamedTuple):
    """Where else to listen."""

    host: str
    """A name or an address, as the configuration has it."""
    port: int
    tls: bool

    @property
    def url(self) -> str:
        """For people."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"


class Doors:
    """The service at its port, and another application at each of the others (RSGI).

    :param gateway: of the service.
    :param others: what is served where.
    :param certificate: of the server, PEM.
    :param key: of the certificate, PEM.
    :param restore_log: sets the log up again, which a new server takes for its own.
    """

    def __init__(
        self,
        gateway: Gateway,
        others: Sequence[tuple[Listener, Serve]],
        *,
        certificate: Path,
        key: Path,
        restore_log: Callable[[], None],
    ) -> None:
        self._gateway = gateway
        self._others = tuple(others)
        self._certificate = certificate
        self._key = key
        self._restore_log = restore_log
        standard_logging.getLogger("_granian").addFilter(_is_news)
        self._servers: dict[Listener, Server] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._ending = asyncio.Event()

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """The worker starts."""
        self._tasks = [
            loop.create_task(self._keep(listener, serve)) for listener, serve in self._others
        ]

    def __rsgi_del__(self, loop: asyncio.AbstractEventLoop) -> None:
        """The worker ends."""
        self._ending.set()
        for server in self._servers.values():
            server.stop()
        # The loop stands still by now.
        loop.run_until_complete(asyncio.wait(self._tasks, timeout=_GRACE_SECONDS))
        self._gateway.__rsgi_del__(loop)

    async def __rsgi__(self, scope: Any, protocol: Any) -> None:
        """Serve one request at the port of the service."""
        await self._gateway.__rsgi__(scope, protocol)

    async def _keep(self, listener: Listener, serve: Serve) -> None:
        """Serve at a port as long as the worker lives; if that ends, begin again."""
        while not self._ending.is_set():
            reason = "it ended"
            try:
                self._servers[listener] = server = self._server(listener, serve)
                await server.serve()
            except Exception as error:
                reason = str(error).partition("\n")[0]
            if not self._ending.is_set():
                LOG.error("nobody is served at %s: %s; trying again", listener.url, reason)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._ending.wait(), _PAUSE_SECONDS)

    def _server(self, listener: Listener, serve: Serve) -> Server:
        server = Server(
            serve,
            address=listener.host,
            port=listener.port,
            interface=Interfaces.RSGI,
            http=HTTPModes.http1,
            websockets=False,
            backlog=_BACKLOG,
            backpressure=CONNECTIONS,
            log_level=LogLevels.warning,
            log_dictconfig={"loggers": {"_granian": {}, "granian.access": {"propagate": False}}},
            ssl_cert=self._certificate if listener.tls else None,
            ssl_key=self._key if listener.tls else None,
            # Nova of that time, and oVirt as it is delivered, know nothing newer.
            ssl_protocol_min=SSLProtocols.tls12,
        )
        self._restore_log()
        return server


def _is_news(record: standard_logging.LogRecord) -> bool:
    """A server beside another one warns each time that it is experimental."""
    return not record.getMessage().endswith("is experimental!")
