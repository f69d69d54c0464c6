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
"""``oat host set``, ``oat host override`` and ``oat policy check``."""

import json

import pytest

HOST = {
    "host": "node-1", "region": "", "level": "trusted", "policy": "strict", "bound_policy": None,
    "labels": {"rack": "a"}, "override": None,
}  # fmt: skip
OVERRIDE = {
    "level": "trusted", "reason": "bug 7", "by": "admin", "made_at": "2026-01-01T00:00:00.000Z",
    "until": "2026-01-02T00:00:00.000Z",
}  # fmt: skip


def test_a_host_is_bound_and_labelled(oat, api):
    sent = api("PATCH", "/v1/hosts/node-1", json=HOST)
    ran = oat("host", "set", "node-1", "--policy", "strict", "--label", "rack=a",
              "--label", "row=7=b", "--unset-label", "old", "--region", "r1")  # fmt: skip
    assert ran.status == 0
    assert sent.last_request.json() == {
        "policy": "strict", "region": "r1", "labels": {"rack": "a", "row": "7=b", "old": None},
    }  # fmt: skip
    assert "rack=a" in ran.out
    oat("host", "set", "node-1", "--unset-policy")
    assert sent.last_request.json() == {"policy": None}


def test_an_override_says_until_when_and_why(oat, api):
    sent = api("PUT", "/v1/hosts/node-1/override", json={**HOST, "override": OVERRIDE})
    ran = oat("host", "override", "node-1", "--level", "trusted", "--reason", "bug 7",
              "--for", "8h")  # fmt: skip
    assert ran.status == 0
    assert sent.last_request.json() == {"level": "trusted", "reason": "bug 7", "seconds": 28_800}
    assert "trusted until 2026-01-02T00:00:00.000Z by admin: bug 7" in ran.out
    oat("host", "override", "node-1", "--level", "untrusted", "--reason", "x",
        "--until", "2026-01-02T00:00:00+02:00", "--region", "r1")  # fmt: skip
    assert sent.last_request.json() == {
        "level": "untrusted", "reason": "x", "until": "2026-01-01T22:00:00Z", "region": "r1",
    }  # fmt: skip


def test_an_override_is_cleared_and_listed(oat, api):
    sent = api("DELETE", "/v1/hosts/node-1/override", status_code=204)
    api("GET", "/v1/hosts/node-1", json=HOST)
    assert oat("host", "override", "node-1", "--clear").status == 0
    assert sent.called
    hosts = [{**HOST, "override": OVERRIDE}, {**HOST, "host": "node-2"}]
    api("GET", "/v1/hosts", json={"hosts": hosts})
    records = json.loads(oat("host", "list", "--overridden", "-f", "json").out)
    assert [record["host"] for record in records] == ["node-1"]
    assert "by admin: bug 7" in oat("host", "list", "--long").out


@pytest.mark.parametrize(
    "argv",
    [
        ("set", "node-1"),
        ("set", "node-1", "--label", "rack"),
        ("set", "node-1", "--policy", "a", "--unset-policy"),
        ("override", "node-1"),
        ("override", "node-1", "--level", "unknown", "--reason", "x", "--for", "1h"),
        ("override", "node-1", "--level", "trusted", "--for", "1h"),
        ("override", "node-1", "--level", "trusted", "--reason", "x"),
        ("override", "node-1", "--level", "trusted", "--reason", "x", "--for", "1"),
        ("override", "node-1", "--level", "trusted", "--reason", "x", "--for", "1h", "--until",
         "2027-01-01"),
        ("override", "node-1", "--level", "trusted", "--reason", "x", "--until", "soon"),
        ("override", "node-1", "--clear", "--reason", "x"),
    ],
)  # fmt: skip
def test_wrong_use(oat, api, argv):
    assert oat("host", *argv).status == 2
    assert api.history() == []


CHECKED = {
    "policy": "strict",
    "hosts": [
        {"region": "", "host": "b", "level": "trusted", "would_be": "trusted", "changes": False,
         "findings": []},
        {"region": "", "host": "a", "level": "trusted", "would_be": "untrusted", "changes": True,
         "findings": [{"code": "secure-boot-off", "message": "Secure Boot is off: event 3"}]},
    ],
}  # fmt: skip


def test_a_draft_is_checked(oat, api, tmp_path):
    sent = api("POST", "/v1/policies/strict/check", json=CHECKED)
    file = tmp_path / "draft.yaml"
    file.write_text("name: strict\nsecure_boot: required\n")
    ran = oat("policy", "check", str(file))
    assert ran.status == 0
    assert sent.last_request.json() == {
        "all": False, "document": {"name": "strict", "secure_boot": "required"},
    }  # fmt: skip
    assert "Secure Boot is off: event 3" in ran.out
    records = json.loads(oat("policy", "check", str(file), "--changes", "-f", "json").out)
    assert [record["host"] for record in records] == ["a"]


def test_a_policy_that_exists_is_checked(oat, api):
    sent = api("POST", "/v1/policies/strict/check", json=CHECKED)
    oat("policy", "check", "strict", "--all")
    assert sent.last_request.json() == {"all": True}
    oat("policy", "check", "strict", "--host", "a", "--host", "b", "--region", "r1")
    assert sent.last_request.json() == {"all": False, "hosts": ["a", "b"], "region": "r1"}


def test_a_draft_without_a_name_or_with_an_error_is_told_by_line(oat, api, tmp_path):
    problem = {"code": "policy-invalid", "field": "secure_boot", "detail": "secure_boot is wrong"}
    api("POST", "/v1/policies/strict/check", status_code=400, json=problem)
    file = tmp_path / "draft.yaml"
    file.write_text("secure_boot: maybe\n")
    ran = oat("policy", "check", str(file))
    assert (ran.status, ran.err) == (2, f"{file}:1: name: the draft has no name of a policy\n")
    file.write_text("name: strict\nsecure_boot: maybe\n")
    ran = oat("policy", "check", str(file))
    assert (ran.status, ran.err) == (1, f"{file}:2: secure_boot: is wrong\n")


def test_a_policy_is_deleted(oat, api):
    sent = api("DELETE", "/v1/policies/strict", status_code=204)
    assert oat("policy", "delete", "strict", "--generation", "3").status == 0
    assert sent.last_request.headers["If-Match"] == '"3"'
