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
"""What goes over the wire, and what comes back from it."""

import base64
import json

import pytest

from oat_trusted_filter.client.http import (
    AttestationClient,
    BackendRefused,
    BadReply,
    ClientError,
)
from tests.lab.scripted_backend import endless, not_http, reply, status


def last_headers(backend):
    return backend.requests[-1][1]


def test_a_request_returns_status_headers_and_decoded_json(client, backend):
    backend.fault = lambda handler: reply(handler, 201, {"id": "7"}, {"X-Thing": "x"})
    found, headers, body = client.request("POST", "/v1/enrolments", {"host": "compute-1"})
    assert (found, headers["X-Thing"], body) == (201, "x", {"id": "7"})
    assert backend.requests[-1][0] == "/v1/enrolments"
    assert json.loads(backend.bodies[-1]) == {"host": "compute-1"}
    assert last_headers(backend)["Content-Type"] == "application/json"


def test_an_empty_body_is_none(client, backend):
    backend.fault = status(204, b"")
    assert client.request("DELETE", "/v1/hosts/compute-1")[0::2] == (204, None)


def test_an_endpoint_may_have_a_path(make_client, backend):
    make_client(endpoint=backend.endpoint + "/attestation/").get_verdicts()
    assert backend.requests[-1][0] == "/attestation/v1/verdicts"


def test_the_connection_is_kept_and_used_again(client, backend):
    for _ in range(5):
        client.get_verdicts()
    assert (len(backend.requests), backend.connections) == (5, 1)


def test_a_token_goes_as_bearer(client, backend):
    client.get_verdicts()
    assert last_headers(backend)["Authorization"] == f"Bearer {backend.token}"


def test_a_user_name_and_a_password_go_as_http_basic(make_client, backend):
    backend.authorized = lambda headers: True
    make_client(token=None, username="nova", password="gehe:im ü").get_verdicts()
    kind, _, pair = last_headers(backend)["Authorization"].partition(" ")
    assert kind == "Basic"
    assert base64.b64decode(pair).decode() == "nova:gehe:im ü"


def test_an_auth_blob_goes_in_its_own_header(make_client, backend):
    backend.authorized = lambda headers: True
    make_client(token=None, auth_blob="scheduler secret").get_verdicts()
    assert last_headers(backend)["x-auth-blob"] == "scheduler secret"
    assert "Authorization" not in last_headers(backend)


def test_nothing_of_the_environment_replaces_the_credential(
    make_client, backend, monkeypatch, tmp_path
):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    backend.authorized = lambda headers: True
    make_client(token=None).get_verdicts()
    assert "Authorization" not in last_headers(backend)


def test_no_cookie_is_kept(client, backend):
    backend.fault = status(200, b"{}", Set_Cookie="session=1; Path=/")
    client.request("GET", "/v1/hosts")
    client.request("GET", "/v1/hosts")
    assert "Cookie" not in last_headers(backend)


@pytest.mark.parametrize(
    "options",
    [
        {"token": "line\nbreak"},
        {"token": "tök"},
        {"auth_blob": "line\r\nX-Admin: yes", "token": None},
        {"token": "t", "username": "nova", "password": "p"},
        {"token": None, "username": "nova"},
        {"token": None, "password": "p"},
        {"token": None, "username": "no:va", "password": "p"},
    ],
)
def test_a_credential_no_header_can_hold_is_refused_and_not_repeated(options):
    with pytest.raises(ClientError) as caught:
        AttestationClient("https://127.0.0.1:1", **options)
    assert caught.value.code == "credential-invalid"
    for secret in ("break", "tök", "X-Admin", "no:va"):
        assert secret not in str(caught.value)


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "attest.example.org",
        "attest.example.org:8443",
        "ftp://attest.example.org",
        "https://",
        "https://host:0",
        "https://host:65536",
        "https://host:port",
        "https://user:password@host",
        "https://host/?query",
        "https://host/#fragment",
        "https://ho st",
        "https://[::1",
        " https://host",
        None,
    ],
)
def test_an_endpoint_that_is_no_url_is_refused(endpoint):
    with pytest.raises(ClientError) as caught:
        AttestationClient(endpoint)
    assert caught.value.code == "endpoint-invalid"


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), 3601])
def test_a_timeout_has_to_be_possible(timeout):
    with pytest.raises(ValueError, match="time-out"):
        AttestationClient("https://127.0.0.1:1", timeout=timeout)


