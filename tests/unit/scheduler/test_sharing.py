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
"""Passes side by side share one request, and a backend in trouble is not asked by each of them."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from oat_trusted_filter.client.drivers.oat import OatDriver
from oat_trusted_filter.client.http import AttestationClient
from tests.lab.scripted_backend import hang, status
from tests.lab.wait import wait_for
from tests.unit.scheduler.conftest import DEADLINE, REFRESH

#: What a busy machine may add to a wait.
SLACK = 2.0


@pytest.fixture
def held(backend):
    """The backend holds its answers back until ``held`` is set, and then answers."""
    release = threading.Event()

    def hold(handler):
        release.wait(30)
        backend.fault = None
        handler.answer_now()

    backend.fault = hold
    yield release
    release.set()


def test_many_at_once_share_one_request(source, backend, held):
    backend.say("trusted", "a")
    with ThreadPoolExecutor(20) as pool:
        views = [pool.submit(source.view) for _ in range(20)]
        wait_for(lambda: backend.requests, 10, "the request")
        held.set()
        assert all(view.result(30).trusted == {"a"} for view in views)
    assert len(backend.requests) == 1


def test_nobody_waits_for_a_refresh_while_the_lease_lasts(make_source, backend, clock, held):
    source = make_source(deadline=20.0)
    backend.say("trusted", "a")
    fault, backend.fault = backend.fault, None
    source.view()
    backend.fault = fault
    clock.advance(REFRESH)
    with ThreadPoolExecutor(1) as pool:
        refresher = pool.submit(source.view)
        wait_for(lambda: len(backend.requests) == 2, 10, "the refresh to begin")
        for _ in range(100):
            assert source.view().trusted == {"a"}
        assert not refresher.done()
        held.set()
        assert refresher.result(30).trusted == {"a"}
    assert len(backend.requests) == 2


def test_a_backend_that_hangs_costs_the_deadline_once(source, backend, clock):
    backend.fault = hang
    started = time.monotonic()
    with ThreadPoolExecutor(10) as pool:
        for view in [pool.submit(source.view) for _ in range(30)]:
            assert not view.result(30).valid
    assert DEADLINE * 0.9 <= time.monotonic() - started < DEADLINE + SLACK
    assert len(backend.requests) == 1

    started = time.monotonic()
    for _ in range(100):
        assert source.view().problem.startswith("backend-timeout: ")
    assert time.monotonic() - started < DEADLINE
    assert len(backend.requests) == 1

    clock.advance(10 * DEADLINE)
    source.view()
    assert len(backend.requests) == 2


def test_after_a_failure_there_is_a_pause_and_then_one_attempt(source, backend, clock):
    backend.fault = status(500)
    for _ in range(20):
        assert source.view().problem.startswith("http-500: ")
    assert len(backend.requests) == 1
    clock.advance(1.0)
    for _ in range(20):
        source.view()
    assert len(backend.requests) == 2


def test_a_failure_with_verdicts_in_hand_costs_no_verdict_and_no_wait(source, backend, clock):
    backend.say("trusted", "a")
    source.view()
    backend.fault = hang
    clock.advance(REFRESH)
    assert source.view().trusted == {"a"}
    started = time.monotonic()
    for _ in range(100):
        assert source.view().trusted == {"a"}
    assert time.monotonic() - started < DEADLINE
    assert len(backend.requests) == 2


def test_nothing_is_lost_when_many_ask_and_the_backend_changes_its_mind(make_source, backend):
    source = make_source(refresh_interval=0.0, deadline=10.0)
    steady = {f"steady-{n}" for n in range(50)}
    backend.say("trusted", *steady)
    over = threading.Event()

    def flip():
        for turn in range(100_000):
            if over.is_set():
                return
            backend.say("trusted" if turn % 2 else "untrusted", "flipping")
            over.wait(0.001)

    def look():
        return [source.view().trusted for _ in range(30)]

    flipper = threading.Thread(target=flip)
    flipper.start()
    try:
        with ThreadPoolExecutor(8) as pool:
            seen = [pool.submit(look) for _ in range(8)]
            views = [trusted for found in seen for trusted in found.result(60)]
    finally:
        over.set()
        flipper.join(10)
    assert len(views) == 240
    assert all(trusted - {"flipping"} == steady for trusted in views)
    assert len(backend.requests) <= 240


def test_whoever_ends_a_request_early_lets_the_next_one_go_on(make_source, backend, clock):
    class Ended(BaseException):
        """As a green thread that is killed."""

    ends = [True]

    def driver():
        if ends:
            ends.clear()
            raise Ended
        return OatDriver(
            AttestationClient(backend.endpoint, token=backend.token, cacert=backend.cacert)
        )

    source = make_source(make_driver=driver)
    with pytest.raises(Ended):
        source.view()
    clock.advance(1.0)
    assert source.view().valid
