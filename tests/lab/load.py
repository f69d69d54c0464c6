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
"""Load for a backend: simulated hosts, and connections that cost little beside what they ask for.

A host has a key in software and signs quotes of a recorded boot, one for each challenge. All that
does not depend on the challenge is made once for each boot.
"""

import base64
import contextlib
import hashlib
import json
import multiprocessing
import os
import resource
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self

from oat_trusted_filter.backend.appraisal.records import QUOTED_PCRS
from oat_trusted_filter.tcg.pcr import pcr_digest
from tests.lab.backend import Backend
from tests.lab.boots import Boot
from tests.lab.quotes import SigningKey, attest, select
from tests.unit.backend.attesting import ALLOCATED, IMPLEMENTED, b64

PROCESSES = 2
CONNECTIONS_EACH = 8
GOOD, BAD = "machine-a", "machine-a-loader"
_BUFFER = 1 << 14
_BEGAN = time.monotonic()
#: Every bank, and all PCRs of those that are allocated.
_SELECTIONS = select(IMPLEMENTED, ALLOCATED, QUOTED_PCRS)


class LoadError(Exception):
    """The service did not answer as it has to."""


class ConnectionLost(OSError):
    """The service has closed the connection and not answered."""


@dataclass(frozen=True)
class Image:
    """All of a boot that is the same in each quote."""

    name: str
    log: bytes
    log_digest: str
    pcrs: bytes
    quoted: bytes


@cache
def image(name: str) -> Image:
    """A recorded boot."""
    boot = Boot(name)
    values = {bank: {pcr: boot.pcrs[bank][pcr] for pcr in QUOTED_PCRS} for bank in ALLOCATED}
    written = {
        bank: {str(pcr): value.hex() for pcr, value in found.items()}
        for bank, found in values.items()
    }
    return Image(
        name,
        boot.boot_log,
        hashlib.sha256(boot.boot_log).hexdigest(),
        json.dumps(written).encode(),
        pcr_digest(_SELECTIONS, values, "sha256"),
    )


class SimulatedHost:
    """A host that attests with a key in software.

    :param flips: whether it boots something else before each round, good and bad in turn.
    """

    region = ""

    def __init__(self, name: str, *, flips: bool = False) -> None:
        self.name = name
        self.key = SigningKey.ecc()
        self.flips = flips
        self.image = image(GOOD)
        self._resets = 1
        self._identity = json.dumps({"region": self.region, "host": name})[1:-1].encode()

    def boot(self, name: str) -> None:
        """Boot this recording."""
        self.image = image(name)
        # A copy of this host in another process may have booted as well.
        self._resets = int((time.monotonic() - _BEGAN) * 1000)

    def challenge(self) -> bytes:
        """The body that asks for a challenge."""
        return b"{%s}" % self._identity

    def evidence(self, challenge: str, *, with_log: bool = False) -> bytes:
        """The body that answers it."""
        nonce = hashlib.sha256(base64.urlsafe_b64decode(challenge)).digest()
        clock = int((time.monotonic() - _BEGAN) * 1000)
        message = attest(
            nonce, _SELECTIONS, self.image.quoted, clock=clock, reset_count=self._resets
        )  # fmt: skip
        return (
            b'{%s,"challenge":"%s","quote":"%s","signature":"%s","pcrs":%s,'
            b'"boot_log":{"digest":"%s","data":%s}}'
        ) % (
            self._identity,
            challenge.encode(),
            base64.b64encode(message),
            base64.b64encode(self.key.sign(message)),
            self.image.pcrs,
            self.image.log_digest.encode(),
            f'"{b64(self.image.log)}"'.encode() if with_log else b"null",
        )


class Wire:
    """A connection that stays open."""

    def __init__(self, backend: Backend, context: ssl.SSLContext) -> None:
        plain = socket.create_connection(("127.0.0.1", backend.port), timeout=60)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = context.wrap_socket(plain, server_hostname="127.0.0.1")
        # Kept, for new memory for each large answer costs as much as receiving it.
        self._buffer = bytearray(_BUFFER)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """With a reset, so that thousands of closed connections do not use up the ports."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def call(
        self, method: str, path: str, body: bytes = b"", **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the answer."""
        lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        if body:
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        received, end = 0, -1
        while end < 0:
            received += self._receive(received)
            end = self._buffer.find(b"\r\n\r\n", 0, received)
        first, *rest = self._buffer[:end].decode("latin-1").split("\r\n")
        told = dict(line.lower().split(": ", 1) for line in rest)
        size = end + 4 + int(told.get("content-length", "0"))
        self._buffer.extend(bytes(max(0, size - len(self._buffer))))
        while received < size:
            received += self._receive(received)
        with memoryview(self._buffer) as view:
            return int(first.split()[1]), told, bytes(view[end + 4 : size])

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
        """The body of an answer that has to be a good one."""
        status, _, answer = self.call(method, path, body, **headers)
        if status >= 300:
            raise LoadError(f"{method} {path}: {status} {answer[:300].decode(errors='replace')}")
        return answer

    def round(self, host: SimulatedHost, *, with_log: bool = False) -> None:
        """A challenge and its answer."""
        if host.flips:
            host.boot(BAD if host.image.name == GOOD else GOOD)
        challenge = json.loads(self.ask("POST", "/v1/challenges", host.challenge()))["challenge"]
        self.ask("POST", "/v1/evidence", host.evidence(challenge, with_log=with_log))

    def _receive(self, start: int) -> int:
        """Fill the buffer from there; how many bytes have come."""
        with memoryview(self._buffer) as view:
            count = self._socket.recv_into(view[start:])
        if not count:
            raise ConnectionLost("the service closed the connection")
        return count


