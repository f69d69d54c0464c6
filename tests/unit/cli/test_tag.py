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
"""``oat tag``: what is sent, and what people see."""

import json

import pytest

RECORD = {
    "state": "valid",
    "serial": 7,
    "issued_at": "2027-01-15T08:00:00.000Z",
    "valid_from": None,
    "valid_until": "2027-02-01T00:00:00.000Z",
    "signed": "a.b.c",
}
ANSWER = {
    "region": "",
    "host": "compute-1",
    "ek_fingerprint": "ab" * 32,
    "tags": {"rack": "7", "zone": "eu-1"},
    "tag_record": RECORD,
}


def test_create(oat, api):
    api("POST", "/v1/tags", json={"name": "zone", "values": ["eu-1", "us-1"]}, status_code=201)
    ran = oat("tag", "create", "zone", "eu-1", "us-1")
    assert ran.status == 0, ran.err
    assert "eu-1, us-1" in ran.out
    assert api.history()[-1].json() == {"name": "zone", "values": ["eu-1", "us-1"]}


def test_a_tag_the_backend_refuses_is_one_line(oat, api):
    answer = {"code": "tag-value", "detail": "'a,b' is no value of a tag: no comma"}
    api("POST", "/v1/tags", json=answer, status_code=400)
    ran = oat("tag", "create", "zone", "a,b")
    assert ran.status != 0
    assert len(ran.err.strip().splitlines()) == 1
    assert "'a,b' is no value of a tag" in ran.err


def test_assign_sends_what_was_said_and_shows_what_is_signed(oat, api):
    api("PUT", "/v1/hosts/compute-1/tags", json=ANSWER)
    ran = oat(
        "tag", "assign", "compute-1", "zone=eu-1", "rack=7", "--valid-until",
        "2027-02-01T00:00:00Z", "--region", "south",
    )  # fmt: skip
    assert ran.status == 0, ran.err
    assert api.history()[-1].json() == {
        "tags": {"zone": "eu-1", "rack": "7"},
        "valid_until": "2027-02-01T00:00:00Z",
        "region": "south",
    }
    assert "rack=7, zone=eu-1" in ran.out
    assert "valid, serial 7, until 2027-02-01T00:00:00.000Z" in ran.out


def test_for_programs_assign_prints_what_the_api_said(oat, api):
    api("PUT", "/v1/hosts/compute-1/tags", json=ANSWER)
    ran = oat("tag", "assign", "compute-1", "zone=eu-1", "-f", "json")
    assert json.loads(ran.out) == ANSWER


@pytest.mark.parametrize("words", [["zone"], ["=eu"], ["zone="], ["zone=a", "zone=b"], []])
def test_slips_are_told_and_nothing_is_sent(oat, api, words):
    ran = oat("tag", "assign", "compute-1", *words)
    assert ran.status == 2
    assert not api.history()


def test_list_show_revoke_and_delete(oat, api):
    api("GET", "/v1/tags", json={"tags": [{"name": "zone", "values": ["eu-1", "us-1"]}]})
    assert "eu-1, us-1" in oat("tag", "list").out
    having = {**RECORD, "region": "south", "host": "compute-1\x1b[2J", "value": "eu-1"}
    api("GET", "/v1/tags/zone", json={"name": "zone", "values": ["eu-1"], "hosts": [having]})
    shown = oat("tag", "show", "zone").out
    line = "eu-1: compute-1\\x1b[2J (region south), until 2027-02-01T00:00:00.000Z"
    assert line in shown
    gone = api("DELETE", "/v1/hosts/compute-1/tags", status_code=204)
    assert oat("tag", "revoke", "compute-1", "--region", "south").status == 0
    assert gone.last_request.qs == {"region": ["south"]}
    gone = api("DELETE", "/v1/tags/zone", status_code=204)
    assert oat("tag", "delete", "zone").status == 0
    assert gone.called


def test_a_host_shows_its_tags(oat, api):
    host = {"host": "compute-1", "state": "approved", "level": "trusted", "findings": [],
            "tags": ANSWER["tags"], "tag_record": {**RECORD, "state": "expired"}}  # fmt: skip
    api("GET", "/v1/hosts/compute-1", json=host)
    shown = oat("host", "show", "compute-1").out
    assert "rack=7, zone=eu-1" in shown
    assert "expired, serial 7" in shown


def test_verdicts_show_tags_and_no_lapse_that_is_only_theirs(oat, api):
    verdict = {"region": "", "host": "a", "level": "trusted", "reason": "", "tags": {"zone": "eu"}}
    lapsing = [{"region": "", "host": "a", "seconds": 3.0, "tags_only": True}]
    api("GET", "/v1/verdicts", json={"hosts": [verdict], "lapsing": lapsing})
    shown = oat("verdict", "list").out
    assert "zone=eu" in shown
    assert "3.0" not in shown
