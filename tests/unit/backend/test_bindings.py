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
"""Policies, labels and overrides of single hosts; edits that race; drafts."""

import datetime
import threading

import pytest

from oat_trusted_filter.backend.store import audit, changes, hosts, renewing
from tests.unit.backend.attesting import AttestingHost
from tests.unit.backend.conftest import candidate_of

STRICT = {"kernel_command_line": "nothing boots with this"}


@pytest.fixture
def pair(place):
    """Two hosts that are trusted."""
    made = [place.approved_host("node-1"), place.approved_host("node-2", "machine-b")]
    for host in made:
        host.attest()
    place.trust(*made)
    return made


def put(place, name, headers=None, **fields):
    return place.call("PUT", f"/v1/policies/{name}", fields, headers=headers or {})


def patch(place, host, status=200, **fields):
    answer = place.call("PATCH", f"/v1/hosts/{host}", fields)
    assert answer.status_code == status, answer.text
    return answer.json


def override(place, host, status=200, **fields):
    body = {"level": "trusted", "reason": "firmware bug 7", "seconds": 120, **fields}
    answer = place.call("PUT", f"/v1/hosts/{host}/override", body)
    assert answer.status_code == status, answer.text
    return answer.json


def levels(place):
    return {host["host"]: host["level"] for host in place.get("/v1/hosts")["hosts"]}


def told(place):
    return {item["host"]: (item["level"], item.get("reason", ""))
            for item in place.get("/v1/verdicts")["hosts"]}  # fmt: skip


def test_a_host_is_judged_by_the_policy_it_is_bound_to(place, pair):
    put(place, "strict", **STRICT)
    before = place.get("/v1/verdicts")
    shown = patch(place, "node-1", policy="strict")
    assert (shown["policy"], shown["bound_policy"]) == ("strict", "strict")
    assert levels(place) == {"node-1": "untrusted", "node-2": "trusted"}
    after = place.get(f"/v1/verdicts?since={before['epoch']}:{before['cursor']}")
    assert [item["host"] for item in after["hosts"]] == ["node-1"]
    assert pair[0].attest() == "untrusted"
    shown = patch(place, "node-1", policy=None)
    assert (shown["policy"], shown["bound_policy"], shown["level"]) == ("default", None, "trusted")


def test_labels_choose_a_policy_and_a_direct_binding_counts_more(place, pair):
    put(place, "strict", labels={"rack": "a"}, **STRICT)
    shown = patch(place, "node-1", labels={"rack": "a", "row": "7"})
    assert (shown["labels"], shown["policy"]) == ({"rack": "a", "row": "7"}, "strict")
    assert levels(place)["node-1"] == "untrusted"
    assert patch(place, "node-1", policy="default")["level"] == "trusted"
    assert patch(place, "node-1", policy=None)["level"] == "untrusted"
    shown = patch(place, "node-1", labels={"rack": None})
    assert (shown["labels"], shown["level"]) == ({"row": "7"}, "trusted")
    assert patch(place, "node-1", labels={"row": None})["labels"] == {}


def test_a_policy_with_labels_counts_for_its_hosts_at_once(place, pair):
    patch(place, "node-1", labels={"rack": "a"})
    put(place, "strict", labels={"rack": "a"}, **STRICT)
    assert levels(place) == {"node-1": "untrusted", "node-2": "trusted"}
    put(place, "strict", labels={"rack": "b"}, **STRICT)
    assert levels(place)["node-1"] == "trusted"


@pytest.mark.parametrize("database", ["mariadb", "postgresql"], indirect=True)
def test_E9_a_host_that_is_approved_while_rules_change_is_judged_by_the_new_ones(
    place, monkeypatch
):
    """Its evidence starts over. SQLite lets no two write at once."""
    count = changes.next_rules
    seen = []

    def serial():
        with place.store.read() as connection:
            return renewing.subject(connection, "/node-1").serial

    def in_between(connection):
        # Verdicts are overtaken by now, and the count is not taken yet.
        monkeypatch.undo()
        place.approved_host("node-1")
        seen.append(serial())
        return count(connection)

    monkeypatch.setattr(changes, "next_rules", in_between)
    assert put(place, "strict", **STRICT).status_code == 200
    assert serial() > seen[0]


