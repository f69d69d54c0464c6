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
"""Between passes the snapshot is kept fresh, as long as somebody asks; nothing rests on it."""

import gc
import threading
import time

import pytest

from oat_trusted_filter.scheduler import source as source_module
from tests.lab.scripted_backend import hang, status
from tests.lab.wait import wait_for
from tests.unit.scheduler.test_processes import in_a_fork

INTERVAL = 0.2


#: Threads of earlier tests whose time is not over yet.
_OTHERS = set()


def refreshers():
    return [
        thread
        for thread in threading.enumerate()
        if thread.name == "oat-refresh" and thread not in _OTHERS
    ]


@pytest.fixture
def source(make_source, backend):
    backend.say("trusted", "a")
    return make_source(background=True, refresh_interval=INTERVAL, deadline=5.0)


@pytest.fixture(autouse=True)
def no_thread_is_left(monkeypatch):
    _OTHERS.clear()
    _OTHERS.update(refreshers())
    yield
    monkeypatch.setattr(source_module, "LINGER", -1.0)
    wait_for(lambda: not refreshers(), 20, "the thread to end")


def test_nothing_is_asked_before_the_first_pass(source, backend):
    assert (refreshers(), backend.connections) == ([], 0)


def test_passes_find_a_fresh_snapshot_and_send_nothing(source, backend):
    assert source.view().trusted == {"a"}
    wait_for(lambda: len(backend.requests) >= 4, 20, "requests between passes")
    backend.say("untrusted", "a")
    # No pass looks in the meantime, so only the thread can have asked.
    wait_for(
        lambda: f"%3A{backend.cursor}" in backend.requests[-1][0], 20, "the change to be known"
    )
    count = len(refreshers())
    assert source.view().trusted == frozenset()
    assert count == 1


def test_one_thread_however_many_passes(source):
    for _ in range(50):
        source.view()
    assert len(refreshers()) == 1


def test_it_ends_with_its_source(make_source):
    source = make_source(background=True, refresh_interval=INTERVAL)
    source.view()
    assert len(refreshers()) == 1
    del source
    gc.collect()
    wait_for(lambda: not refreshers(), 20, "the thread to end")


def test_it_is_quiet_when_nobody_asks_any_more(source, backend, monkeypatch):
    monkeypatch.setattr(source_module, "LINGER", 0.0)
    source.view()
    wait_for(lambda: not refreshers(), 20, "the thread to end")
    count = len(backend.requests)
    monkeypatch.setattr(source_module, "LINGER", 60.0)
    time.sleep(2 * INTERVAL)
    assert len(backend.requests) == count
    assert source.view().trusted == {"a"}
    wait_for(lambda: len(backend.requests) >= count + 3, 20, "the next pass to wake it")


def test_a_backend_that_hangs_holds_up_no_pass(source, backend):
    source.view()
    backend.fault = hang
    asked = len(backend.requests)
    wait_for(lambda: len(backend.requests) > asked, 20, "the thread to meet the fault")
    started = time.monotonic()
    for _ in range(100):
        assert source.view().trusted == {"a"}
    assert time.monotonic() - started < 5.0


def test_after_a_failure_it_keeps_the_pause_and_goes_on(source, backend, log):
    source.view()
    backend.fault = status(500)
    wait_for(lambda: "did not renew the verdicts" in log.text, 20, "the failure")
    failed = len(backend.requests)
    backend.fault = None
    source.view()
    assert len(backend.requests) == failed, "the pause holds"
    wait_for(lambda: "answers again" in log.text, 20, "the next attempt")


def test_a_fork_has_a_thread_of_its_own(source):
    source.view()

    def look():
        before = len(refreshers())
        source.view()
        return before, len(refreshers()), source.view().trusted

    assert in_a_fork(look)() == (0, 1, {"a"})


def test_without_threads_the_passes_ask_themselves(source, backend, monkeypatch):
    def no_more(thread):
        if thread.name == "oat-refresh":
            raise RuntimeError("can't start new thread")
        start(thread)

    start = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", no_more)
    assert source.view().trusted == {"a"}
    asked = len(backend.requests)
    time.sleep(INTERVAL)
    backend.say("untrusted", "a")
    assert source.view().trusted == frozenset()
    assert len(backend.requests) == asked + 1
