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
"""Many hosts announced at once: all of them or none."""

import json

import pytest

from oat_trusted_filter.backend.store import audit, hosts
from tests.unit.backend.conftest import START, candidate_of
from tests.unit.backend.test_hosts_store import HOST

KEYS = [f"{number:064x}" for number in range(1, 9)]


def entry(number, **fields):
    return {"host": f"node-{number}", "ek_fingerprint": KEYS[number], **fields}


def send(place, *entries, **fields):
    return place.call("POST", "/v1/registrations", {"hosts": list(entries), **fields})


def errors(answer):
    """Place and code of what was refused."""
    assert (answer.status_code, answer.json["code"]) == (422, "import-refused")
    return [(item["index"], item["code"]) for item in answer.json["errors"]]


def everything(place):
    return {item["host"]: item for item in place.get("/v1/hosts")["hosts"]}


def enrol(place, number, **fields):
    """The host's key proves itself."""
    values = {"host": f"node-{number}", "ek_fingerprint": KEYS[number], **fields}
    candidate = candidate_of(HOST, **values)
    return place.store.write(lambda connection: hosts.enrol(connection, candidate, START))


@pytest.mark.every_database
def test_a_list_is_registered_and_can_be_sent_again(place):
    first = send(place, entry(1), entry(2, region="r", labels={"rack": "a1"}, policy="default"))
    assert (first.status_code, first.json) == (
        201, {"registered": 2, "approved": 0, "unchanged": 0},
    )  # fmt: skip
    known = everything(place)
    assert {item["state"] for item in known.values()} == {"registered"}
    assert (known["node-2"]["region"], known["node-2"]["labels"]) == ("r", {"rack": "a1"})
    assert known["node-2"]["bound_policy"] == "default"
    again = send(place, entry(1), entry(2, region="r"), entry(3))
    assert again.json == {"registered": 1, "approved": 0, "unchanged": 2}
    assert enrol(place, 1).state == "approved"
    assert send(place, entry(1)).json["unchanged"] == 1


def test_keys_that_wait_are_approved(place):
    enrol(place, 1)
    assert send(place, entry(1, labels={"rack": "a1"}), entry(2)).json == {
        "registered": 1, "approved": 1, "unchanged": 0,
    }  # fmt: skip
    assert everything(place)["node-1"]["state"] == "approved"
    assert everything(place)["node-1"]["labels"] == {"rack": "a1"}


def test_a_dry_run_changes_nothing(place):
    enrol(place, 1)
    before = everything(place)
    answer = send(place, entry(1), entry(2), dry_run=True)
    assert (answer.status_code, answer.json["registered"], answer.json["approved"]) == (200, 1, 1)
    assert everything(place) == before


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"host": "node\n"}, "field-invalid"),
        ({"host": "nоde"}, "field-invalid"),  # a Cyrillic letter
        ({"host": "../node"}, "field-invalid"),
        ({"region": "a b"}, "field-invalid"),
        ({"ek_fingerprint": "AB" * 32}, "field-invalid"),
        ({"ek_fingerprint": 1}, "field-invalid"),
        ({"colour": "blue"}, "field-invalid"),
        ({"labels": {"rack": 1}}, "field-invalid"),
        ({"labels": {"a b": "c"}}, "document-name"),
        ({"policy": "nothing"}, "policy-unknown"),
    ],
)
def test_B8_one_mistake_and_none_is_registered(place, fields, code):
    assert errors(send(place, entry(1), entry(2, **fields), entry(3))) == [(1, code)]
    assert everything(place) == {}


def test_all_mistakes_are_told_at_once(place):
    answer = send(place, entry(1, policy="x"), entry(2), entry(3, policy="y"))
    assert errors(answer) == [(0, "policy-unknown"), (2, "policy-unknown")]
    assert answer.json["error_count"] == 2


