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
"""The scheduler filter: passes beside the bare look-up, changes, unknown hosts, a hanging backend.

Hosts and requests are Nova's own objects. The backend answers over HTTPS on loopback, from another
process, so that its work does not count as the filter's.
"""

import contextlib
import json
import logging
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tests.lab.nova_threads import choose_native_threads

choose_native_threads()

import nova.conf  # noqa: E402
from nova.objects.flavor import Flavor  # noqa: E402
from nova.objects.request_spec import RequestSpec  # noqa: E402
from nova.scheduler.host_manager import HostState  # noqa: E402

from oat_trusted_filter.conf import trusted_computing  # noqa: E402
from oat_trusted_filter.scheduler.trusted_filter import TrustedFilter  # noqa: E402
from tests.lab.scripted_backend import ScriptedBackend, hang  # noqa: E402
from tools.benchmarks.timing import Figure, microseconds  # noqa: E402

_MANY, _SOME = 10_000, 1_000
#: One host in a hundred is not trusted.
_UNTRUSTED_EACH = 100
#: Never asked again within a measurement.
_LONG = 3600.0
_LOGGER = logging.getLogger("oat_trusted_filter")
_DEADLINE = 2.0
_SPEC = RequestSpec(
    flavor=Flavor(name="trusted", extra_specs={"trust:trusted_host": "trusted"}),
    instance_uuid="7bd5ac2e-3f27-4bd4-8f2c-2f2a4ac8f0a1",
    scheduler_hints={},
)
_PLAIN = RequestSpec(flavor=Flavor(name="plain", extra_specs={}), scheduler_hints={})


