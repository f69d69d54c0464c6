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
"""Changes of policies and reference sets: they count at once, for everybody."""

import threading

import pytest

from oat_trusted_filter.backend.api.rule_changer import RuleChanger
from oat_trusted_filter.backend.appraisal import appraise


@pytest.fixture
def pair(place):
    """Two hosts that have attested; nobody has said yet which boots are good."""
    made = [place.approved_host("node-1"), place.approved_host("node-2", "machine-b")]
    for host in made:
        assert host.attest() == "untrusted"
    return made


def levels(place):
    return [host["level"] for host in place.get("/v1/hosts")["hosts"]]


def reasons(place):
    told = sorted(place.get("/v1/verdicts")["hosts"], key=lambda item: item["host"])
    return [item.get("reason", "") for item in told]


def delete(place, name):
    assert place.call("DELETE", f"/v1/reference-sets/{name}").status_code == 204


def put_policy(place, **fields):
    document = place.get("/v1/policies/default") | fields
    answer = place.call("PUT", "/v1/policies/default", document)
    assert answer.status_code == 200, answer.text
    return answer.json


def test_a_set_counts_at_once_and_so_does_its_withdrawal(place, pair):
    assert reasons(place) == ["no-reference"] * 2
    name = place.trust(*pair)
    assert levels(place) == ["trusted"] * 2
    assert place.get("/v1/hosts/node-1")["reference_sets"] == [name]
    delete(place, name)
    assert levels(place) == ["untrusted"] * 2


def test_judging_anew_is_told_to_relying_parties_once(place, pair):
    before = place.get("/v1/verdicts")
    place.trust(*pair)
    after = place.get(f"/v1/verdicts?since={before['epoch']}:{before['cursor']}")
    assert after["cursor"] == before["cursor"] + 1
    assert [item["level"] for item in after["hosts"]] == ["trusted"] * 2
    # Another set that changes nothing is told to nobody.
    place.trust(*pair)
    assert place.get("/v1/verdicts")["cursor"] == after["cursor"]


def test_two_machines_leave_out_what_differs(place, pair):
    body = {"name": "good", "from_hosts": ["node-1", "node-2"]}
    created = place.call("POST", "/v1/reference-sets", body).json
    assert (created["name"], created["kind"]) == ("good", "platform")
    assert "5" not in created["pcrs"]["sha256"]
    left_out = {item["pcr"]: item for item in created["differing"]}
    assert left_out[5]["hosts"] == ["node-1", "node-2"]
    assert all("description" in event for event in left_out[5]["events"])


def test_a_preview_creates_nothing_and_differing_values_are_taken_if_asked_for(place, pair):
    body = {"name": "os", "kind": "os", "from_hosts": ["node-1", "node-2"]}
    shown = place.call("POST", "/v1/reference-sets", {**body, "preview": True}).json
    assert [item["pcr"] for item in shown["differing"]] == [8, 9]
    assert place.get("/v1/reference-sets") == {"reference_sets": []}
    created = place.call("POST", "/v1/reference-sets", {**body, "take": [9]}).json
    assert {pcr: len(values) for pcr, values in created["pcrs"]["sha256"].items()} == {
        "9": 2, "14": 1,
    }  # fmt: skip
    until = {"name": "x", "from_hosts": ["node-1"], "valid_until": "2030-01-01T00:00:00Z"}
    assert place.call("POST", "/v1/reference-sets", until).json["valid_until"] == (
        "2030-01-01T00:00:00Z"
    )


def test_a_set_says_who_brought_it_and_from_where(place, pair):
    pcrs = {"pcrs": {"sha256": {"0": ["00" * 32]}}}
    found = {}
    for name, body in (
        ("taken", {"from_hosts": ["node-1"]}),
        ("typed", {"document": pcrs}),
        ("computed", {"document": pcrs, "from_files": ["vmlinuz"]}),
    ):
        answer = place.call("POST", "/v1/reference-sets", {"name": name, **body})
        found[name] = answer.json["provenance"]
    assert {name: item["source"] for name, item in found.items()} == {
        "taken": "hosts", "typed": "typed", "computed": "files",
    }  # fmt: skip
    assert found["taken"]["hosts"] == ["node-1"]
    assert found["computed"]["files"] == ["vmlinuz"]
    assert all(item["by"] and item["at"] for item in found.values())


