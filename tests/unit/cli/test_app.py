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
"""What every command has: where to go, as whom, and what a failure looks like."""

import pytest
import requests

from oat_trusted_filter.cli.backend import path
from oat_trusted_filter.cli.errors import UsageError
from tests.unit.cli.conftest import ENDPOINT

PROBLEM = {"Content-Type": "application/problem+json"}


def problem(status, code, detail):
    return {
        "status_code": status,
        "headers": PROBLEM,
        "json": {"type": "about:blank", "title": "x", "status": status, "code": code,
                 "detail": detail, "request_id": "req-1"},
    }  # fmt: skip


def test_a_token_is_sent_as_a_bearer_token(oat, api):
    api("GET", "/v1/hosts", json={"hosts": []})
    assert oat("host", "list").status == 0
    assert api.history()[0].headers["Authorization"] == "Bearer secret-token"


def test_a_person_named_counts_more_than_a_token_in_the_environment(oat, api):
    api("GET", "/v1/hosts", json={"hosts": []})
    assert oat("--username", "ann", "--password", "pw", "host", "list").status == 0
    assert api.history()[0].headers["Authorization"].startswith("Basic ")


def test_no_endpoint_says_where_to_get_one(oat, monkeypatch):
    monkeypatch.delenv("OAT_ENDPOINT")
    ran = oat("host", "list")
    assert ran.status == 2
    assert "OAT_ENDPOINT" in ran.err
    assert len(ran.err.splitlines()) == 1


def test_a_missing_ca_file_is_wrong_use(oat):
    ran = oat("--cacert", "/nowhere/ca.pem", "host", "list")
    assert ran.status == 2
    assert "/nowhere/ca.pem" in ran.err
    assert len(ran.err.splitlines()) == 1


def test_half_a_credential_is_wrong_use(oat, monkeypatch):
    monkeypatch.delenv("OAT_TOKEN")
    ran = oat("--username", "ann", "host", "list")
    assert (ran.status, ran.err) == (2, "--username and --password go together\n")


@pytest.mark.parametrize("timeout", ["0", "-1", "nan", "inf", "soon"])
def test_a_timeout_is_a_number_of_seconds(oat, timeout):
    ran = oat("--timeout", timeout, "host", "list")
    assert ran.status == 2
    assert "--timeout" in ran.err


@pytest.mark.parametrize(
    ("status", "code"), [(404, "host-unknown"), (403, "forbidden"), (409, "reference-exists")]
)
def test_a_refusal_is_one_line_with_code_and_detail(oat, api, status, code):
    api("GET", "/v1/hosts/node-1", **problem(status, code, "There is no such host."))
    ran = oat("host", "show", "node-1")
    assert (ran.status, ran.out) == (1, "")
    assert ran.err == f"{code}: There is no such host.\n"


def test_a_wrong_token_says_what_to_check(oat, api):
    api("GET", "/v1/hosts", **problem(401, "unauthorized", "The credential is not known."))
    ran = oat("host", "list")
    assert ran.status == 1
    assert "OAT_TOKEN" in ran.err
    assert "secret-token" not in ran.err


def test_a_backend_that_is_away_has_its_own_status(oat, api):
    api("GET", "/v1/hosts", exc=requests.exceptions.ConnectionError("refused"))
    ran = oat("host", "list")
    assert ran.status == 3
    assert len(ran.err.splitlines()) == 1
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    "reply",
    [
        {"text": "<html>hello</html>"},
        {"json": []},
        {"json": {"hosts": "none"}},
        {"json": {"hosts": [1]}},
    ],
)
def test_another_server_is_not_taken_for_the_backend(oat, api, reply):
    api("GET", "/v1/hosts", **reply)
    ran = oat("host", "list")
    assert ran.status == 3
    assert len(ran.err.splitlines()) == 1


def test_debug_shows_the_traceback(oat, api):
    api("GET", "/v1/hosts/node-1", **problem(404, "host-unknown", "no"))
    ran = oat("--debug", "host", "show", "node-1")
    assert ran.status == 1
    assert "Traceback" in ran.err


def test_what_a_refusal_says_cannot_steer_the_terminal(oat, api):
    api("GET", "/v1/hosts/node-1", **problem(404, "host-unknown", "a\x1b[2Jb\nc\u202ed"))
    ran = oat("host", "show", "node-1")
    assert ran.err == "host-unknown: a\\x1b[2Jb\\nc\\u202ed\n"


def test_without_a_command_there_is_help_and_no_shell(oat):
    ran = oat()
    assert ran.status == 2
    assert "host approve" in ran.out


def test_an_unknown_command_is_wrong_use(oat):
    assert oat("host", "frobnicate").status == 2


def test_an_unknown_column_is_wrong_use(oat, api):
    api("GET", "/v1/hosts", json={"hosts": []})
    ran = oat("host", "list", "-c", "colour")
    assert ran.status == 2
    assert "no column colour" in ran.err


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_a_name_never_leads_to_another_resource(oat, name):
    assert oat("host", "delete", name).status == 2
    with pytest.raises(UsageError):
        path("hosts", name)


def test_names_are_one_segment_of_the_path():
    assert path("hosts", "../policies/x?y#z", query={"region": "a b", "other": None}) == (
        "/v1/hosts/..%2Fpolicies%2Fx%3Fy%23z?region=a+b"
    )
    assert ENDPOINT.startswith("https")
