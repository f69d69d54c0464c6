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
"""What a source asks for and when, and how long it goes on with the answer."""

import time
from pathlib import Path

import pytest

from oat_trusted_filter.client.drivers.oat import OatDriver
from oat_trusted_filter.client.http import AttestationClient
from tests.lab.scripted_backend import cut, reply
from tests.unit.scheduler.conftest import REFRESH


def queries(backend):
    """The requests there were, without the path they all have."""
    return [path.removeprefix("/v1/verdicts") for path, _ in backend.requests]


def test_nothing_is_sent_before_somebody_asks(source, backend):
    assert backend.connections == 0


def test_what_is_fresh_is_not_asked_for_again(source, backend, clock):
    backend.say("trusted", "a")
    for _ in range(50):
        assert source.view().trusted == {"a"}
    assert len(backend.requests) == 1
    clock.advance(REFRESH)
    assert source.view().trusted == {"a"}
    assert queries(backend) == ["", "?since=epoch-1%3A1"]


def test_an_unchanged_cloud_costs_a_304(source, backend, clock):
    backend.say("trusted", *(f"host-{n}" for n in range(100)))
    statuses = []
    answer = backend.answer

    def noted(since, etag):
        statuses.append(answer(since, etag)[0])
        return answer(since, etag)

    backend.answer = noted
    for _ in range(4):
        assert len(source.view().trusted) == 100
        clock.advance(REFRESH)
    assert statuses == [200, 304, 304, 304]
    assert backend.connections == 1


def test_a_flip_is_known_after_the_refresh_interval(source, backend, clock):
    backend.say("trusted", "a", "b")
    assert source.view().trusted == {"a", "b"}
    backend.say("untrusted", "a", reason="pcr-mismatch")
    backend.forget("b")
    backend.say("trusted", "c")
    clock.advance(REFRESH)
    view = source.view()
    assert view.trusted == {"c"}
    assert view.verdict_on("a") == ("untrusted", "pcr-mismatch")
    assert view.verdict_on("b") == ("unknown", "not-enrolled")
    assert len(backend.requests) == 2


def test_a_refresh_interval_of_nothing_asks_each_time(make_source, backend):
    source = make_source(refresh_interval=0.0)
    for _ in range(3):
        source.view()
    assert len(backend.requests) == 3


def test_E11_another_database_gets_a_full_snapshot(source, backend, clock):
    backend.say("trusted", "a", "b")
    source.view()
    backend.start_over()
    backend.say("trusted", "b")
    clock.advance(REFRESH)
    assert source.view().trusted == {"b"}
    assert len(backend.requests) == 2


def test_E11_a_cursor_from_before_a_restore_gets_a_full_snapshot(source, backend, clock):
    backend.say("trusted", "a", "b", "c")
    source.view()
    with backend._lock:  # the database is put back to an earlier state, its epoch with it
        backend.cursor = 1
        backend._rows = {("", "a"): backend._rows["", "a"]}
    clock.advance(REFRESH)
    assert source.view().trusted == {"a"}


def test_E11_a_reply_that_does_not_continue_what_is_known_is_dropped_and_all_asked_anew(
    source, backend, clock, log
):
    backend.say("trusted", "a")
    source.view()
    answer = backend.answer

    def odd(since, etag):
        code, body = answer(None, None)
        return code, {**body, "epoch": "another", "full": since is None}

    backend.answer = odd
    clock.advance(REFRESH)
    view = source.view()
    assert view.trusted == {"a"}, "the lease still lasts"
    assert "do not continue" in view.problem
    backend.answer = answer
    clock.advance(REFRESH)
    assert source.view().problem is None
    assert queries(backend)[-1] == "", "everything is asked for"


def test_E11_a_cursor_the_backend_cannot_read_is_given_up(source, backend, clock):
    backend.say("trusted", "a")
    source.view()

    def picky(handler):
        if "since=" in handler.path:
            reply(handler, 400, {"code": "since-malformed", "detail": "no such cursor"})
        else:
            handler.answer_now()

    backend.fault = picky
    clock.advance(REFRESH)
    assert source.view().problem == "since-malformed: no such cursor (HTTP 400)"
    clock.advance(REFRESH)
    assert (source.view().problem, source.view().trusted) == (None, {"a"})


def test_E11_a_lapse_that_nobody_announces_is_honoured_between_requests(
    make_source, backend, clock
):
    source = make_source(refresh_interval=3600.0)
    backend.say("trusted", "a", "b")
    backend.lapsing = [("a", 4.0)]
    assert source.view().trusted == {"a", "b"}
    clock.advance(4.0)
    assert source.view().trusted == {"b"}
    assert source.view().verdict_on("a") == ("unknown", "verdict-lapsed")
    assert len(backend.requests) == 1