def test_a_set_is_what_it_was_when_it_is_shown_and_created_again(place, pair):
    name = place.trust(*pair)
    shown = place.get(f"/v1/reference-sets/{name}")
    assert place.get("/v1/reference-sets")["reference_sets"] == [shown]
    delete(place, name)
    body = {"name": "copy", "document": shown}
    created = place.call("POST", "/v1/reference-sets", body).json
    assert shown.pop("validity") == "valid"
    assert created.pop("generation") > shown.pop("generation")
    origin, provenance = shown.pop("provenance"), created.pop("provenance")
    assert (origin["source"], origin["hosts"]) == ("hosts", ["node-1", "node-2"])
    assert (provenance["source"], provenance["origin"]) == ("imported", origin)
    assert created == {**shown, "name": "copy", "differing": []}
    # So is the answer to its creation.
    assert place.call("POST", "/v1/reference-sets", {"name": "x", "document": created}).json


def test_only_the_pcrs_asked_for_and_only_those_of_the_boot_log(place, pair):
    body = {"name": "few", "from_hosts": ["node-1"], "pcrs": [4, 7], "kind": "loader"}
    created = place.call("POST", "/v1/reference-sets", body).json
    assert created["kind"] == "loader"
    assert {bank: set(pcrs) for bank, pcrs in created["pcrs"].items()} == {
        bank: {"4", "7"} for bank in ("sha1", "sha256", "sha384")
    }
    answer = place.call("POST", "/v1/reference-sets", {**body, "name": "y", "pcrs": [10]})
    assert (answer.status_code, answer.json["code"]) == (400, "field-invalid")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"name": "x"}, 400, "field-invalid"),
        ({"name": "x", "from_hosts": []}, 400, "field-invalid"),
        ({"name": "x", "from_hosts": ["node-1"], "document": {}}, 400, "field-invalid"),
        ({"name": "x", "form_hosts": ["node-1"]}, 400, "field-invalid"),
        ({"name": "x", "from_hosts": ["nobody"]}, 404, "host-unknown"),
        ({"name": "x", "from_hosts": ["node-3"]}, 409, "host-without-evidence"),
        ({"name": "a b", "from_hosts": ["node-1"]}, 400, "document-name"),
        ({"name": "x", "from_hosts": ["node-1"], "kind": "../x"}, 400, "document-name"),
        ({"name": "x", "document": {"pcrs": {"md5": {"0": "00"}}}}, 400, "document-field"),
        ({"name": "x", "document": {"pcrs": {}, "colour": 1}}, 400, "document-field"),
    ],
)
def test_sets_that_are_none_are_refused(place, pair, body, status, code):
    place.approved_host("node-3")
    answer = place.call("POST", "/v1/reference-sets", body)
    assert (answer.status_code, answer.json["code"]) == (status, code), answer.text
    assert place.get("/v1/reference-sets") == {"reference_sets": []}


def test_a_set_is_not_replaced(place, pair):
    name = place.trust(pair[0])
    answer = place.call("POST", "/v1/reference-sets", {"name": name, "from_hosts": ["node-2"]})
    assert (answer.status_code, answer.json["code"]) == (409, "reference-set-exists")


def test_what_is_not_there(place):
    for method, path, code in (
        ("GET", "/v1/reference-sets/x", "reference-set-unknown"),
        ("DELETE", "/v1/reference-sets/x", "reference-set-unknown"),
        ("GET", "/v1/policies/x", "policy-unknown"),
    ):
        answer = place.call(method, path)
        assert (answer.status_code, answer.json["code"]) == (404, code)


def test_the_default_policy_is_always_there(place):
    policy = place.get("/v1/policies/default")
    assert policy["secure_boot"] == "required"
    assert policy["requirements"] == [{"kind": "platform", "pcrs": [0, 2, 4, 7]}]
    assert place.get("/v1/policies") == {"policies": [policy]}


def test_a_policy_counts_at_once(place, pair):
    place.trust(*pair)
    put_policy(place, kernel_command_line="nothing boots with this")
    assert levels(place) == ["untrusted"] * 2
    assert set(reasons(place)) == {"kernel-command-line"}
    assert place.get("/v1/policies/default")["kernel_command_line"] == "nothing boots with this"
    put_policy(place, kernel_command_line=None)
    assert levels(place) == ["trusted"] * 2


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"colour": "blue"}, "document-field"),
        ({"secure_boot": "maybe"}, "policy-invalid"),
        ({"kernel_command_line": "("}, "policy-invalid"),
        ({"requirements": [{"kind": "platform", "pcrs": [99]}]}, "document-pcr"),
    ],
)
def test_a_policy_that_is_none_changes_nothing(place, pair, fields, code):
    before = place.get("/v1/policies/default")
    answer = place.call("PUT", "/v1/policies/default", before | fields)
    assert (answer.status_code, answer.json["code"]) == (400, code)
    assert place.get("/v1/policies/default") == before


