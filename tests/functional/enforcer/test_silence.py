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
"""The backend is silent: fail closed, but not at once."""

from pathlib import Path

import pytest

from oat_trusted_filter.traits import TRUSTED
from tests.functional.enforcer.bench import FULL_INTERVAL, GRACE
from tests.lab.scripted_backend import reply, status

LEASE = 30.0


@pytest.fixture
def host(bench):
    """A trusted host that has its trait."""
    uuid = bench.placement.add("compute-1")
    bench.backend.say("trusted", "compute-1")
    bench.turn()
    assert bench.placement.traits(uuid) == {TRUSTED}
    return uuid


def test_a_short_outage_changes_nothing(bench, host):
    bench.backend.fault = status(503)
    for _ in range(4):
        bench.clock.pass_by(LEASE)
        bench.turn()
        assert bench.placement.traits(host) == {TRUSTED}
    bench.backend.fault = None
    bench.turn()
    assert bench.placement.traits(host) == {TRUSTED}
    assert bench.enforcer.totals.removed == 0


def test_after_lease_and_grace_nobody_is_trusted_until_the_backend_is_back(bench, host, caplog):
    bench.backend.fault = status(503)
    bench.clock.pass_by(LEASE + GRACE - 5.0)
    bench.turn()
    assert bench.placement.traits(host) == {TRUSTED}

    bench.clock.pass_by(6.0)
    done = bench.turn()
    assert bench.placement.traits(host) == set()
    assert (done.counts.removed, done.counts.incidents) == (1, 0)
    assert "no host is trusted any more" in caplog.text

    bench.backend.fault = None
    bench.turn()
    assert bench.placement.traits(host) == {TRUSTED}


def test_without_grace_the_end_of_the_lease_is_the_end(bench, host):
    bench.start(outage_grace=0.0)
    bench.turn()
    bench.backend.fault = status(503)
    bench.clock.pass_by(LEASE + 1.0)
    bench.turn()
    assert bench.placement.traits(host) == set()


def test_nobody_gains_trust_while_the_backend_is_silent(bench, host):
    bench.start(full_interval=GRACE)
    bench.turn()
    bench.placement.change(host, drop={TRUSTED})
    bench.backend.fault = status(503)
    bench.clock.pass_by(GRACE)  # the lease is over, the grace is not
    assert bench.turn().full
    assert bench.placement.traits(host) == set()
    bench.backend.fault = None
    bench.turn()
    assert bench.placement.traits(host) == {TRUSTED}


def test_what_the_last_verdicts_forbid_is_removed_while_the_backend_is_silent(bench, host):
    other = bench.placement.add("compute-2")
    bench.backend.say("untrusted", "compute-2")
    bench.start(full_interval=GRACE)
    bench.turn()
    bench.backend.fault = status(503)
    bench.placement.change(other, add={TRUSTED})
    bench.clock.pass_by(GRACE)  # the lease is over, the grace is not
    done = bench.turn()
    assert bench.placement.traits(other) == set()
    assert bench.placement.traits(host) == {TRUSTED}
    assert done.counts.incidents == 1


def test_a_start_without_the_backend_waits_for_it_as_long_as_the_grace(bench, host, caplog):
    bench.backend.fault = status(503)
    bench.restart()
    bench.front.requests.clear()
    assert bench.turn() is None
    assert bench.front.requests == []

    bench.clock.pass_by(GRACE + 1.0)
    done = bench.turn()
    assert bench.placement.traits(host) == set()
    assert (done.counts.removed, done.counts.incidents) == (1, 0)


def test_a_lapse_comes_true_without_the_backend(bench):
    host = bench.placement.add("compute-1")
    bench.backend.lapsing = [("compute-1", 5.0)]
    bench.backend.say("trusted", "compute-1")
    bench.turn()
    bench.backend.fault = status(500)
    bench.clock.pass_by(6.0)
    bench.turn()
    assert bench.placement.traits(host) == set()


def test_a_lease_without_end_is_not_believed(bench, host):
    bench.backend.lease = 1e12
    bench.turn()
    bench.backend.fault = status(503)
    bench.clock.pass_by(FULL_INTERVAL + GRACE + 1.0)
    bench.turn()
    assert bench.placement.traits(host) == set()


def test_a_garbled_answer_is_silence_and_the_next_question_asks_for_everything(bench, host):
    bench.backend.fault = status(200, b'{"epoch": 7}')
    bench.turn()
    bench.backend.fault = None
    bench.backend.say("untrusted", "compute-1")
    bench.turn()
    assert bench.placement.traits(host) == set()


def test_changes_that_continue_nothing_are_not_believed_and_all_is_asked_for(bench, host):
    """A proxy mixes up two backends, say."""

    def confused(handler):
        script = handler.script
        if "since=" in handler.path:
            body = {**script.answer(None, None)[1], "epoch": "another", "full": False}
            body["hosts"] = [{"region": "", "host": "compute-1", "level": "trusted"}]
        else:
            body = script.answer(None, None)[1]
        reply(handler, 200, body, {"OAT-Lease": "30"})

    bench.backend.say("untrusted", "compute-1")
    bench.backend.fault = confused
    bench.turn()
    assert bench.placement.traits(host) == {TRUSTED}
    bench.turn()
    assert bench.placement.traits(host) == set()


def test_a_new_token_is_read_without_a_restart(bench, host):
    bench.backend.token = "another-token"
    bench.turn()
    Path(bench.backend.token_file).write_text("another-token")
    bench.backend.say("untrusted", "compute-1")
    bench.turn()
    assert bench.placement.traits(host) == set()