def test_E11_a_304_never_extends_a_verdict_beyond_its_own_deadline(source, backend, clock):
    backend.say("trusted", "a")
    backend.lease = 8.0
    source.view()
    clock.advance(REFRESH)
    source.view()  # a 304
    backend.stop()
    clock.advance(7.5)
    assert source.view().trusted == {"a"}
    clock.advance(1.0)
    view = source.view()
    assert (view.valid, view.trusted) == (False, frozenset())


def test_E2_a_backend_that_is_gone_lapses_everything_at_the_end_of_the_lease(
    source, backend, clock, log
):
    backend.say("trusted", "a")
    assert source.view().trusted == {"a"}
    backend.stop()
    clock.advance(REFRESH)
    assert source.view().trusted == {"a"}
    assert "are valid for 2" in log.text
    clock.advance(20.0)
    assert source.view().trusted == {"a"}
    clock.advance(5.5)
    view = source.view()
    assert (view.valid, view.trusted) == (False, frozenset())
    assert view.problem.startswith("backend-unreachable: ")
    assert "flavors that ask for trust find no host" in log.text


def test_E2_an_operator_can_make_that_time_shorter(make_source, backend, clock):
    source = make_source(max_age=10.0)
    backend.say("trusted", "a")
    source.view()
    backend.stop()
    clock.advance(9.5)
    assert source.view().trusted == {"a"}
    clock.advance(1.0)
    assert source.view().trusted == frozenset()


def test_E2_a_backend_that_comes_back_is_believed_again(source, backend, clock, log):
    backend.say("trusted", "a")
    backend.fault = cut
    assert not source.view().valid
    backend.fault = None
    clock.advance(1.0)
    view = source.view()
    assert (view.trusted, view.problem) == ({"a"}, None)
    assert "answers again" in log.text


def test_E7_the_time_of_day_counts_for_nothing(source, backend, clock, monkeypatch):
    backend.say("trusted", "a")
    source.view()
    for step in (-1e9, 1e9):
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + step)  # noqa: B023
        clock.advance(REFRESH)
        assert source.view().trusted == {"a"}


def test_a_slow_answer_shortens_the_lease(make_source, backend, clock):
    source = make_source(deadline=60.0)

    def slow(handler):
        clock.advance(25.0)  # the time it takes
        backend.fault = None
        handler.answer_now()

    backend.say("trusted", "a")
    backend.lease = 30.0
    backend.fault = slow
    assert source.view().trusted == {"a"}
    backend.stop()
    clock.advance(5.1)
    assert source.view().trusted == frozenset()


def test_a_mistake_on_this_side_is_said_and_mended_without_a_restart(
    make_source, backend, clock, tmp_path
):
    path = tmp_path / "late-ca.pem"

    def driver():
        return OatDriver(AttestationClient(backend.endpoint, token=backend.token, cacert=path))

    source = make_source(make_driver=driver)
    assert source.view().problem.startswith("ca-file-missing: the CA file ")
    path.write_bytes(Path(backend.cacert).read_bytes())
    clock.advance(1.0)
    assert source.view().valid


def test_a_token_that_changes_is_read_again_after_it_was_refused(make_source, backend, clock):
    tokens = ["old"]

    def driver():
        return OatDriver(
            AttestationClient(backend.endpoint, token=tokens[-1], cacert=backend.cacert)
        )

    source = make_source(make_driver=driver)
    assert source.view().problem == "unauthorized: who are you? (HTTP 401)"
    tokens.append(backend.token)
    clock.advance(1.0)
    assert source.view().valid


def test_a_defect_of_ours_is_a_refusal_with_a_traceback_in_the_log(make_source, log):
    def driver():
        raise KeyError("defect")

    view = make_source(make_driver=driver).view()
    assert (view.valid, view.problem) == (False, "internal-error: KeyError")
    assert "Traceback" in log.text


@pytest.mark.parametrize("body", [{}, [], {"epoch": "e"}, None])
def test_an_answer_that_is_none_changes_nothing(source, backend, clock, body):
    backend.say("trusted", "a")
    source.view()
    backend.fault = lambda handler: reply(handler, 200, body, {"OAT-Lease": "3600"})
    clock.advance(REFRESH)
    assert source.view().trusted == {"a"}
    clock.advance(30.0)
    assert source.view().trusted == frozenset()