def test_two_policies_for_one_host_are_refused_from_either_side(place, pair):
    put(place, "of-rack", labels={"rack": "a"})
    put(place, "of-row", labels={"row": "7"})
    patch(place, "node-1", labels={"rack": "a"})
    refused = patch(place, "node-1", 409, labels={"row": "7"})
    assert refused["code"] == "policy-ambiguous"
    assert "of-rack, of-row" in refused["detail"]
    assert place.get("/v1/hosts/node-1")["labels"] == {"rack": "a"}
    answer = put(place, "another", labels={"rack": "a"})
    assert (answer.status_code, answer.json["code"]) == (409, "policy-ambiguous")
    assert "host node-1" in answer.json["detail"]
    # Bound directly it may have any labels, but then the binding cannot be taken away.
    patch(place, "node-1", policy="of-row", labels={"row": "7"})
    assert patch(place, "node-1", 409, policy=None)["code"] == "policy-ambiguous"


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"policy": "nothing"}, 404, "policy-unknown"),
        ({"labels": {"a b": "c"}}, 400, "document-name"),
        ({"labels": {"rack": "a\n"}}, 400, "document-name"),
        ({"labels": {"rack": 5}}, 400, "field-invalid"),
        ({"polcy": "default"}, 400, "field-invalid"),
        ({"region": "nowhere", "policy": "default"}, 404, "host-unknown"),
    ],
)
def test_changes_that_are_none_change_nothing(place, pair, fields, status, code):
    before = place.get("/v1/hosts/node-1")
    assert patch(place, "node-1", status, **fields)["code"] == code
    assert place.get("/v1/hosts/node-1") == before


def test_a_policy_that_is_in_use_is_not_deleted(place, pair):
    put(place, "strict", labels={"rack": "a"}, **STRICT)
    for change in ({"policy": "strict"}, {"policy": None, "labels": {"rack": "a"}}):
        patch(place, "node-1", **change)
        answer = place.call("DELETE", "/v1/policies/strict")
        assert (answer.status_code, answer.json["code"]) == (409, "policy-in-use")
        assert "node-1" in answer.json["detail"]
    patch(place, "node-1", labels={"rack": None})
    assert place.call("DELETE", "/v1/policies/strict").status_code == 204
    assert place.call("DELETE", "/v1/policies/strict").json["code"] == "policy-unknown"
    assert place.call("DELETE", "/v1/policies/default").json["code"] == "policy-in-use"


def test_an_override_is_shown_in_every_verdict_and_never_lasts_longer(place, pair):
    pair[0].boot("machine-a-loader")
    assert pair[0].attest() == "untrusted"
    shown = override(place, "node-1", seconds=120)
    assert shown["level"] == "trusted"
    assert shown["override"]["reason"] == "firmware bug 7"
    assert [item["code"] for item in shown["findings"]] == ["override", "pcr-mismatch"]
    assert "firmware bug 7" in shown["findings"][0]["message"]
    assert shown["expires_at"] == shown["override"]["until"]
    assert told(place)["node-1"] == ("trusted", "override")
    assert pair[0].attest() == "trusted"
    place.clock.pass_by(119)
    assert pair[0].attest() == "trusted"
    assert place.get("/v1/hosts/node-1")["expires_at"] == shown["override"]["until"]
    place.clock.pass_by(1)
    assert told(place)["node-1"] == ("unknown", "verdict-lapsed")
    assert pair[0].attest() == "untrusted"
    assert place.get("/v1/hosts/node-1")["override"] is None


