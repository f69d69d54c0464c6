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
"""E3: whatever the backend does while Nova schedules, the pass fails closed and in time."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.lab.scripted_backend import (
    ScriptedBackend,
    cut,
    drip_body,
    drip_headers,
    endless,
    hang,
    not_http,
    reply,
    status,
)
from tests.unit.scheduler.conftest import passed

NAMES = ("a", "b")
DEADLINE = 0.5
#: What a busy machine may add to a wait.
SLACK = 2.0

FAULTS = {
    "hangs": hang,
    "drips headers": drip_headers,
    "drips a body": drip_body,
    "never ends": endless,
    "hangs up": cut,
    "speaks something else": not_http,
    "says 500": status(500),
    "says 503 with JSON": status(503, b'{"code": "database-down", "detail": "no database"}'),
    "says 404": status(404),
    "says 429": status(429, b"", Retry_After="3600"),
    "redirects": status(307, b"", Location="https://127.0.0.1:1/"),
    "sends garbage": status(200, b"\x00\xffgarbage"),
    "sends HTML": status(200, b"<html>log in first</html>"),
    "sends nothing": status(200, b""),
    "sends an empty object": status(200, b"{}"),
    "sends nested brackets": status(200, b"[" * 200_000),
    "sends NaN as lease": status(200, b'{"lease": NaN}'),
    "sends levels nobody knows": lambda handler: reply(
        handler,
        200,
        {
            "epoch": "e",
            "cursor": 1,
            "lease": 30.0,
            "full": True,
            "hosts": [{"region": "", "host": "a", "level": "TRUSTED", "reason": ""}],
            "deleted": [],
            "lapsing": [],
        },
    ),
}


@pytest.fixture
def trusted_filter(make_filter):
    return make_filter(deadline=DEADLINE)


def timed_pass(trusted_filter, names=NAMES, **request):
    started = time.monotonic()
    found = passed(trusted_filter, names, **request)
    took = time.monotonic() - started
    assert took < DEADLINE + SLACK
    return found


def refused_with_a_word(log, code):
    (said,) = [
        record.getMessage()
        for record in log.records
        if "there are no valid verdicts" in record.getMessage()
    ]
    assert code in said
    assert "Traceback" not in log.text


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_E3_no_host_passes_and_in_time(trusted_filter, backend, log, fault):
    backend.say("trusted", *NAMES)
    backend.fault = fault
    assert timed_pass(trusted_filter) == []
    refused_with_a_word(log, ": ")
    assert len(backend.requests) <= 1
    assert timed_pass(trusted_filter, extra_specs={}) == list(NAMES)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_E3_what_was_said_before_holds_until_its_lease_ends(make_filter, backend, clock, fault):
    trusted_filter = make_filter(deadline=DEADLINE)
    backend.say("trusted", "a")
    assert timed_pass(trusted_filter) == ["a"]
    backend.fault = fault
    clock.advance(6.0)
    assert timed_pass(trusted_filter) == ["a"]
    clock.advance(30.0)
    assert timed_pass(trusted_filter) == []
    backend.fault = None
    clock.advance(10.0)
    assert timed_pass(trusted_filter) == ["a"]


def test_E3_a_304_to_the_first_request_is_no_answer(trusted_filter, backend, log):
    backend.fault = status(304, b"", OAT_Lease="30", ETag='"epoch-1:1"')
    assert timed_pass(trusted_filter) == []
    refused_with_a_word(log, "reply-invalid: 304")


def test_E3_a_backend_that_is_not_there(trusted_filter, backend, log):
    backend.stop()
    assert timed_pass(trusted_filter) == []
    refused_with_a_word(log, "backend-unreachable: no connection: Connection refused")


def test_E3_a_certificate_of_somebody_else(make_filter, tmp_path, backend, log):
    folder = tmp_path / "impostor"
    folder.mkdir()
    with ScriptedBackend(folder) as impostor:
        impostor.say("trusted", *NAMES)
        assert timed_pass(make_filter(endpoint=impostor.endpoint)) == []
        refused_with_a_word(log, "tls-certificate: the certificate of the server is not trusted")
        assert impostor.requests == [], "it does not get to see the token"


def test_E3_a_certificate_for_another_name(make_filter, tmp_path, log):
    folder = tmp_path / "renamed"
    folder.mkdir()
    with ScriptedBackend(folder, name="attest.example.org") as renamed:
        renamed.say("trusted", *NAMES)
        options = {"endpoint": renamed.endpoint, "attestation_server_ca_file": renamed.cacert}
        assert timed_pass(make_filter(**options)) == []
        refused_with_a_word(log, "tls-certificate: ")


def test_E3_a_token_the_backend_does_not_know(trusted_filter, backend, log):
    backend.say("trusted", *NAMES)
    backend.token = "another"
    assert timed_pass(trusted_filter) == []
    refused_with_a_word(log, "unauthorized: who are you? (HTTP 401)")


def test_E3_a_server_that_never_ends_its_tls_handshake(make_filter, log):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoint = f"https://127.0.0.1:{listener.getsockname()[1]}"
        assert timed_pass(make_filter(endpoint=endpoint, deadline=DEADLINE)) == []
    refused_with_a_word(log, "backend-timeout: no complete answer within 0.5 s")


def test_E3_a_name_server_that_does_not_answer(make_filter, log, monkeypatch):
    over = threading.Event()

    def stuck(*args, **kwargs):
        over.wait(30)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", stuck)
    try:
        endpoint = "https://attest.example.org:8443"
        assert timed_pass(make_filter(endpoint=endpoint, deadline=DEADLINE)) == []
        refused_with_a_word(log, "backend-timeout: ")
    finally:
        over.set()


def test_E3_a_hang_costs_one_deadline_for_all_requests_together(trusted_filter, backend):
    backend.fault = hang
    started = time.monotonic()
    with ThreadPoolExecutor(16) as pool:
        passes = [pool.submit(passed, trusted_filter, NAMES) for _ in range(64)]
        plain = [pool.submit(passed, trusted_filter, NAMES, {}) for _ in range(64)]
        assert all(found.result(30) == [] for found in passes)
        assert all(found.result(30) == list(NAMES) for found in plain)
    assert time.monotonic() - started < DEADLINE + SLACK
    assert len(backend.requests) == 1


def test_E2_a_host_whose_agent_is_silent_is_refused_with_that_reason(
    trusted_filter, backend, clock, log
):
    backend.say("trusted", *NAMES)
    assert passed(trusted_filter, NAMES) == ["a", "b"]
    backend.say("unknown", "a", reason="verdict-lapsed")
    clock.advance(6.0)
    assert passed(trusted_filter, NAMES) == ["b"]
    assert "1 of 2 hosts pass; 1 unknown (verdict-lapsed)" in log.text


def test_E2_the_filter_itself_honours_the_end_of_a_verdict(make_filter, backend, clock):
    trusted_filter = make_filter(refresh_interval=3600.0, attestation_auth_timeout=3600)
    backend.lease = 3600.0
    backend.say("trusted", *NAMES)
    backend.lapsing = [("a", 7.0)]
    assert passed(trusted_filter, NAMES) == ["a", "b"]
    clock.advance(7.0)
    assert passed(trusted_filter, NAMES) == ["b"]
    assert len(backend.requests) == 1


def test_E2_attestation_auth_timeout_is_the_longest_a_verdict_is_used(make_filter, backend, clock):
    trusted_filter = make_filter(attestation_auth_timeout=7)
    backend.lease = 3600.0
    backend.say("trusted", "a")
    assert passed(trusted_filter, NAMES) == ["a"]
    backend.stop()
    clock.advance(6.5)
    assert passed(trusted_filter, NAMES) == ["a"]
    clock.advance(0.6)
    assert passed(trusted_filter, NAMES) == []
