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
"""The program ``oat-attestation-api``: checks that it can work, and serves until it is stopped."""

import contextlib
import ctypes
import errno
import functools
import gc
import os
import resource
import signal
import socket
import ssl
import tempfile
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from granian import Granian
from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.log import LogLevels
from oslo_log import log as logging

from oat_trusted_filter.backend.api import ek_authorities, upkeep
from oat_trusted_filter.backend.api.application import make_application, make_oat_application
from oat_trusted_filter.backend.api.gateway import Gateway
from oat_trusted_filter.backend.api.listeners import CONNECTIONS, Doors, Listener
from oat_trusted_filter.backend.api.measures import Measures
from oat_trusted_filter.backend.api.readiness import announce_when_serving
from oat_trusted_filter.backend.api.service import make_service
from oat_trusted_filter.backend.program import (
    EXIT_FAILED,
    EXIT_OK,
    fail,
    open_store,
    parse_configuration,
)
from oat_trusted_filter.backend.settings import Settings, StartError, is_loopback
from oat_trusted_filter.backend.store import changes
from oat_trusted_filter.backend.store.engine import Store
from oat_trusted_filter.cmd import notify

LOG = logging.getLogger(__name__)

PROG = "oat-attestation-api"
_DESCRIPTION = "Serves the attestation backend over HTTPS until SIGTERM or SIGINT."
#: Seconds a worker has to finish what it is doing.
_GRACE_SECONDS = 5
_BACKLOG = 4096
#: Connections of a worker, idle ones among them; the server closes what is silent for 30 s.
_CONNECTIONS = 10_000
#: Files a worker has open beside its connections.
_OTHER_FILES = 100
#: Objects that are made and kept before those nobody refers to are looked for; a request leaves few
#: of them behind.
_COLLECT_AFTER = 10_000
_PR_SET_PDEATHSIG = 1


def run(argv: Sequence[str]) -> int:
    """Serve; returns the exit status.

    :raises SystemExit: after ``--help`` and for mistakes on the command line.
    """
    try:
        conf = parse_configuration(argv, PROG, description=_DESCRIPTION)
        settings = Settings.from_conf(conf)
        address, listeners = _check(settings)
    except StartError as error:
        return fail(PROG, error)
    LOG.info("serving at %s with %d workers", settings.url, settings.workers)
    for listener in listeners:
        LOG.info("serving clients of OpenAttestation at %s", listener.url)
    server = Granian(
        # Only a name for the list of processes; the loader below makes the application.
        PROG,
        address=address,
        port=settings.port,
        interface=Interfaces.RSGI,
        http=HTTPModes.http1,
        websockets=False,
        workers=settings.workers,
        backlog=_BACKLOG,
        backpressure=_connections(len(listeners)),
        respawn_failed_workers=True,
        workers_kill_timeout=_GRACE_SECONDS,
        ssl_cert=settings.tls_certificate,
        ssl_key=settings.tls_key,
        log_level=LogLevels.warning,
        log_dictconfig={"loggers": {"_granian": {}, "granian.access": {"propagate": False}}},
    )
    server.on_startup(functools.partial(announce_when_serving, address, settings.port))
    listening = [address, *(listener.host for listener in listeners)]
    server.on_startup(lambda: signal.signal(signal.SIGHUP, _reloader(server, argv, listening)))
    server.on_shutdown(notify.stopping)
    # A worker that is told to end before it has handlers of its own would call those of this
    # process, which do nothing there, and would be waited for in vain.
    os.register_at_fork(after_in_child=_end_when_told)
    # Setting up the log of the server has taken the handlers of ours away.
    logging.setup(conf, PROG)
    with tempfile.TemporaryDirectory(prefix="oat-metrics-") as counts:
        loader: Any = functools.partial(
            _load, list(argv), address, listeners, os.getpid(), Path(counts)
        )
        server.serve(target_loader=loader, wrap_loader=False)
    LOG.info("stopped")
    return EXIT_OK


def _reloader(server: Any, argv: Sequence[str], listening: list[str]) -> Callable[..., None]:
    """What SIGHUP does: workers are replaced one by one, and read everything anew.

    With a configuration that cannot work nothing is replaced: the service goes on as it was.
    Addresses, ports and the number of workers stay as they are. A worker that goes answers what it
    has read; a connection it has accepted and not read from is closed, and the client tries again.
    """

    def reload(number: int, frame: Any) -> None:
        try:
            settings = Settings.from_conf(parse_configuration(argv, PROG, description=_DESCRIPTION))
            _check_served(settings, listening)
            _check_parts(settings).close()
        except StartError as error:
            LOG.error("not reloaded: %s [%s]", " ".join(str(error).split()), error.code)
            return
        LOG.info("reloading")
        server.build_ssl_context(
            settings.tls_certificate, settings.tls_key, None, SSLProtocols.tls13, None, [], False
        )
        server.signal_handler_reload()

    return reload