def test_an_override_is_taken_back_at_once(place, pair):
    override(place, "node-1", level="untrusted", reason="hardware is being looked at")
    assert told(place)["node-1"] == ("untrusted", "override")
    assert pair[0].attest() == "untrusted"
    assert place.call("DELETE", "/v1/hosts/node-1/override").status_code == 204
    assert told(place)["node-1"] == ("trusted", "")


def test_an_override_of_refused_evidence_is_taken_back_to_what_was_found(place, pair):
    def refused():
        body = pair[0].evidence()
        body["pcrs"]["sha256"]["0"] = "00" * 32
        return pair[0].submit(body)

    assert refused().status_code == 422
    assert override(place, "node-1")["level"] == "trusted"
    assert refused().json["level"] == "trusted"
    place.call("DELETE", "/v1/hosts/node-1/override")
    shown = place.get("/v1/hosts/node-1")
    assert (shown["level"], shown["findings"][0]["code"]) == ("untrusted", "pcr-digest")


def test_what_an_operator_says_about_a_host_is_on_record(place, pair):
    patch(place, "node-1", labels={"rack": "a"})
    override(place, "node-1")
    place.call("DELETE", "/v1/hosts/node-1/override")
    with place.store.read() as connection:
        rows = [row for row in audit.everything(connection) if row.actor != audit.VERIFIER]
    acts = [(row.action, row.host) for row in rows if row.action.startswith("host.")]
    assert acts == [
        ("host.change", "node-1"), ("host.override", "node-1"), ("host.clear-override", "node-1"),
    ]  # fmt: skip
    assert "firmware bug 7" in rows[-2].details


def test_an_override_does_not_speak_for_a_silent_host(place, pair):
    override(place, "node-1", seconds=86_400)
    place.clock.pass_by(300)
    assert told(place)["node-1"] == ("unknown", "verdict-lapsed")
    assert override(place, "node-1", seconds=86_400)["level"] == "unknown"
    assert pair[0].attest() == "trusted"


def test_an_override_stays_through_a_change_of_rules(place, pair):
    override(place, "node-1")
    put(place, "default", **STRICT)
    assert levels(place) == {"node-1": "trusted", "node-2": "untrusted"}


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"seconds": None}, "override-invalid"),
        ({"until": "2027-01-15T08:30:00Z"}, "override-invalid"),
        ({"seconds": None, "until": "2020-01-01T00:00:00Z"}, "override-invalid"),
        ({"seconds": None, "until": "2030-01-01T00:00:00Z"}, "override-invalid"),
        ({"seconds": None, "until": "2027-01-15T08:30:00"}, "override-invalid"),
        ({"seconds": 0}, "field-invalid"),
        ({"seconds": 31 * 86_400}, "field-invalid"),
        ({"reason": ""}, "field-invalid"),
        ({"reason": " "}, "override-invalid"),
        ({"reason": "two\nlines"}, "override-invalid"),
        ({"reason": "\x1b[2J"}, "override-invalid"),
        ({"level": "unknown"}, "field-invalid"),
    ],
)
def test_overrides_that_are_none_are_refused(place, pair, fields, code):
    assert override(place, "node-1", 400, **fields)["code"] == code
    assert place.get("/v1/hosts/node-1")["override"] is None


def test_an_override_until_a_moment(place, pair):
    until = datetime.datetime.fromtimestamp(place.clock() / 1000, datetime.UTC)
    until += datetime.timedelta(hours=1)
    shown = override(place, "node-1", seconds=None, until=until.isoformat())
    assert shown["override"]["until"] == until.isoformat()[:19] + ".000Z"


def test_no_override_for_a_host_that_is_not_approved(place, pair):
    newcomer = AttestingHost(place, "node-9")
    place.store.write(
        lambda connection: hosts.enrol(connection, candidate_of(newcomer), place.clock())
    )
    assert override(place, "node-9", 403)["code"] == "host-pending"
    assert override(place, "nobody", 404)["code"] == "host-unknown"