def test_an_error_of_the_backend_has_its_code_and_its_sentence(client, backend):
    problem = {"code": "host-unknown", "detail": "there is no host x", "status": 404, "more": 1}
    backend.fault = lambda handler: reply(handler, 404, problem)
    with pytest.raises(BackendRefused) as caught:
        client.request("GET", "/v1/hosts/x")
    error = caught.value
    assert (error.status, error.code, error.detail) == (404, "host-unknown", "there is no host x")
    assert error.body["more"] == 1
    assert str(error) == "there is no host x (HTTP 404)"


@pytest.mark.parametrize(
    "body",
    [
        b"<html>no</html>",
        b"",
        b"[]",
        b'{"code": 7, "detail": 8}',
        b'{"code": "Not A Code\\n"}',
        b"\xff\xfe",
    ],
)
def test_an_error_without_a_problem_document_is_named_by_its_status(client, backend, body):
    backend.fault = status(503, body)
    with pytest.raises(BackendRefused) as caught:
        client.get_verdicts()
    assert (caught.value.status, caught.value.code) == (503, "http-503")


def test_a_wrong_token_is_refused(make_client):
    with pytest.raises(BackendRefused) as caught:
        make_client(token="another").get_verdicts()
    assert (caught.value.status, caught.value.code) == (401, "unauthorized")


def test_no_redirect_is_followed(client, backend):
    backend.fault = status(302, b"", Location=f"{backend.endpoint}/elsewhere")
    with pytest.raises(BadReply) as caught:
        client.get_verdicts()
    assert caught.value.code == "reply-redirect"
    assert len(backend.requests) == 1


@pytest.mark.parametrize(
    "body", [b"garbage", b"{", b'{"lease": NaN}', b"\xff", b"[" * 100_000, b'{"a": 1} more']
)
def test_a_body_that_is_not_json_is_a_bad_reply(client, backend, body):
    backend.fault = status(200, body)
    with pytest.raises(BadReply) as caught:
        client.get_verdicts()
    assert caught.value.code == "reply-not-json"


def test_a_compressed_body_is_not_unpacked(client, backend):
    backend.fault = status(200, b"\x1f\x8b", Content_Encoding="gzip")
    with pytest.raises(BadReply) as caught:
        client.get_verdicts()
    assert caught.value.code == "reply-encoding"


def test_a_body_without_end_is_cut_off(client, backend, monkeypatch):
    monkeypatch.setattr("oat_trusted_filter.client.http.LARGEST_VERDICTS", 1_000_000)
    backend.fault = endless
    with pytest.raises(BadReply) as caught:
        client.get_verdicts()
    assert caught.value.code == "reply-too-large"


def test_another_protocol_is_a_bad_reply(client, backend):
    backend.fault = not_http
    with pytest.raises(BadReply) as caught:
        client.get_verdicts()
    assert caught.value.code == "reply-broken"


def test_a_body_shorter_than_announced_is_no_reply(client, backend):
    def short(handler):
        handler.close_connection = True
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}")

    backend.fault = short
    with pytest.raises(ClientError) as caught:
        client.get_verdicts()
    assert caught.value.code in ("reply-broken", "backend-unreachable")


def test_verdicts_are_asked_for_with_what_is_known(client, backend):
    backend.say("trusted", "compute-1")
    first = client.get_verdicts()
    assert first.full
    assert [record.host for record in first.hosts] == ["compute-1"]
    again = client.get_verdicts(first.since, first.etag)
    assert again.not_modified
    assert again.lease == backend.lease
    path, headers = backend.requests[-1]
    assert path == "/v1/verdicts?since=epoch-1%3A1"
    assert headers["If-None-Match"] == '"epoch-1:1"'


@pytest.mark.parametrize("body", [b"", b"null"])
def test_an_empty_200_is_not_taken_for_a_304(client, backend, body):
    first = client.get_verdicts()
    backend.fault = status(200, body, OAT_Lease="3600", ETag=first.etag)
    with pytest.raises(BadReply) as caught:
        client.get_verdicts(first.since, first.etag)
    assert caught.value.code == "reply-invalid"


def test_a_304_nobody_asked_for_is_a_bad_reply(client, backend):
    backend.fault = status(304, b"", OAT_Lease="30")
    with pytest.raises(BadReply):
        client.get_verdicts()