def _load(
    argv: list[str], address: str, listeners: Sequence[Listener], parent: int, counts: Path
) -> Gateway | Doors:
    """The application, made in a worker.

    :param address: what the service listens on since it was started.
    :param listeners: where it listens beside that.
    :param counts: where all workers keep what they measure.
    :raises SystemExit: the configuration or a file has changed, and does not fit any more.
    """
    _end_with(parent)
    try:
        made = _made(argv, address, listeners, counts)
    except StartError as error:
        LOG.error("%s [%s]", " ".join(str(error).split()), error.code)
        raise SystemExit(EXIT_FAILED) from error
    # What is there by now stays; to look through it again and again takes time from every request.
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER)
    return made


def _made(
    argv: list[str], address: str, listeners: Sequence[Listener], counts: Path
) -> Gateway | Doors:
    conf = parse_configuration(argv, PROG, description=_DESCRIPTION)
    settings = Settings.from_conf(conf)
    _check_served(settings, [address, *(listener.host for listener in listeners)])
    store = open_store(settings)
    service = make_service(settings, store, measures=Measures(counts))
    ek_authorities.warn(service)
    upkeep.start(service)
    gateway = Gateway(make_application(service), rounds_in_turn=store.sqlite)
    if not listeners:
        return gateway
    return Doors(
        gateway,
        [
            (listener, gateway.beside(make_oat_application(service, writes=listener.tls)))
            for listener in listeners
        ],
        certificate=settings.tls_certificate,
        key=settings.tls_key,
        restore_log=lambda: logging.setup(conf, PROG),
    )


def _connections(listeners: int) -> int:
    """How many connections a worker can have at the port of the service; each is an open file.

    :param listeners: number of the other ports.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    others = _OTHER_FILES + listeners * CONNECTIONS
    wanted = _CONNECTIONS + others
    if 0 <= soft < wanted:
        most = wanted if hard < 0 else min(wanted, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _CONNECTIONS if soft < 0 else max(min(_CONNECTIONS, soft - others), 1)


def _end_when_told() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


def _end_with(parent: int) -> None:
    """Let the kernel end this worker if the main process is killed.

    With a signal that the server in it cannot handle and take its time over.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise SystemExit(1)


def _check(settings: Settings) -> tuple[str, tuple[Listener, ...]]:
    """Find out now what would otherwise make every worker fail.

    :returns: the address to listen on, and where to listen beside that.
    :raises StartError: with what is missing.
    """
    store = _check_parts(settings)
    address = _check_address("[api] bind_host", settings.bind_host, settings.port)
    listeners = _listeners(settings)
    # A database that was brought back from a backup counts its changes from where it was then. With
    # a new epoch nobody takes that count for the one he has seen.
    store.write(lambda connection: changes.new_epoch(connection, str(uuid.uuid4())))
    try:
        upkeep.check_not_rolled_back(settings, store)
    finally:
        store.close()
    return address, listeners


def _listeners(settings: Settings) -> tuple[Listener, ...]:
    """The other ports, all of them free.

    :raises StartError: ``address-unusable`` or ``port-in-use``.
    """
    compat = settings.oat_compat
    if compat is None:
        return ()
    wanted = [("[api] bind_host", settings.bind_host, port, True) for port in compat.tls_ports]
    if compat.http_port is not None:
        wanted.append(
            ("[oat_compat] http_bind_host", compat.http_bind_host, compat.http_port, False)
        )
    return tuple(
        Listener(_check_address(option, host, port), port, tls)
        for option, host, port, tls in wanted
    )


def _check_parts(settings: Settings) -> Store:
    """Put all parts together once, to see that they fit.

    :returns: the database, open.
    :raises StartError: with what is missing.
    """
    _check_tls(settings)
    store = open_store(settings)
    make_application(make_service(settings, store))
    return store


def _check_served(settings: Settings, listening: Sequence[str]) -> None:
    """Whether the service may go on where it listens, whatever the file says of it by now."""
    public = [address for address in listening if not is_loopback(address)]
    if settings.auth_strategy == "noauth" and public:
        raise StartError(
            "configuration",
            f"[api] auth_strategy is noauth, and the service listens on {public[0]} until it is "
            "started anew",
        )


def _check_tls(settings: Settings) -> None:
    for path in (settings.tls_certificate, settings.tls_key):
        try:
            path.open("rb").close()
        except OSError as error:
            raise StartError(
                "tls-file-missing",
                f"{path} cannot be read: {error.strerror}; run oat-manage --config-file FILE "
                "init, or set [api] tls_certificate and tls_key",
            ) from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(settings.tls_certificate, settings.tls_key, password="")
    except (ssl.SSLError, OSError, ValueError) as error:
        raise StartError(
            "tls-file-invalid",
            f"{settings.tls_certificate} and {settings.tls_key} are not a certificate and its key "
            "without password",
        ) from error


def _check_address(option: str, host: str, port: int) -> str:
    """Whether nobody else listens there: the workers share the port and would share it with him.

    :returns: the address of the host.
    """
    where = f"{host}:{port}"
    try:
        found = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )  # fmt: skip
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except socket.gaierror as error:
        raise StartError(
            "address-unusable", f"{option} {host}: {error.strerror}"
        ) from error
    except OSError as error:
        code = "port-in-use" if error.errno == errno.EADDRINUSE else "address-unusable"
        raise StartError(code, f"cannot listen on {where}: {error.strerror}") from error
    return str(address[0])