def test_an_override_ends_with_the_binding_it_was_made_for(place, pair):
    override(place, "node-1", seconds=86_400)
    place.call("DELETE", "/v1/hosts/node-1")
    again = place.approved_host("node-1", "machine-a-loader")
    assert again.attest() == "untrusted"


def test_E9_an_override_made_while_a_host_attests_counts(place, pair, monkeypatch):
    """It comes between the judgement and its storing."""
    from oat_trusted_filter.backend.appraisal import appraise

    done = []

    def appraised(*arguments, judge=appraise.appraise_safely):
        verdict = judge(*arguments)
        if not done:
            done.append(override(place, "node-1", level="untrusted"))
        return verdict

    monkeypatch.setattr(appraise, "appraise_safely", appraised)
    assert pair[0].attest() == "untrusted"


def test_E9_of_two_policy_edits_that_race_one_is_told(place_maker, place, pair):
    """Both were made from the same version."""
    put(place, "shared")
    tag = place.call("GET", "/v1/policies/shared").headers["ETag"]
    servers = [place, place_maker()]
    barrier, answers = threading.Barrier(2), []

    def run(server, pattern):
        barrier.wait()
        answers.append(put(server, "shared", {"If-Match": tag}, kernel_command_line=pattern))

    threads = [
        threading.Thread(target=run, args=(server, f"line-{number}"))
        for number, server in enumerate(servers)
    ]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.status_code for answer in answers) == [200, 409]
    (refused,) = [answer for answer in answers if answer.status_code == 409]
    (done,) = [answer for answer in answers if answer.status_code == 200]
    assert refused.json["code"] == "edit-conflict"
    kept = place.get("/v1/policies/shared")
    assert kept == done.json
    assert f'"{kept["generation"]}"' != tag


def test_E9_an_edit_of_a_reference_set_from_an_old_version_is_refused(place, pair):
    (known,) = place.get("/v1/reference-sets")["reference_sets"]
    where = f"/v1/reference-sets/{known['name']}"
    tag = {"If-Match": f'"{known["generation"]}"'}
    until = {"valid_until": "2030-01-01T00:00:00Z"}
    changed = place.call("PATCH", where, until, headers=tag)
    assert (changed.status_code, changed.json["valid_until"]) == (200, "2030-01-01T00:00:00Z")
    for method, body in (("PATCH", until), ("DELETE", None)):
        answer = place.call(method, where, body, headers=tag)
        assert (answer.status_code, answer.json["code"]) == (409, "edit-conflict")
    assert place.call("DELETE", where, headers={"If-Match": "*"}).status_code == 204


@pytest.mark.parametrize("tag", ["", "7", '"x"', 'W/"7"', '"7", "8"', '"' + "9" * 30 + '"'])
def test_what_is_no_entity_tag_is_refused(place, tag):
    answer = put(place, "default", {"If-Match": tag})
    assert (answer.status_code, answer.json["code"]) == (400, "field-invalid")


def test_a_draft_says_what_would_change_and_changes_nothing(place, pair):
    before = place.get("/v1/hosts/node-1")
    body = {"document": STRICT}
    answer = place.call("POST", "/v1/policies/default/check", body).json
    assert [(item["host"], item["level"], item["would_be"]) for item in answer["hosts"]] == [
        ("node-1", "trusted", "untrusted"), ("node-2", "trusted", "untrusted"),
    ]  # fmt: skip
    assert answer["hosts"][0]["findings"][0]["code"] == "kernel-command-line"
    assert place.get("/v1/hosts/node-1") == before
    assert place.get("/v1/policies/default")["kernel_command_line"] is None


