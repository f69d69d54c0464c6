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
"""``oat enrolment-token``, ``oat host rebind`` and ``oat host rename``."""

import json
import stat

import pytest

EK = "ab" * 32


def token(**fields):
    return {
        "id": "0123", "state": "unused", "region": None, "host": None, "created_by": "admin",
        "created_at": "2026-01-01T00:00:00.000Z", "expires_at": "2026-01-02T00:00:00.000Z",
        "used_at": None, "used_by": None, "token": "secret",
    } | fields  # fmt: skip


@pytest.mark.parametrize(
    ("argv", "body"),
    [
        ((), {"lifetime": 86400}),
        (("--host", "node-1", "--region", "r1"),
         {"lifetime": 86400, "host": "node-1", "region": "r1"}),
        (("--expires", "90m"), {"lifetime": 5400}),
        (("--expires", "7d"), {"lifetime": 604800}),
    ],
)  # fmt: skip
def test_a_token_is_made_and_shown_once(oat, api, argv, body):
    sent = api("POST", "/v1/enrolment-tokens", status_code=201, json=token())
    ran = oat("enrolment-token", "create", *argv, "-f", "value", "-c", "token")
    assert (ran.status, ran.out) == (0, "secret\n")
    assert sent.last_request.json() == body


def test_a_token_can_go_into_a_file_for_nobody_else(oat, api, tmp_path):
    api("POST", "/v1/enrolment-tokens", status_code=201, json=token())
    file = tmp_path / "token"
    ran = oat("enrolment-token", "create", "--output-file", str(file), "-f", "json")
    assert ran.status == 0
    assert "secret" not in ran.out + ran.err
    assert json.loads(ran.out)["id"] == "0123"
    assert file.read_text() == "secret\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    # One that is there is not overwritten, and no token is made in vain.
    ran = oat("enrolment-token", "create", "--output-file", str(file))
    assert ran.status == 2
    assert len(api.history()) == 1


@pytest.mark.parametrize("text", ["", "1", "1y", "-1d", "1.5h", "1d2h"])
def test_odd_spans_of_time(oat, api, text):
    ran = oat("enrolment-token", "create", f"--expires={text}")
    assert ran.status == 2
    assert "30m, 8h or 7d" in ran.err
    assert api.history() == []


def test_tokens_are_listed_and_revoked(oat, api):
    used = token(state="used", used_by="/node-1")
    del used["token"]
    api("GET", "/v1/enrolment-tokens", json={"enrolment_tokens": [used]})
    ran = oat("enrolment-token", "list")
    assert "used" in ran.out
    assert "/node-1" in ran.out
    sent = api("DELETE", "/v1/enrolment-tokens/0123", status_code=204)
    assert oat("enrolment-token", "revoke", "0123").status == 0
    assert sent.called


def test_rebind_names_the_key(oat, api):
    sent = api("POST", "/v1/hosts/node-1/rebind", json={"host": "node-1", "ek_fingerprint": EK})
    assert oat("host", "rebind", "node-1").status == 2
    ran = oat("host", "rebind", "node-1", "--ek-fingerprint", EK.upper(), "--region", "r1")
    assert ran.status == 0
    assert sent.last_request.json() == {"ek_fingerprint": EK, "region": "r1"}


def test_rename_names_both_names(oat, api):
    sent = api("POST", "/v1/hosts/node-1/rename", json={"host": "node-2"})
    assert oat("host", "rename", "node-1", "node-2", "--new-region", "r2").status == 0
    assert sent.last_request.json() == {"host": "node-2", "new_region": "r2"}


def test_register_can_accept_a_certificate_past_its_end(oat, api):
    sent = api("POST", "/v1/hosts", status_code=201, json={"host": "node-1"})
    argv = ("host", "register", "node-1", "--ek-fingerprint", EK, "--accept-expired")
    assert oat(*argv).status == 0
    assert sent.last_request.json()["accept_expired"] is True
