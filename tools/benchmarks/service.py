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
"""The backend as a service: attestation rounds, what relying parties ask, enrolments, memory.

The programs run as an operator starts them. Load, service and database share two processors. One
host in a hundred boots something else before each of its rounds, so a hundredth of all rounds
changes a verdict, with a report in the history and a row in the audit trail.
"""

import base64
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from sqlalchemy import Connection

from oat_trusted_filter.backend.api.tag_records import Claims, TagBook
from oat_trusted_filter.backend.signing import Signing
from oat_trusted_filter.backend.store import hosts as host_store
from oat_trusted_filter.backend.store import tags
from oat_trusted_filter.backend.store.engine import Store
from tests.lab.backend import Backend
from tests.lab.databases import MariaDb, PostgreSql, Server
from tests.lab.load import (
    BAD,
    CONNECTIONS_EACH,
    PROCESSES,
    Load,
    LoadError,
    SimulatedHost,
    Wire,
    Worker,
    context_of,
    drive,
    rounds_of,
)
from tests.lab.makers import authority, ek_certificate
from tests.lab.paper_tpm import PaperTpm
from tests.unit.backend.attesting import IMPLEMENTED, b64
from tests.unit.backend.conftest import candidate_of
from tools.benchmarks.timing import Figure

_HOSTS = 200
_SIZES = (100, 1_000, 10_000)
_LARGEST = _SIZES[-1]
_FLIPS_EACH = 100
_WINDOWS = 3
_WINDOW_SECONDS = 5.0
_GROWTH_WINDOW_SECONDS = 4.0
_GROWTH_ROUNDS = 100_000
_FOREVER = float("inf")
_PROCESSORS = 2
_REPEATS = 15
_TAGS = {"rack": "r1", "zone": "az1"}
_POLL = "/AttestationService/resources/PollHosts"