def test_a_draft_is_for_the_hosts_it_would_be_for(place, pair):
    patch(place, "node-2", labels={"rack": "a"})
    check = "/v1/policies/strict/check"
    body = {"document": {**STRICT, "labels": {"rack": "a"}}}
    assert [i["host"] for i in place.call("POST", check, body).json["hosts"]] == ["node-2"]
    body = {"document": STRICT, "hosts": ["node-1"]}
    assert [i["host"] for i in place.call("POST", check, body).json["hosts"]] == ["node-1"]
    body = {"document": STRICT, "all": True}
    assert len(place.call("POST", check, body).json["hosts"]) == 2
    assert place.call("POST", check, {}).json["code"] == "policy-unknown"
    body = {"document": {"colour": "blue"}}
    refused = place.call("POST", check, body).json
    assert (refused["code"], refused["field"]) == ("document-field", "colour")


def test_max_age_ends_a_verdict_and_makes_the_host_attest_more_often(place, pair):
    put(place, "default", max_age=30)
    assert told(place)["node-1"][0] == "trusted"
    place.clock.pass_by(20)
    answer = pair[0].submit().json
    assert answer["interval"] == 10
    place.clock.pass_by(15)
    assert {name: level for name, (level, _) in told(place).items()} == {
        "node-1": "trusted", "node-2": "unknown",
    }  # fmt: skip


def test_A9_a_power_cut_is_a_warning_unless_the_policy_wants_more(place, pair):
    body = pair[0].evidence(safe=False)
    assert pair[0].submit(body).json["level"] == "trusted"
    (finding,) = place.get("/v1/hosts/node-1")["findings"]
    assert (finding["code"], finding["severity"]) == ("power-cut", "warning")
    put(place, "default", orderly_shutdown="required")
    assert told(place)["node-1"] == ("untrusted", "power-cut")


def test_A9_a_clock_that_went_back_over_a_reset_is_a_warning_until_the_next_one(place, pair):
    pair[0].reset_count += 1
    pair[0].clock = 0
    assert pair[0].attest() == "trusted"
    for _ in range(2):
        (finding,) = place.get("/v1/hosts/node-1")["findings"]
        assert (finding["code"], finding["severity"]) == ("power-cut", "warning")
        assert "went back" in finding["message"]
        assert pair[0].attest() == "trusted"
    put(place, "default", orderly_shutdown="required")
    assert told(place)["node-1"] == ("untrusted", "power-cut")
    pair[0].reset_count += 1
    assert pair[0].attest() == "trusted"
    assert place.get("/v1/hosts/node-1")["findings"] == []


def test_A10_another_firmware_of_the_tpm_is_on_record_until_the_policy_lists_it(place, pair):
    for _ in range(2):
        answer = pair[0].submit(pair[0].evidence(firmware_version=8)).json
        assert [(f["code"], f["severity"]) for f in answer["findings"]] == [
            ("tpm-firmware-changed", "warning")
        ]
    put(place, "default", tpm_firmware=["0x7"])
    assert told(place) == {"node-1": ("untrusted", "tpm-firmware-unknown"),
                           "node-2": ("trusted", "")}  # fmt: skip
    put(place, "default", tpm_firmware=["0x7", "0x8"])
    assert place.get("/v1/hosts/node-1")["findings"] == []


def test_what_ends_soon_is_said_before_it_ends(place, pair):
    (known,) = place.get("/v1/reference-sets")["reference_sets"]
    moment = datetime.datetime.fromtimestamp(place.clock() / 1000, datetime.UTC)

    def ends(days):
        until = (moment + datetime.timedelta(days=days)).isoformat()
        path = f"/v1/reference-sets/{known['name']}"
        return place.call("PATCH", path, {"valid_until": until}).json["validity"]

    assert ends(15) == "valid"
    assert place.get("/v1/hosts/node-1")["findings"] == []
    assert ends(13) == "expiring"
    (finding,) = place.get("/v1/hosts/node-1")["findings"]
    assert (finding["code"], finding["reference_set"]) == ("reference-expiring", known["name"])
    assert told(place)["node-1"] == ("trusted", "")
    # Another set that matches takes its place.
    place.trust(*pair)
    assert place.get("/v1/hosts/node-1")["findings"] == []
