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
"""The loop: pauses, log lines, and that nothing ends it but the word stop."""

import logging
import threading

import pytest

from oat_trusted_filter.agent.attester import Outcome
from oat_trusted_filter.agent.errors import TpmError
from oat_trusted_filter.agent.loop import Backoff, Loop
from oat_trusted_filter.client.http import BackendUnreachable

LOGGER = "oat_trusted_filter.agent.loop"


def highest(low, high):
    """In place of chance: the longest pause."""
    return high


class Script:
    """An attester that does what it is told: outcomes are returned, errors raised."""

    def __init__(self, *steps):
        self.steps = list(steps)

    def round(self):
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        return step


def loop_of(*steps, retry_max=10.0, draw=highest):
    return Loop(Script(*steps), interval=60.0, retry_max=retry_max, draw=draw)


def test_pauses_grow_up_to_the_limit_and_start_again_after_success():
    backoff = Backoff(10.0, highest)
    assert [backoff.next() for _ in range(6)] == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    backoff.reset()
    assert backoff.next() == 1.0


def test_limit_below_the_first_pause_holds():
    assert Backoff(0.2, highest).next() == 0.2


def test_pauses_are_drawn_between_nothing_and_the_ceiling():
    drawn = []
    Backoff(10.0, lambda low, high: drawn.append((low, high)) or low).next()
    assert drawn == [(0.0, 1.0)]


def test_backend_names_the_interval_and_it_is_never_exceeded():
    assert loop_of(Outcome("trusted", interval=7.0)).step() == 7.0
    early = loop_of(Outcome("trusted", interval=10.0), draw=lambda low, high: low)
    assert 0 < early.step() < 10.0


def test_configured_interval_counts_while_the_backend_names_none():
    assert loop_of(Outcome("unknown", "host-pending", "waits")).step() == 60.0


@pytest.mark.parametrize(
    "error",
    [TpmError("tpm-unreachable", "gone"), BackendUnreachable("backend-unreachable", "away")],
)
def test_failures_are_retried_in_one_line(error, caplog):
    loop = loop_of(error, error, Outcome("trusted", interval=5.0), error)
    with caplog.at_level(logging.INFO, LOGGER):
        assert [loop.step() for _ in range(4)] == [1.0, 2.0, 5.0, 1.0]
    assert len(caplog.records) == 4
    assert f"[{error.code}]" in caplog.records[0].getMessage()
    assert all(record.exc_info is None for record in caplog.records)


def test_a_bug_does_not_end_the_loop(caplog):
    loop = loop_of(ZeroDivisionError("a bug"), Outcome("trusted", interval=5.0))
    assert [loop.step() for _ in range(2)] == [1.0, 5.0]
    assert "a bug" in caplog.text


def test_one_line_a_round_with_level_and_first_finding(caplog):
    outcome = Outcome("untrusted", "pcr-differs", "PCR 4 differs:\nevent 27", more=2, interval=5.0)
    with caplog.at_level(logging.INFO, LOGGER):
        loop_of(outcome).step()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == (
        "untrusted: [pcr-differs] PCR 4 differs: event 27 (and 2 more); next round in 5.0 s"
    )


def test_stop_ends_the_wait_between_rounds():
    stop = threading.Event()
    loop = loop_of(Outcome("trusted", interval=3600.0))
    runner = threading.Thread(target=loop.run, args=(stop,))
    runner.start()
    stop.set()
    runner.join(5.0)
    assert not runner.is_alive()
