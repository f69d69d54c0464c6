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

import socket
import subprocess

import pytest

from oat_trusted_filter.backend.api import readiness


@pytest.fixture
def started(monkeypatch):
    """The processes that were started."""
    commands = []

    class Recorded(subprocess.Popen):
        def __init__(self, args, *more, **options):
            commands.append(args)
            super().__init__(args, *more, **options)

    monkeypatch.setattr(subprocess, "Popen", Recorded)
    return commands


def test_nobody_is_asked_if_no_service_manager_waits(started, monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    readiness.announce_when_serving("127.0.0.1", 9)
    assert started == []


def test_a_process_of_its_own_asks(started):
    """A worker that is forked while a thread is in OpenSSL would wait for its locks for ever."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        host, port = server.getsockname()
    assert not readiness._answers(host, port)
    ((*_, asked, number),) = started
    assert (asked, number) == (host, str(port))