def run() -> list[Figure]:
    """Measure."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:_PROCESSORS])
    figures = []
    with tempfile.TemporaryDirectory(prefix="oat-benchmark-") as text:
        folder = Path(text)
        with _Site(folder / "sqlite") as site:
            figures += _rounds(site, "sqlite", 1000)
            figures += _new_tls(site)
            figures += _enrolments(site)
            figures += _memory(site)
        for name, kind in (("mariadb", MariaDb), ("postgresql", PostgreSql)):
            with _database(kind) as url, _Site(folder / name, url) as site:
                figures += _rounds(site, name, 600)
        with _Site(folder / "growth") as site:
            figures += _growth(site)
    return figures


class _Site:
    """A backend, and the hosts that attest there.

    :param url: of the database; None: a SQLite file.
    """

    def __init__(self, folder: Path, url: str | None = None) -> None:
        folder.mkdir()
        self.maker = authority("maker of TPMs")
        makers = folder / "makers"
        makers.mkdir()
        (makers / "maker.pem").write_bytes(self.maker.pem)
        options: dict[tuple[str, str], object] = {
            ("attestation", "ek_ca_dir"): makers,
            # What was seeded must not end while it is measured.
            ("attestation", "verdict_lifetime"): 3600,
            ("audit", "file"): folder / "audit.jsonl",
            ("oat_compat", "enabled"): True,
        }
        if url is not None:
            options["database", "connection"] = url
        self.backend = Backend(folder / "backend", options)
        self.hosts: list[SimulatedHost] = []
        self._url = url or f"sqlite:///{self.backend.state_dir / 'oat.sqlite'}"

    def __enter__(self) -> "_Site":
        _say(f"starting a backend ({self._url.partition(':')[0]})")
        self.backend.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.backend.stop()

    def wire(self) -> Wire:
        """A connection."""
        return Wire(self.backend, context_of(self.backend))

    def grow(self, count: int) -> None:
        """Let there be so many hosts, all of which have attested and have tags."""
        _say(f"{count} hosts")
        added = [
            SimulatedHost(f"compute-{number}.example.org", flips=number % _FLIPS_EACH == 1)
            for number in range(len(self.hosts), count)
        ]
        self._approve(added)
        first = not self.hosts
        self.hosts += added
        if first:
            self._set_rules(added[1], added[0])
        drive(self.backend, rounds_of(self.backend, added, once=True), _FOREVER)

    def _approve(self, added: Sequence[SimulatedHost]) -> None:
        """Put them into the database, for an enrolment takes a TPM, with tags."""
        book = TagBook(Signing(self.backend.state_dir / "signing.key"))
        now = time.time_ns() // 1_000_000

        def sign(serial: int, host: SimulatedHost, fingerprint: str) -> str:
            return book.sign(Claims(serial, "", host.name, fingerprint, _TAGS, now // 1000))

        def work(connection: Connection) -> None:
            for host in added:
                candidate = candidate_of(host)
                waiting = host_store.enrol(connection, candidate, now)
                binding = host_store.approve(connection, waiting)
                signed = partial(sign, host=host, fingerprint=candidate.ek_fingerprint)
                tags.assign(connection, binding.id, signed, None, None)

        store = Store(self._url)
        try:
            store.write(work)
        finally:
            store.close()

    def _set_rules(self, flipping: SimulatedHost, good: SimulatedHost) -> None:
        """A policy that asks for facts, and a reference set; both boots are known from now on."""
        with self.wire() as wire:
            flipping.boot(BAD)
            for host in (flipping, good):
                asked = wire.ask("POST", "/v1/challenges", host.challenge())
                challenge = json.loads(asked)["challenge"]
                wire.ask("POST", "/v1/evidence", host.evidence(challenge, with_log=True))
            for method, path, body in (
                ("POST", "/v1/reference-sets", {"name": "good", "from_hosts": [good.name]}),
                ("PUT", "/v1/policies/default", {"name": "default", "secure_boot": "required"}),
            ):
                wire.ask(method, path, json.dumps(body).encode(), **self.operator)

    @property
    def operator(self) -> dict[str, str]:
        """The header of an operator."""
        return {"Authorization": f"Bearer {self.backend.admin_token}"}

    def memory(self) -> float:
        """Of all processes of the service, shared pages divided among them, in megabytes."""
        total = 0
        for pid in (self.backend.pid, *self.backend.worker_pids()):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
        return total / 1024


@contextlib.contextmanager
def _database(kind: Callable[[], Server]) -> Iterator[str]:
    server = kind()
    try:
        server.start()
        yield server.create("oat_benchmark")
    finally:
        server.remove()


def _say(text: str) -> None:
    print(f"[service] {text}", file=sys.stderr, flush=True)


def _windows(work: Callable[[], Load]) -> tuple[float, float, str]:
    """Median of what some windows of time bring: so many a second, and the 99th percentile."""
    loads = sorted((work() for _ in range(_WINDOWS)), key=lambda load: load.per_second)
    median = loads[_WINDOWS // 2]
    told = f"{loads[0].per_second:.0f} to {loads[-1].per_second:.0f}; {median.costs}"
    return median.per_second, statistics.median(load.p99_ms for load in loads), told


def _rounds(site: _Site, name: str, budget: float) -> list[Figure]:
    site.grow(_HOSTS)
    _say(f"rounds over connections that stay open, {name}")
    workers = rounds_of(site.backend, site.hosts)
    rate, p99, spread = _windows(lambda: drive(site.backend, workers, _WINDOW_SECONDS))
    return [
        Figure(
            f"rounds_per_s_{name}", rate, budget,
            f"{_HOSTS} hosts, {len(workers)} connections; {spread}", at_least=True,
        ),
        Figure(f"rounds_p99_ms_{name}", p99),
    ]  # fmt: skip


def _new_tls(site: _Site) -> list[Figure]:
    _say("a new connection for each round")
    workers = rounds_of(site.backend, site.hosts, new_tls=True)
    rate, p99, spread = _windows(
        lambda: drive(site.backend, workers, _WINDOW_SECONDS, new_tls=True)
    )
    return [
        Figure("rounds_per_s_new_tls", rate, 400, f"sqlite; {spread}", at_least=True),
        Figure("rounds_p99_ms_new_tls", p99),
    ]


def _enrolments(site: _Site) -> list[Figure]:
    """Key and certificate checked, a credential made and opened; half of the work is the TPM's."""
    _say("enrolments")
    workers = [_enroller(site, number) for number in range(PROCESSES * CONNECTIONS_EACH)]
    load = drive(site.backend, workers, _WINDOW_SECONDS)
    return [
        Figure(
            "enrolments_per_s", load.per_second, None,
            "sqlite, RSA endorsement keys with certificates; the TPMs are software here too",
        ),
        Figure("enrolments_p99_ms", load.p99_ms),
    ]  # fmt: skip


