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
"""Whether anybody is asked if the service answers."""

import os
import socket
import subprocess

import pytest

from oat_trusted_filter.backend.api import readiness


@pytest.fixture
def started(monkeypatch):
    """The processes that were started."""
    processes = []

    class Recorded(subprocess.Popen):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            processes.append(self)

    monkeypatch.setattr(subprocess, "Popen", Recorded)
    return processes


def test_nobody_is_asked_if_no_service_manager_waits(started, monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    readiness.announce_when_serving("127.0.0.1", 9)
    assert started == []


def test_a_process_of_its_own_asks_and_is_there_before_any_worker(started, monkeypatch):
    """What a thread holds while a worker is forked, the worker keeps for ever."""
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere")
    with socket.create_server(("127.0.0.1", 0)) as server:
        host, port = server.getsockname()
    readiness.announce_when_serving(host, port)
    (probe,) = started
    try:
        assert probe.args[-3:] == [host, str(port), str(os.getpid())]
        assert probe.poll() is None
    finally:
        probe.kill()
        probe.wait(10)


def test_nobody_is_asked_any_more_if_the_service_has_ended():
    assert not readiness._wait("127.0.0.1", 9, service=os.getpid())
