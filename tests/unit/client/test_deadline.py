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
"""A request ends at its deadline, whatever the server does, and leaves nothing behind."""

import os
import socket
import threading
import time

import pytest

from oat_trusted_filter.client import transport
from oat_trusted_filter.client.http import BackendUnreachable, ClientError
from tests.lab.scripted_backend import cut, drip_body, drip_headers, hang
from tests.lab.wait import wait_for

DEADLINE = 0.4
#: What a busy machine may add.
SLACK = 2.0


def exchange_threads():
    return [t for t in threading.enumerate() if t.name == "oat-exchange"]


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    wait_for(lambda: not exchange_threads(), 20, "the threads of all requests to end")


def fails_in_time(client):
    started = time.monotonic()
    with pytest.raises(ClientError) as caught:
        client.get_verdicts(timeout=DEADLINE)
    assert time.monotonic() - started < DEADLINE + SLACK
    return caught.value


@pytest.mark.parametrize("fault", [hang, drip_headers, drip_body])
def test_a_slow_server_costs_the_deadline_and_not_more(client, backend, fault):
    backend.fault = fault
    error = fails_in_time(client)
    assert isinstance(error, BackendUnreachable)
    assert (error.code, str(error)) == ("backend-timeout", "no complete answer within 0.4 s")
    # Before the server lets go of it:
    wait_for(lambda: not exchange_threads(), 10, "the thread of the request to end")


def silent_listener(answer):
    """A server that accepts and then does what ``answer`` says with the connection."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        try:
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=answer, args=(connection,), daemon=True).start()
        except OSError:
            pass

    threading.Thread(target=serve, daemon=True).start()
    return listener


def test_a_tls_handshake_that_drips_costs_the_deadline(make_client):
    over = threading.Event()

    def drip(connection):
        with connection:
            # The head of a TLS record that is never complete.
            connection.sendall(b"\x16\x03\x03\x40\x00")
            while not over.wait(0.02):
                try:
                    connection.sendall(b"\x02")
                except OSError:
                    return

    with silent_listener(drip) as listener:
        client = make_client(endpoint=f"https://127.0.0.1:{listener.getsockname()[1]}")
        assert fails_in_time(client).code == "backend-timeout"
        wait_for(lambda: not exchange_threads(), 10, "the thread of the request to end")
        over.set()


def test_a_server_that_never_accepts_costs_the_deadline(make_client):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        with socket.create_connection(address):  # its queue is full with this one
            client = make_client(endpoint=f"https://127.0.0.1:{address[1]}")
            assert fails_in_time(client).code == "backend-timeout"


def test_a_name_look_up_that_hangs_costs_the_deadline(make_client, monkeypatch):
    over = threading.Event()

    def stuck(*args, **kwargs):
        over.wait(30)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", stuck)
    client = make_client(endpoint="https://attest.example.org:8443")
    try:
        assert fails_in_time(client).code == "backend-timeout"
    finally:
        over.set()


def test_requests_that_cannot_be_ended_do_not_pile_up(make_client, monkeypatch):
    over = threading.Event()

    def stuck(*args, **kwargs):
        over.wait(60)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", stuck)
    try:
        codes = []
        for _ in range(transport.MOST_ABANDONED + 3):
            # Each failure makes a new client, as the filter does.
            client = make_client(endpoint="https://attest.example.org:8443")
            with pytest.raises(ClientError) as caught:
                client.get_verdicts(timeout=0.05)
            codes.append(caught.value.code)
        assert codes == ["backend-timeout"] * transport.MOST_ABANDONED + ["client-busy"] * 3
        assert len(exchange_threads()) == transport.MOST_ABANDONED
    finally:
        over.set()
    wait_for(lambda: not exchange_threads(), 20, "the look-ups to end")
    with pytest.raises(ClientError) as caught:
        make_client(endpoint="https://attest.example.org:8443").get_verdicts(timeout=5)
    assert caught.value.code == "backend-unreachable"


def test_a_request_after_the_deadline_goes_on_with_a_new_connection(client, backend):
    backend.fault = hang
    fails_in_time(client)
    backend.fault = None
    assert client.get_verdicts().full


def test_no_file_descriptor_is_left(client, backend):
    def open_files():
        return len(os.listdir("/proc/self/fd"))

    client.get_verdicts()
    before = open_files()
    for _ in range(5):
        client.get_verdicts()
    backend.fault = cut
    for _ in range(5):
        fails_in_time(client)
    backend.fault = hang
    for _ in range(3):
        fails_in_time(client)
    backend.released.set()
    client.close()
    wait_for(lambda: open_files() <= before, 10, "all connections to be closed")


def test_a_new_connection_that_is_cut_is_not_tried_twice(client, backend):
    backend.fault = cut
    assert fails_in_time(client).code == "backend-unreachable"
    assert len(backend.requests) == 1


def test_a_kept_connection_that_is_cut_is_replaced(client, backend):
    client.get_verdicts()

    def cut_once(handler):
        backend.fault = None
        cut(handler)

    backend.fault = cut_once
    assert client.get_verdicts().full
    assert (len(backend.requests), backend.connections) == (3, 2)


def test_a_post_is_never_sent_twice(client, backend):
    client.get_verdicts()
    backend.fault = cut
    with pytest.raises(BackendUnreachable):
        client.request("POST", "/v1/enrolments", {})
    assert len(backend.requests) == 2


def test_the_time_counts_from_before_the_request(client, backend):
    arrived = []

    def note(handler):
        arrived.append(time.monotonic())
        backend.fault = None
        handler.answer_now()

    backend.fault = note
    before = time.monotonic()
    reply = client.get_verdicts()
    assert before <= reply.sent_at <= arrived[0]


def test_requests_run_side_by_side(client, backend):
    backend.say("trusted", "compute-1")
    replies, errors = [], []

    def ask():
        try:
            replies.append(client.get_verdicts())
        except ClientError as error:
            errors.append(error)

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not errors
    assert len(replies) == 12
    assert all(reply.hosts[0].host == "compute-1" for reply in replies)


def test_a_client_starts_nothing_before_its_first_request(make_client, backend):
    before = threading.active_count()
    make_client()
    assert threading.active_count() == before
    assert backend.connections == 0
