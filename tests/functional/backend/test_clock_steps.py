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
"""The clock of the server steps, under a service that runs: libfaketime tells it another time."""

import os
import signal
from pathlib import Path

import pytest

from tests.functional.backend.wire import Wire
from tests.lab.wait import wait_for

LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
SECONDS = 20


@pytest.fixture
def clock(tmp_path, monkeypatch):
    """Lets the clock of the backend be ahead by so much, ``+2h`` for instance."""
    if not LIBRARIES:
        pytest.skip("libfaketime is not installed")
    file = tmp_path / "clock"
    file.write_text("+0")
    for name, value in {
        "LD_PRELOAD": str(LIBRARIES[0]),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_NO_CACHE": "1",
        # What is waited for with the monotonic clock has nothing to do with the time of day.
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }.items():
        monkeypatch.setenv(name, value)
    return file.write_text


@pytest.fixture
def wire(clock, backend_maker):
    with backend_maker() as backend:
        made = Wire(backend)
        yield made
        made.store.close()
        # With libfaketime sleeping fails now and then, and the server sleeps while it stops.
        os.kill(backend.pid, signal.SIGKILL)


def level(wire, host):
    """What relying parties are told at this moment."""
    hosts = wire.operate("GET", "/v1/verdicts")["hosts"]
    return next(item["level"] for item in hosts if item["host"] == host.name)


def test_E7_the_clock_of_the_server_steps(wire, clock):
    host = wire.approved_host("soft")
    host.attest()
    wire.trust(host)
    assert host.attest() == "trusted"

    clock("+2h")
    wait_for(lambda: level(wire, host) == "unknown", SECONDS, "the lapse")
    assert host.attest() == "trusted"

    # Back again: the deadline that was set two hours ahead must not hold for two hours.
    clock("+0")
    wait_for(lambda: level(wire, host) == "trusted", SECONDS, "an answer")
    assert host.attest() == "trusted"
    clock("+301")
    wait_for(lambda: level(wire, host) == "unknown", SECONDS, "the lapse, in spite of the step")
