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
"""What a service tells the service manager, received as systemd receives it."""

import contextlib
import socket

import pytest

from oat_trusted_filter.cmd import notify


@pytest.fixture
def manager(tmp_path, monkeypatch):
    """A socket such as systemd's, and its name in the environment."""
    with _listening(str(tmp_path / "notify")) as channel:
        monkeypatch.setenv(notify.VARIABLE, str(tmp_path / "notify"))
        yield channel


@contextlib.contextmanager
def _listening(address):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(address)
        channel.settimeout(10)
        yield channel


def _received(channel):
    return channel.recv(4096).decode().split("\n")


def _is_silent(channel):
    channel.setblocking(False)
    try:
        channel.recv(4096)
    except BlockingIOError:
        return True
    return False


def test_ready_is_told(manager):
    notify.ready()
    assert _received(manager) == ["READY=1"]


def test_ready_with_a_status_is_one_message(manager):
    notify.ready("listening on [::1]:8443")
    assert _received(manager) == ["READY=1", "STATUS=listening on [::1]:8443"]


def test_stopping_is_told(manager):
    notify.stopping("asked to")
    assert _received(manager) == ["STOPPING=1", "STATUS=asked to"]


def test_status_alone_says_nothing_of_readiness(manager):
    notify.status("trusted")
    assert _received(manager) == ["STATUS=trusted"]


def test_a_status_cannot_smuggle_in_an_assignment(manager):
    notify.status("all is well\nREADY=1\r\nMAINPID=1")
    assert _received(manager) == ["STATUS=all is well READY=1 MAINPID=1"]


def test_an_empty_status_is_not_sent(manager):
    notify.status(" \n")
    assert _is_silent(manager)


def test_a_socket_in_the_abstract_namespace(tmp_path, monkeypatch):
    name = f"oat-test{tmp_path}"[-90:]
    with _listening(f"\0{name}") as channel:
        monkeypatch.setenv(notify.VARIABLE, f"@{name}")
        notify.ready()
        assert _received(channel) == ["READY=1"]


def test_without_a_manager_nothing_happens(monkeypatch, caplog):
    monkeypatch.delenv(notify.VARIABLE, raising=False)
    notify.ready("status")
    assert not caplog.records


@pytest.mark.parametrize("address", ["", "vsock:2:1234", "relative/path"])
def test_an_address_of_another_kind_is_left_alone(address, monkeypatch, caplog):
    monkeypatch.setenv(notify.VARIABLE, address)
    notify.ready()
    assert not caplog.records


@pytest.mark.parametrize("length", [20, 500])
def test_a_manager_that_is_gone_does_not_stop_the_service(length, tmp_path, monkeypatch, caplog):
    gone = f"{tmp_path}/{'x' * length}"
    monkeypatch.setenv(notify.VARIABLE, gone)
    notify.ready()
    assert gone in caplog.text


def test_a_manager_that_does_not_read_does_not_stop_the_service(manager, monkeypatch, caplog):
    monkeypatch.setattr(notify, "_SECONDS", 0.01)
    for _ in range(10_000):
        notify.status("once more")
        if caplog.records:
            break
    assert "timed out" in caplog.text