def _enroller(site: _Site, number: int) -> Worker:
    tpm = PaperTpm()
    fields = {
        "ek_public": b64(tpm.ek_public),
        "ak_public": b64(tpm.ak.public),
        "ek_certificate": b64(ek_certificate(site.maker, tpm.ek)),
        "banks": IMPLEMENTED,
    }

    def work(wire: Wire | None) -> Iterator[None]:
        assert wire is not None  # noqa: S101  these keep their connections
        for turn in range(1_000_000):
            body = {"host": f"new-{number}-{turn % 100}", **fields}
            begun = json.loads(wire.ask("POST", "/v1/enrolments", json.dumps(body).encode()))
            sealed = (_bytes(begun[name]) for name in ("credential_blob", "encrypted_secret"))
            secret = json.dumps({"secret": b64(tpm.activate(*sealed))}).encode()
            wire.ask("PUT", f"/v1/enrolments/{begun['id']}", secret)
            yield

    return work


def _memory(site: _Site) -> list[Figure]:
    workers = rounds_of(site.backend, site.hosts)
    drive(site.backend, workers, _WINDOW_SECONDS)
    before, done = site.memory(), 0
    while done < _GROWTH_ROUNDS:
        _say(f"memory: {done} of {_GROWTH_ROUNDS} rounds")
        done += len(drive(site.backend, workers, _GROWTH_WINDOW_SECONDS * 4).taken)
    after = site.memory()
    return [
        Figure("memory_mb", after, 250, "main process and two workers, proportional set size"),
        Figure("memory_growth_mb", after - before, 5, f"over {done} rounds"),
    ]


def _growth(site: _Site) -> list[Figure]:
    figures = []
    for count in _SIZES:
        site.grow(count)
        _say(f"how cost grows, {count} hosts")
        workers = rounds_of(site.backend, site.hosts)
        load = drive(site.backend, workers, _GROWTH_WINDOW_SECONDS)
        found = {"rounds_per_s": load.per_second, "rounds_p99_ms": load.p99_ms}
        found |= _asked(site)
        workers = [_enroller(site, number) for number in range(PROCESSES)]
        found["enrolments_per_s"] = drive(site.backend, workers, 2.0).per_second
        found["memory_mb"] = site.memory()
        figures += [Figure(name, value, hosts=count) for name, value in found.items()]
    # The last of them are those of the largest number of hosts.
    return [
        *figures,
        Figure("verdicts_10000_ms", found["verdicts_changed_ms"], 40, "all, after a change"),
        Figure("verdicts_again_ms", found["verdicts_again_ms"], 5, "all, nothing has changed"),
        Figure("verdicts_unchanged_ms", found["verdicts_unchanged_ms"], 3, "304"),
        Figure("pollhosts_10000_ms", found["pollhosts_ms"], 100, "all of them in one request"),
    ]


def _asked(site: _Site) -> dict[str, float]:
    """Milliseconds of what relying parties ask, from the first byte sent to the last received."""
    flipping = site.hosts[1]
    token = {"Authorization": f"Bearer {site.backend.scheduler_token}"}
    blob = {"x_auth_blob": site.backend.scheduler_token}
    names = json.dumps({"hosts": [host.name for host in site.hosts]}).encode()
    taken: dict[str, list[float]] = {}

    with site.wire() as wire, site.wire() as other:

        def ask(name: str, method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
            started = time.perf_counter()
            answer = wire.call(method, path, body, **headers)
            taken.setdefault(f"{name}_ms", []).append((time.perf_counter() - started) * 1000)
            if answer[0] not in (200, 304):
                raise LoadError(f"{method} {path}: {answer[0]} {answer[2][:300]!r}")
            etags.append(answer[1].get("etag", ""))
            return answer[2]

        etags: list[str] = []
        for _ in range(_REPEATS):
            other.round(flipping)
            known = json.loads(ask("verdicts_changed", "GET", "/v1/verdicts", **token))
            if len(known["hosts"]) != len(site.hosts) or not known["hosts"][0].get("tags"):
                raise LoadError("not all hosts are there with their tags")
            ask("verdicts_again", "GET", "/v1/verdicts", **token)
            ask("verdicts_unchanged", "GET", "/v1/verdicts", If_None_Match=etags[-1], **token)
            other.round(flipping)
            since = f"/v1/verdicts?since={known['epoch']}:{known['cursor']}"
            told = json.loads(ask("verdicts_since", "GET", since, **token))
            if [host["host"] for host in told["hosts"]] != [flipping.name]:
                raise LoadError("the host that has changed is not told")
            ask("one_host", "GET", f"/v1/hosts/{flipping.name}", **site.operator)
            ask("hosts_page", "GET", "/v1/hosts?limit=100", **site.operator)
            ask("pollhosts", "POST", _POLL, names, **blob)
    return {name: statistics.median(times) for name, times in taken.items()}


def _bytes(text: str) -> bytes:
    return base64.b64decode(text)