@dataclass(frozen=True, slots=True)
class Load:
    """What came of it: how much, in how many seconds, and the seconds each one took."""

    seconds: float
    taken: tuple[float, ...]
    service_seconds: float
    """Of the processors, by the processes of the service."""
    load_seconds: float
    """The same by the load itself."""

    @property
    def per_second(self) -> float:
        """How many in a second."""
        return len(self.taken) / self.seconds

    @property
    def p99_ms(self) -> float:
        """What all but one in a hundred stay below, in milliseconds."""
        return sorted(self.taken)[len(self.taken) * 99 // 100] * 1000

    @property
    def costs(self) -> str:
        """Processor time each of them took, for people."""
        each = 1000 / len(self.taken)
        return (
            f"{self.service_seconds * each:.2f} ms of processor in the service, "
            f"{self.load_seconds * each:.2f} ms in the load"
        )


#: Does one piece of work after the other for as long as it is asked to.
Worker = Callable[[Wire | None], Iterator[None]]


def context_of(backend: Backend) -> ssl.SSLContext:
    """How clients of it check whom they talk to."""
    return ssl.create_default_context(cafile=str(backend.cacert))


def rounds_of(
    backend: Backend, hosts: Sequence[SimulatedHost], *, new_tls: bool = False, once: bool = False
) -> list[Worker]:
    """A worker for each connection, and hosts for each of them.

    :param new_tls: a connection for each round.
    :param once: one round for each host, and not one after the other without end.
    """
    context = context_of(backend)

    def worker(part: Sequence[SimulatedHost]) -> Worker:
        def work(wire: Wire | None) -> Iterator[None]:
            while part:
                for host in part:
                    if wire is None:
                        with Wire(backend, context) as own:
                            own.round(host)
                    else:
                        wire.round(host)
                    yield
                if once:
                    return

        return work

    count = PROCESSES * CONNECTIONS_EACH
    return [worker(hosts[number::count]) for number in range(count)]


def drive(
    backend: Backend, workers: Sequence[Worker], seconds: float, *, new_tls: bool = False
) -> Load:
    """Let all work at the same time, in processes of their own.

    :param seconds: how long; a worker may come to its end sooner.
    :raises LoadError: an answer was not a good one.
    """
    fork = multiprocessing.get_context("fork")
    pipes, processes = [], []
    for number in range(PROCESSES):
        mine, theirs = fork.Pipe()
        process = fork.Process(
            target=_process,
            args=(theirs, backend, workers[number::PROCESSES], seconds, new_tls),
            daemon=True,
        )
        process.start()
        theirs.close()
        pipes.append(mine)
        processes.append(process)
    for pipe in pipes:
        with contextlib.suppress(EOFError):
            pipe.recv()
    started, spent = time.monotonic(), _spent(backend)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for pipe in pipes:
        with contextlib.suppress(OSError):
            pipe.send("go")
    answers = []
    for pipe, process in zip(pipes, processes, strict=True):
        try:
            answers.append(pipe.recv())
        except EOFError:
            answers.append("a process of the load has died")
        process.join()
    took, spent = time.monotonic() - started, _spent(backend) - spent
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    for answer in answers:
        if isinstance(answer, str):
            raise LoadError(answer)
    return Load(
        took,
        tuple(second for answer in answers for second in answer),
        spent,
        after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
    )


def _spent(backend: Backend) -> float:
    """Seconds of processor the service has had so far."""
    ticks = 0
    for pid in (backend.pid, *backend.worker_pids()):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _process(
    pipe: Any, backend: Backend, workers: Sequence[Worker], seconds: float, new_tls: bool
) -> None:
    taken: list[float] = []
    failures: list[str] = []
    context = context_of(backend)

    def run(worker: Worker, wire: Wire | None) -> None:
        done = []
        try:
            before = time.monotonic()
            for _ in worker(wire):
                now = time.monotonic()
                done.append(now - before)
                if now >= deadline:
                    break
                before = now
        except (LoadError, OSError) as error:
            failures.append(str(error))
        taken.extend(done)

    with contextlib.ExitStack() as stack:
        wires = [None if new_tls else stack.enter_context(Wire(backend, context)) for _ in workers]
        pipe.send("ready")
        pipe.recv()
        deadline = time.monotonic() + seconds
        threads = [
            threading.Thread(target=run, args=pair) for pair in zip(workers, wires, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    pipe.send(failures[0] if failures else taken)
