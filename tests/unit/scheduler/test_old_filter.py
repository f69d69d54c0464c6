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
"""What was wrong with the last filter in Nova itself is not wrong here, entry by entry.

Power-on and forced hosts are in :mod:`tests.functional.nova`, for they are Nova's doing.
"""

import logging
import sys
import threading
import time

import pytest

from tests.lab.scripted_backend import ScriptedBackend, hang, status
from tests.unit.scheduler.conftest import hosts, passed, spec

NAMES = ("a", "b", "c")
TRUSTED = {"trust:trusted_host": "trusted"}


def test_old_filter_no_http_timeout(make_filter, backend):
    backend.fault = hang
    started = time.monotonic()
    assert passed(make_filter(deadline=0.5), NAMES) == []
    assert time.monotonic() - started < 5.0


def test_old_filter_one_stale_host_polls_everything_again(make_filter, backend, clock):
    backend.say("trusted", *(f"host-{n}" for n in range(100)))
    backend.lapsing = [("host-0", 1.0)]
    trusted_filter = make_filter()
    passed(trusted_filter, ["host-0", "host-1"])
    clock.advance(2.0)
    assert passed(trusted_filter, ["host-0", "host-1"]) == ["host-1"]
    assert len(backend.requests) == 1
    answers = []
    answer = backend.answer
    backend.answer = lambda *asked: answers.append(answer(*asked)) or answers[-1]
    backend.say("trusted", "host-0")
    backend.lapsing = []
    clock.advance(5.0)
    assert passed(trusted_filter, ["host-0", "host-1"]) == ["host-0", "host-1"]
    ((code, body),) = answers
    assert (code, [one["host"] for one in body["hosts"]]) == (200, ["host-0"])


def test_old_filter_last_good_verdicts_lost_on_any_failure(make_filter, backend, clock):
    backend.say("trusted", "a")
    trusted_filter = make_filter()
    assert passed(trusted_filter, NAMES) == ["a"]
    for fault in (status(500), status(200, b"garbage"), status(401)):
        backend.fault = fault
        clock.advance(6.0)
        assert passed(trusted_filter, NAMES) == ["a"]


def test_old_filter_no_negative_caching(make_filter, backend):
    backend.say("trusted", "a")
    trusted_filter = make_filter()
    for _ in range(10):
        assert passed(trusted_filter, ["a", *(f"stranger-{n}" for n in range(10))]) == ["a"]
    assert len(backend.requests) == 1


def test_old_filter_a_new_tls_connection_each_request(make_filter, backend):
    trusted_filter = make_filter(refresh_interval=0.0)
    for _ in range(10):
        passed(trusted_filter, NAMES)
    assert (len(backend.requests), backend.connections) == (10, 1)


def test_old_filter_not_thread_safe(make_filter, backend, caplog):
    """A hundred thousand passes while verdicts change, and not one wrong answer."""
    caplog.set_level(logging.ERROR, "oat_trusted_filter")
    threads, passes = 16, 6_250
    steady = [f"steady-{n}" for n in range(5)]
    never = ["never-1", "never-2"]
    backend.say("trusted", *steady)
    backend.say("untrusted", *never)
    trusted_filter = make_filter(refresh_interval=0.02, deadline=30.0)
    states, request = hosts(*steady, *never, "flips", "stranger"), spec(TRUSTED)
    wrong, seen, done = [], set(), []
    over = threading.Event()

    def look():
        for _ in range(passes):
            found = [host.nodename for host in trusted_filter.filter_all(states, request)]
            if found not in (steady, [*steady, "flips"]):
                wrong.append(found)
            seen.add(len(found))
        done.append(passes)

    def flip():
        turn = 0
        while not over.wait(0.01):
            turn += 1
            backend.say("trusted" if turn % 2 else "untrusted", "flips")

    workers = [threading.Thread(target=look) for _ in range(threads)]
    flipper = threading.Thread(target=flip)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in (flipper, *workers):
            thread.start()
        for thread in workers:
            thread.join(100)
    finally:
        sys.setswitchinterval(interval)
        over.set()
        flipper.join(10)
    assert sum(done) == 100_000
    assert wrong == []
    assert seen == {5, 6}, "the verdicts did change"


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_old_filter_attestation_insecure_ssl_without_effect(make_filter, tmp_path):
    folder = tmp_path / "other"
    folder.mkdir()
    with ScriptedBackend(folder) as other:
        other.say("trusted", "a")
        options = {"endpoint": other.endpoint, "deadline": 10.0}
        assert passed(make_filter(**options), NAMES) == []
        options |= {"attestation_insecure_ssl": True, "attestation_server_ca_file": None}
        assert passed(make_filter(**options), NAMES) == ["a"]


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"{}", b"\xff", b'{"hosts": [{}]}', b"7"])
def test_old_filter_a_malformed_reply_raises(make_filter, backend, body):
    backend.fault = status(200, body)
    assert passed(make_filter(), NAMES) == []


def test_old_filter_expiry_trusts_the_clock_of_the_service(make_filter, backend, clock):
    backend.say("trusted", "a")
    answer = backend.answer
    far = {"vtime": "2099-01-01T00:00:00Z", "expires_at": "2099-01-01T00:00:00Z"}
    backend.answer = lambda *asked: (answer(*asked)[0], {**answer(*asked)[1], **far})
    backend.lease = 8.0
    trusted_filter = make_filter()
    assert passed(trusted_filter, NAMES) == ["a"]
    backend.stop()
    clock.advance(8.5)
    assert passed(trusted_filter, NAMES) == []


def test_old_filter_nodes_added_later_cost_a_request_each(make_filter, backend):
    backend.say("trusted", "a", "new-1", "new-2")
    trusted_filter = make_filter()
    assert passed(trusted_filter, ["a"]) == ["a"]
    assert passed(trusted_filter, ["a", "new-1", "new-2", "new-3"]) == ["a", "new-1", "new-2"]
    assert len(backend.requests) == 1


def test_old_filter_nodes_removed_are_never_dropped(make_filter, backend, clock):
    backend.say("trusted", "a", "b")
    trusted_filter = make_filter()
    passed(trusted_filter, NAMES)
    backend.forget("a")
    clock.advance(6.0)
    assert passed(trusted_filter, NAMES) == ["b"]
    assert list(trusted_filter._source.view().names) == ["b"]


def test_old_filter_no_word_on_why_a_host_was_refused(make_filter, backend, log):
    backend.say("untrusted", "a", reason="pcr-mismatch")
    passed(make_filter(), ["a", "b"])
    assert "host a refused: untrusted (pcr-mismatch)" in log.text
    assert "host b refused: unknown (not-enrolled)" in log.text
