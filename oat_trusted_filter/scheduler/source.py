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
"""Where the filter gets its snapshot from: at most one request at a time, and none too many.

A pass that needs a newer snapshot asks for it itself; passes beside it go on with the last one as
long as its lease lasts, and else wait for that request.

While passes come, a thread asks a little earlier than they would have to, so they find a snapshot
that is fresh and wait for nobody. Nothing rests on it: it is started by the first pass of a
process, so a fork has its own, and ends by itself when no pass came for a while, so a cloud where
nobody asks for trust sends nothing.
"""

import contextlib
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from oslo_log import log as logging

from oat_trusted_filter.client.drivers.base import AttestationDriver
from oat_trusted_filter.client.errors import BackendRefused, BadReply, ClientError
from oat_trusted_filter.scheduler.snapshot import VerdictSnapshot, View, apply_reply

LOG = logging.getLogger(__name__)

#: Seconds without a request after one that failed fast, so that a backend that refuses connections
#: is not asked by each pass.
PAUSE = 1.0
#: After one that used up its deadline, this many deadlines.
PAUSE_DEADLINES = 2.5
#: Seconds a driver that asks by name goes on to ask about a host after the last pass it was in.
NAME_KEPT = 3600.0
#: Seconds for which the snapshot is kept fresh after the last pass.
LINGER = 30.0
#: Share of the refresh interval after which it is renewed in the background.
_EARLY = 0.8
#: Least seconds between two attempts in the background.
_LEAST_PAUSE = 0.02
_BAD_REQUEST = 400


class _Flight:
    """A request under way."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.landed = threading.Event()


@dataclass(slots=True)
class _Process:
    """What belongs to one process; a fork starts with an empty one."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    driver: AttestationDriver | None = None
    snapshot: VerdictSnapshot | None = None
    flight: _Flight | None = None
    retry_at: float | None = None
    problem: str | None = None
    start_over: bool = False
    asked_at: float = 0.0
    """When the last pass came."""
    refresher: threading.Thread | None = None
    names: dict[str, float] = field(default_factory=dict)
    """Hosts of passes and when they were seen last, if the driver asks by name."""