def test_judging_anew_never_puts_a_deadline_off(place, pair):
    before = place.get("/v1/hosts/node-1")["expires_at"]
    place.clock.pass_by(100)
    place.trust(*pair)
    shown = place.get("/v1/hosts/node-1")
    assert (shown["level"], shown["expires_at"]) == ("trusted", before)


def test_a_verdict_that_has_lapsed_is_not_brought_back(place, pair):
    place.clock.pass_by(300)
    place.trust(*pair)
    assert levels(place) == ["unknown"] * 2
    assert reasons(place) == ["verdict-lapsed"] * 2


def test_what_a_host_could_not_prove_stays_untrusted(place, pair):
    body = pair[0].evidence()
    body["pcrs"]["sha256"]["0"] = "00" * 32
    pair[0].submit(body)
    place.trust(pair[1])
    assert levels(place) == ["untrusted", "trusted"]
    assert reasons(place)[0] == "pcr-digest"


def test_a_fault_in_judging_one_host_costs_the_others_nothing(place, pair, monkeypatch):
    genuine = appraise.judge

    def judge(log, pcrs, *arguments):
        if pcrs["sha256"][5] == pair[0].values["sha256"][5]:
            raise ZeroDivisionError
        return genuine(log, pcrs, *arguments)

    monkeypatch.setattr(appraise, "judge", judge)
    place.trust(pair[1])
    assert levels(place) == ["unknown", "trusted"]
    assert reasons(place) == ["verifier-error", ""]


def test_E9_a_set_is_withdrawn_while_a_host_attests(place, pair, monkeypatch):
    """The withdrawal comes between the judgement and its storing."""
    name = place.trust(*pair)
    done = []

    def appraised(*arguments, judge=appraise.appraise_safely):
        verdict = judge(*arguments)
        if not done:
            assert verdict.level == "trusted"
            delete(place, name)
            done.append(True)
        return verdict

    monkeypatch.setattr(appraise, "appraise_safely", appraised)
    assert pair[0].attest() == "untrusted"
    assert levels(place) == ["untrusted"] * 2


def test_E9_evidence_that_comes_while_rules_change_is_judged_by_the_new_ones(
    place, pair, monkeypatch
):
    """A host attests to another boot while the others are being judged."""
    name = place.trust(*pair)
    genuine, done = RuleChanger._judge, []

    def judge(self, connection, row, after, now):
        verdict = genuine(self, connection, row, after, now)
        if not done:
            done.append(True)
            pair[0].boot("machine-a-loader")
            assert pair[0].attest() == "untrusted"
        return verdict

    monkeypatch.setattr(RuleChanger, "_judge", judge)
    place.trust(pair[1])
    assert levels(place) == ["untrusted", "trusted"]
    delete(place, name)
    # node-1 has another boot now, which the set that is left does not know.
    assert levels(place) == ["untrusted", "trusted"]


def test_E9_of_two_edits_at_once_none_is_lost(place_maker, place, pair):
    shown = place.get(f"/v1/reference-sets/{place.trust(*pair)}")
    servers = [place, place_maker(), place_maker(), place_maker()]
    barrier = threading.Barrier(len(servers))
    statuses = []

    def run(number, server):
        barrier.wait()
        body = {"name": f"set-{number}", "document": shown}
        statuses.append(server.call("POST", "/v1/reference-sets", body).status_code)

    threads = [
        threading.Thread(target=run, args=(number, server))
        for number, server in enumerate(servers)
    ]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [201] * 4
    assert len(place.get("/v1/reference-sets")["reference_sets"]) == 5
    assert levels(place) == ["trusted"] * 2


def test_a_server_hears_of_rules_another_one_changed(place_maker, place, pair):
    other = place_maker()
    pair[0].place = other
    assert pair[0].attest() == "untrusted"
    name = place.trust(*pair)
    assert pair[0].attest() == "trusted"
    delete(place, name)
    assert pair[0].attest() == "untrusted"