@pytest.mark.parametrize("dry_run", [True, False])
def test_E9_labels_that_two_policies_match_are_refused(place, dry_run):
    for name, labels in (("of-rack", {"rack": "a"}), ("of-row", {"row": "7"})):
        assert place.call("PUT", f"/v1/policies/{name}", {"labels": labels}).status_code == 200
    both = {"rack": "a", "row": "7"}
    enrol(place, 3)
    answer = send(
        place, entry(1, labels={"rack": "a"}), entry(2, labels=both), entry(3, labels=both),
        dry_run=dry_run,
    )  # fmt: skip
    assert errors(answer) == [(1, "policy-ambiguous"), (2, "policy-ambiguous")]
    # Bound to one of them it may have any.
    assert send(place, entry(2, labels=both, policy="of-row")).status_code == 201
    # The rules can still be changed.
    assert place.call("PUT", "/v1/policies/another", {}).status_code == 200


def test_what_contradicts_itself_or_what_is_known(place):
    assert errors(send(place, entry(1), entry(1), entry(2, host="node-1"))) == [
        (1, "host-twice"), (1, "ek-twice"), (2, "host-twice"),
    ]  # fmt: skip
    send(place, entry(1), entry(2, policy="default"))
    enrol(place, 1)
    # B2: a list puts no key in the place of an approved one,
    assert errors(send(place, entry(3, host="node-1"))) == [(0, "host-already-approved")]
    # nor does it give one machine two names.
    assert errors(send(place, entry(1, host="node-9"))) == [(0, "ek-already-approved")]
    assert errors(send(place, entry(3, host="node-2"))) == [(0, "host-already-registered")]
    assert errors(send(place, entry(2, labels={"a": "b"}))) == [(0, "host-differs")]
    assert set(everything(place)) == {"node-1", "node-2"}


def test_A12_a_key_that_waits_under_a_second_name_is_not_approved_by_a_list(place):
    send(place, entry(1))
    assert enrol(place, 1).state == "approved"
    assert enrol(place, 1, host="node-9").state == "pending"
    listed = entry(1, host="node-9")
    assert errors(send(place, entry(2), listed)) == [(1, "ek-already-approved")]
    assert errors(send(place, listed, dry_run=True)) == [(0, "ek-already-approved")]
    states = {name: item["state"] for name, item in everything(place).items()}
    assert states == {"node-1": "approved", "node-9": "pending"}


def test_an_expired_certificate_can_be_accepted_later(place):
    send(place, entry(1))
    assert send(place, entry(1, accept_expired=True)).json["unchanged"] == 1
    with place.store.read() as connection:
        (host,) = hosts.named(connection, "", "node-1")
    assert host.accept_expired is True


def test_each_host_is_recorded(place):
    send(place, entry(1, labels={"rack": "a1"}), entry(2, accept_expired=True))
    with place.store.read() as connection:
        rows = [row for row in audit.everything(connection) if row.action == "host.register"]
    assert [(row.actor, row.host) for row in rows] == [("noauth", "node-1"), ("noauth", "node-2")]
    assert [json.loads(row.details) for row in rows] == [
        {"ek_fingerprint": KEYS[1], "labels": '{"rack":"a1"}'},
        {"ek_fingerprint": KEYS[2], "accept_expired": True},
    ]


def test_a_large_list(place):
    many = [{"host": f"host-{n}", "ek_fingerprint": f"{n:064x}"} for n in range(5_000)]
    assert send(place, *many).json["registered"] == 5_000
    assert send(place, *many).json["unchanged"] == 5_000
    many[4_321]["policy"] = "x"
    assert errors(send(place, *many)) == [(4_321, "policy-unknown")]


@pytest.mark.parametrize("body", [{"hosts": []}, {}, {"hosts": [1]}, {"hosts": "x"}])
def test_no_list(place, body):
    answer = place.call("POST", "/v1/registrations", body)
    assert (answer.status_code, answer.json["code"]) == (400, "field-invalid")