class VerdictSource:
    """Thread-safe. Times in seconds.

    :param make_driver: called when a connection is needed; may raise ClientError.
    :param deadline: how long a pass waits at most.
    :param refresh_interval: age up to which a snapshot is used without asking.
    :param max_age: age up to which a snapshot is used at all.
    :param background: whether to refresh between passes as well.
    :param by_name: whether the driver has to be told which hosts to ask about.
    """

    def __init__(
        self,
        make_driver: Callable[[], AttestationDriver],
        *,
        background: bool = True,
        by_name: bool = False,
        region: str,
        deadline: float,
        refresh_interval: float,
        max_age: float,
    ) -> None:
        self._make_driver = make_driver
        self._background = background and refresh_interval > 0
        self._by_name = by_name
        self._region = region
        self._deadline = deadline
        self._refresh_interval = refresh_interval
        self._max_age = max_age
        self._processes: dict[int, _Process] = {}

    def view(self, names: Callable[[], Iterable[str]] = tuple) -> View:
        """The verdicts, refreshed if that is due. Waits no longer than the deadline.

        :param names: tells the hypervisor host names of the pass; called if the driver needs them.
        """
        process = self._process()
        now = time.monotonic()
        newcomers = self._by_name and self._note(process, names(), now)
        snapshot = process.snapshot
        if snapshot is None or newcomers or not self._fresh(snapshot, now):
            self._refresh(process, now, insist=newcomers)
            now = time.monotonic()
            snapshot = process.snapshot
        process.asked_at = now
        if process.refresher is None and self._background and snapshot is not None:
            self._start_refresher(process)
        return View(snapshot, now, process.problem)

    @staticmethod
    def _note(process: _Process, names: Iterable[str], now: float) -> bool:
        """Remember the hosts of a pass; says whether some are new."""
        with process.lock:
            known = len(process.names)
            process.names.update(dict.fromkeys(names, now))
            return len(process.names) > known

    def _process(self) -> _Process:
        pid = os.getpid()
        process = self._processes.get(pid)
        if process is None:
            # setdefault is atomic, so all threads get the same one. What the parent had stays
            # untouched: its lock may be held, and its TLS connection is not ours to use or close.
            process = self._processes.setdefault(pid, _Process())
        return process

    def _fresh(self, snapshot: VerdictSnapshot, now: float) -> bool:
        return snapshot.usable(now) and now - snapshot.sent_at < self._refresh_interval

    def _start_refresher(self, process: _Process) -> None:
        thread = threading.Thread(
            target=_keep_fresh, args=(weakref.ref(self), process), name="oat-refresh", daemon=True
        )
        with process.lock:
            if process.refresher is not None:
                return
            process.refresher = thread
        # If there can be no more threads, the passes ask themselves.
        with contextlib.suppress(RuntimeError):
            thread.start()

    def renew(self, process: _Process) -> float | None:
        """Refresh if that is nearly due; returns the seconds until then, None if nobody asks."""
        now = time.monotonic()
        with process.lock:
            if now - process.asked_at > LINGER:
                process.refresher = None
                return None
            snapshot = process.snapshot
        early = self._refresh_interval * _EARLY
        if snapshot is None or now - snapshot.sent_at >= early:
            self._refresh(process, now, insist=True)
            snapshot = process.snapshot
        sent_at = now if snapshot is None else snapshot.sent_at
        pause = sent_at + early - time.monotonic()
        if process.problem is not None:
            pause = max(pause, PAUSE)
        return max(pause, _LEAST_PAUSE)

    def _refresh(self, process: _Process, now: float, *, insist: bool = False) -> None:
        """Ask, or wait for the one who asks, or leave it.

        :param insist: ask although the snapshot is fresh.
        """
        with process.lock:
            snapshot, flight = process.snapshot, process.flight
            usable = snapshot is not None and snapshot.usable(now)
            mine = flight is None
            if flight is None:
                if snapshot is not None and not insist and self._fresh(snapshot, now):
                    return  # somebody was faster
                if process.retry_at is not None and now < process.retry_at:
                    return
                flight = process.flight = _Flight(now + self._deadline)
        if mine:
            self._fly(process, flight, snapshot)
        elif not usable:
            flight.landed.wait(max(flight.deadline - now, 0.0))

    def _fly(self, process: _Process, flight: _Flight, known: VerdictSnapshot | None) -> None:
        """Make the request and take note of how it ended, whatever happens."""
        started = time.monotonic()
        result: VerdictSnapshot | None = None
        problem = "the request ended without a result"
        try:
            result = self._ask(process, known)
        except ClientError as error:
            problem = f"{error.code}: {error}"
        except Exception as error:
            # A defect of ours must not take the scheduler's request with it.
            LOG.exception("asking the attestation backend failed in an unforeseen way")
            problem = f"internal-error: {type(error).__name__}"
        finally:
            with process.lock:
                process.flight = None
                if result is not None:
                    self._succeeded(process, result)
                else:
                    self._failed(process, problem, started)
            flight.landed.set()

    def _ask(self, process: _Process, known: VerdictSnapshot | None) -> VerdictSnapshot:
        if process.driver is None:
            process.driver = self._make_driver()
        if process.start_over:
            known = None
        since, etag = (None, None) if known is None else (known.since, known.etag)
        names = self._names(process) if self._by_name else ()
        try:
            reply = process.driver.get_verdicts(since, etag, names=names, timeout=self._deadline)
            return apply_reply(known, reply, self._region, self._max_age)
        except (BadReply, BackendRefused) as error:
            # What is known may be the reason, and asking from there again would end the same way.
            process.start_over = known is not None and (
                isinstance(error, BadReply) or error.status == _BAD_REQUEST
            )
            raise

    @staticmethod
    def _names(process: _Process) -> frozenset[str]:
        """The hosts to ask about; those that no pass has had for long are dropped."""
        now = time.monotonic()
        with process.lock:
            process.names = {
                name: seen for name, seen in process.names.items() if now - seen < NAME_KEPT
            }
            return frozenset(process.names)

    def _succeeded(self, process: _Process, snapshot: VerdictSnapshot) -> None:
        if process.problem is not None:
            LOG.info("the attestation backend answers again")
        process.snapshot = snapshot
        process.problem = None
        process.retry_at = None
        process.start_over = False

    def _failed(self, process: _Process, problem: str, started: float) -> None:
        now = time.monotonic()
        hung = now - started >= self._deadline * 0.9
        pause = max(PAUSE_DEADLINES * self._deadline, PAUSE) if hung else PAUSE
        process.retry_at = now + pause
        process.problem = problem
        # A new one reads token and CA file anew, and connects anew.
        driver, process.driver = process.driver, None
        if driver is not None:
            driver.close()
        left = 0.0 if process.snapshot is None else process.snapshot.expires_at - now
        if left > 0:
            LOG.warning(
                "the attestation backend did not renew the verdicts: %s; the last ones are valid "
                "for %.1f s more, the next attempt is not before %.1f s",
                problem,
                left,
                pause,
            )
        else:
            LOG.error(
                "no verdicts from the attestation backend: %s; flavors that ask for trust find no "
                "host, the next attempt is not before %.1f s",
                problem,
                pause,
            )


def _keep_fresh(reference: "weakref.ref[VerdictSource]", process: _Process) -> None:
    """What the thread does; it ends with its source, or when nobody asks any more."""
    pause: float | None = 0.0
    while pause is not None:
        time.sleep(pause)
        source = reference()
        if source is None:
            return
        pause = source.renew(process)
        del source