def run() -> list[Figure]:
    """Measure."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.enter_context(_logging_to(folder / "log"))
        backend = stack.enter_context(_Backend(folder))
        names = [f"compute-{n}.example.org" for n in range(_MANY)]
        backend.say("trusted", [n for i, n in enumerate(names) if i % _UNTRUSTED_EACH])
        backend.say("untrusted", names[::_UNTRUSTED_EACH])
        states = [HostState(name, name, None) for name in names]
        return [
            *_warm(backend, states),
            *_cold(backend, states),
            *_changed(backend, states),
            *_unknown(backend, states),
            *_plain(backend, states),
            *_hang(backend, states),
        ]


def _warm(backend: "_Backend", states: list[Any]) -> Iterator[Figure]:
    """The pass without the line it writes to the log, which costs the same for any host count."""
    found = backend.new_filter()
    passed = [h.nodename for h in found.filter_all(states, _SPEC)]
    trusted = frozenset(json.loads(json.dumps(passed)))  # names out of a reply, as those it knows

    for count in (_SOME, _MANY):
        some = states[:count]
        calls = {
            "pass": lambda hosts=some: found.filter_all(hosts, _SPEC),
            "bare": lambda hosts=some: [h for h in hosts if h.nodename in trusted],
        }
        telling = microseconds(calls, time.thread_time)
        _LOGGER.setLevel(logging.WARNING)
        taken = microseconds(calls, time.thread_time)
        _LOGGER.setLevel(logging.INFO)
        yield Figure(
            f"warm_{count}_ratio",
            taken["pass"] / taken["bare"],
            1.5,
            f"{taken['pass']:.0f} us a pass, {taken['bare']:.0f} us bare look-up; "
            f"{telling['pass']:.0f} us with its line in the log",
        )


def _cold(backend: "_Backend", states: list[Any]) -> Iterator[Figure]:
    times, requests = [], []
    for _ in range(7):
        found = backend.new_filter()
        before = backend.count()
        times.append(_milliseconds(lambda found=found: found.filter_all(states, _SPEC)))
        requests.append(backend.count() - before)
    yield Figure("cold_10000_ms", statistics.median(times), 150, "a filter that knows nothing")
    yield Figure("cold_requests", max(requests), 1)


def _changed(backend: "_Backend", states: list[Any]) -> Iterator[Figure]:
    found = backend.new_filter(refresh_interval=0.0)
    found.filter_all(states, _SPEC)
    times, requests = [], []
    for turn in range(20):
        level = "trusted" if turn % 2 else "untrusted"
        backend.say(level, [states[1].nodename])
        before = backend.count()
        times.append(_milliseconds(lambda: found.filter_all(states, _SPEC)))
        requests.append(backend.count() - before)
    yield Figure("changed_one_ms", statistics.median(times), 10, "one of 10,000 hosts changed")
    yield Figure("changed_one_requests", max(requests), 1)


def _unknown(backend: "_Backend", states: list[Any]) -> Iterator[Figure]:
    found = backend.new_filter()
    hosts = [*states[:_SOME], *(HostState(f"new-{n}", f"new-{n}", None) for n in range(100))]
    found.filter_all(hosts, _SPEC)
    before = backend.count()
    passes = 20
    for _ in range(passes):
        found.filter_all(hosts, _SPEC)
    each = (backend.count() - before) / passes
    yield Figure("unknown_100_requests", each, 0, "a pass, 100 hosts nobody enrolled")


def _plain(backend: "_Backend", states: list[Any]) -> Iterator[Figure]:
    found = backend.new_filter()
    before = backend.count()
    taken = microseconds({"plain": lambda: found.filter_all(states, _PLAIN)}, time.thread_time)[
        "plain"
    ]
    yield Figure("plain_flavor_requests", backend.count() - before, 0)
    yield Figure("plain_flavor_us", taken, 5, "10,000 hosts, a flavor that asks for no trust")


def _hang(backend: "_Backend", states: list[Any]) -> Iterator[Figure]:
    found = backend.new_filter(deadline=_DEADLINE)
    backend.hang(True)
    first = _milliseconds(lambda: found.filter_all(states, _SPEC)) / 1000
    following = [_milliseconds(lambda: found.filter_all(states, _SPEC)) for _ in range(20)]
    backend.hang(False)
    yield Figure("hang_first_s", first, _DEADLINE + 0.2, f"a deadline of {_DEADLINE:g} s")
    yield Figure("hang_next_ms", statistics.median(following), 5, "the same 10,000 hosts")


def _milliseconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1000


@contextlib.contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """The log of the filter goes to a file, at the level of production."""
    logger = _LOGGER
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(levelname)s %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()


class _Backend:
    """The scripted backend in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pipe, theirs = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("spawn").Process(
            target=_serve, args=(theirs, str(folder)), daemon=True
        )

    def __enter__(self) -> "_Backend":
        self._process.start()
        self._endpoint, self._cacert, token = self._pipe.recv()
        (self._folder / "token").write_text(token)
        trusted_computing.register_opts(nova.conf.CONF)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._pipe.close()
        self._process.join(10)

    def _call(self, *command: Any) -> Any:
        self._pipe.send(command)
        return self._pipe.recv()

    def say(self, level: str, names: list[str]) -> None:
        """New verdicts."""
        self._call("say", level, names)

    def count(self) -> int:
        """The requests so far."""
        return int(self._call("count"))

    def hang(self, on: bool) -> None:
        """Answer nobody, or everybody again."""
        self._call("hang", on)

    def new_filter(self, refresh_interval: float = _LONG, deadline: float = 30.0) -> TrustedFilter:
        """A filter as nova-scheduler makes it."""
        options = {
            "endpoint": self._endpoint,
            "attestation_server_ca_file": self._cacert,
            "token_file": str(self._folder / "token"),
            "attestation_auth_timeout": int(_LONG),
            "refresh_interval": refresh_interval,
            "deadline": deadline,
        }
        for name, value in options.items():
            nova.conf.CONF.set_override(name, value, group="trusted_computing")
        return TrustedFilter()


def _serve(pipe: Connection, folder: str) -> None:
    with ScriptedBackend(Path(folder)) as backend:
        backend.lease = _LONG
        pipe.send((backend.endpoint, backend.cacert, backend.token))
        with contextlib.suppress(EOFError):
            while True:
                command, *arguments = pipe.recv()
                answer = None
                if command == "say":
                    level, names = arguments
                    backend.say(level, *names)
                elif command == "count":
                    answer = len(backend.requests)
                else:
                    backend.fault = hang if arguments[0] else None
                pipe.send(answer)
