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
"""Tags: who has them, until when, and what no change of the database makes of them."""

import base64
import hashlib

import pytest
from sqlalchemy import select, update

from oat_trusted_filter.backend.appraisal import appraise
from oat_trusted_filter.backend.signing import rotated
from oat_trusted_filter.backend.store import hosts as hosts_store
from oat_trusted_filter.backend.store.tables import audit, hosts, tag_records
from tests.lab.quotes import SigningKey, certify
from tests.unit.backend.attesting import AttestingHost, b64
from tests.unit.backend.conftest import candidate_of
from tests.unit.backend.test_relying_parties import Party, party  # noqa: F401  a fixture

EU = {"zone": "eu-1", "rack": "7"}


def text(seconds):
    """A moment on the clock of the tests, so many seconds after they begin."""
    minutes, seconds = divmod(int(seconds), 60)
    return f"2027-01-15T08:{minutes:02d}:{seconds:02d}Z"


@pytest.fixture
def tagged(place):
    """A trusted host, and tags to assign."""
    host = place.approved_host()
    host.attest()
    place.trust(host)
    assert host.attest() == "trusted"
    for name, values in (("zone", ["eu-1", "us-1"]), ("rack", ["7"])):
        assert place.call("POST", "/v1/tags", {"name": name, "values": values}).status_code == 201
    return host


def assign(place, name="node-1", tags=None, **fields):
    """Assign tags; the answer has to be what was asked for."""
    answer = place.call("PUT", f"/v1/hosts/{name}/tags", {"tags": tags or EU, **fields})
    assert answer.status_code == 200, answer.text
    return answer.json


def told(place, name="node-1"):
    """The tags relying parties are told of."""
    found = {item["host"]: item.get("tags", {}) for item in place.get("/v1/verdicts")["hosts"]}
    return found[name]


def refusal(answer):
    return answer.status_code, answer.json["code"]


def test_a_host_that_changes_at_this_moment_gets_its_tags(place, tagged, monkeypatch):
    changer = place.service.rule_changer
    change_host = changer.change_host

    def in_between(*arguments):
        monkeypatch.undo()
        answer = place.call("PATCH", "/v1/hosts/node-1", {"labels": {"rack": "a1"}})
        assert answer.status_code == 200
        change_host(*arguments)

    monkeypatch.setattr(changer, "change_host", in_between)
    assert assign(place)["tags"] == EU
    assert told(place) == EU


# -- which tags there are -------------------------------------------------------------------------


def test_tags_are_created_listed_and_deleted(place):
    create = {"name": "zone", "values": ["us-1", "eu-1", "us-1"]}
    made = place.call("POST", "/v1/tags", create)
    assert (made.status_code, made.json) == (201, {"name": "zone", "values": ["eu-1", "us-1"]})
    more = place.call("POST", "/v1/tags", {"name": "zone", "values": ["ap-1", "eu-1"]})
    assert more.json["values"] == ["ap-1", "eu-1", "us-1"]
    place.call("POST", "/v1/tags", {"name": "Zone", "values": ["x"]})
    assert [tag["name"] for tag in place.get("/v1/tags")["tags"]] == ["Zone", "zone"]
    assert place.get("/v1/tags/zone")["hosts"] == []
    assert place.call("DELETE", "/v1/tags/zone").status_code == 204
    for method in ("GET", "DELETE"):
        assert refusal(place.call(method, "/v1/tags/zone")) == (404, "tag-unknown")


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("zone one", "eu", "tag-name"),
        ("zone", "eu,us", "tag-value"),
        ("zone", "eu ", "tag-value"),
        ("zone", "k\u00f6ln", "tag-value"),
        ("zone", "X" * 60, "tag-too-long"),
    ],
)
def test_what_has_no_trait_is_refused_when_the_tag_is_made(place, name, value, code):
    answer = place.call("POST", "/v1/tags", {"name": name, "values": ["good", value]})
    assert refusal(answer) == (400, code)
    assert place.get("/v1/tags") == {"tags": []}


def test_only_tags_that_were_created_can_be_assigned(place, tagged):
    for tags in ({"zone": "eu-2"}, {"row": "7"}, {"rack": "7", "zone": "ap-1"}):
        answer = place.call("PUT", "/v1/hosts/node-1/tags", {"tags": tags})
        assert refusal(answer) == (409, "tag-not-created")
    assert told(place) == {}


# -- what a verdict carries -----------------------------------------------------------------------


def test_tags_are_part_of_the_verdict_and_of_the_host(place, tagged):
    answer = assign(place, valid_until=text(3600 - 1))
    assert (answer["host"], answer["tags"]) == ("node-1", EU)
    assert answer["ek_fingerprint"] == tagged.binding.ek_fingerprint
    assert told(place) == EU
    shown = place.get("/v1/hosts/node-1")
    assert (shown["tags"], shown["tag_record"]["state"]) == (EU, "valid")
    assert shown["tag_record"]["valid_until"] == "2027-01-15T08:59:59.000Z"
    (having,) = place.get("/v1/tags/zone")["hosts"]
    assert (having["host"], having["value"], having["serial"]) == ("node-1", "eu-1", 1)


def test_only_a_trusted_host_has_tags_for_relying_parties(place, tagged):
    assign(place)
    tagged.boot("machine-a-loader")
    assert tagged.attest() == "untrusted"
    assert told(place) == {}
    assert place.get("/v1/hosts/node-1")["tags"] == EU


def test_other_tags_replace_those_before_under_another_serial_number(place, tagged):
    first = assign(place)["tag_record"]
    second = assign(place, tags={"zone": "us-1"})["tag_record"]
    assert second["serial"] > first["serial"]
    assert told(place) == {"zone": "us-1"}
    assert place.call("DELETE", "/v1/hosts/node-1/tags").status_code == 204
    assert told(place) == {}
    assert assign(place)["tag_record"]["serial"] > second["serial"]


def test_E5_each_change_of_tags_reaches_relying_parties(place, tagged, party):  # noqa: F811
    party.ask()
    assign(place)
    assert party.ask() == 200
    assert not party.full
    assert party.snapshot.tags == {"node-1": EU}
    assert party.ask() == 304
    assign(place, tags={"zone": "us-1"})
    assert party.ask() == 200
    assert party.snapshot.tags == {"node-1": {"zone": "us-1"}}
    place.call("DELETE", "/v1/hosts/node-1/tags")
    assert party.ask() == 200
    assert party.snapshot.tags == {}
    assert party.level("node-1") == "trusted"


def test_revoking_what_is_not_there_is_said(place, tagged):
    answer = place.call("DELETE", "/v1/hosts/node-1/tags")
    assert refusal(answer) == (404, "host-without-tags")


def test_a_host_that_is_deleted_and_approved_again_has_no_tags(place, tagged):
    assign(place)
    assert place.call("DELETE", "/v1/hosts/node-1").status_code == 204
    place.approved_host(ek_fingerprint=tagged.binding.ek_fingerprint)
    assert place.get("/v1/hosts/node-1")["tag_record"] is None


def test_tags_belong_to_the_host_of_one_region(place, tagged):
    place.approved_host(region="other")
    answer = place.call("PUT", "/v1/hosts/node-1/tags", {"tags": EU})
    assert refusal(answer) == (409, "host-ambiguous")
    assign(place, region="")
    assert place.get("/v1/hosts/node-1?region=other")["tags"] == {}
    assert place.get("/v1/hosts/node-1?region=")["tags"] == EU


# -- time -----------------------------------------------------------------------------------------


def test_E11_tags_end_for_a_party_at_their_moment_without_a_word(place, tagged, party):  # noqa: F811
    assign(place, valid_until=text(20))
    party.ask()
    assert party.snapshot.tag_lapses[0].host == "node-1"
    assert party.ask() == 200, "as long as it is about to end nobody hears 304"
    place.clock.pass_by(19.9)
    assert not party.snapshot.tags_lapsed(party.now)
    place.clock.pass_by(0.1)
    assert party.snapshot.tags_lapsed(party.now) == {"node-1"}
    assert party.level("node-1") == "trusted"
    assert party.ask() == 200
    assert not party.full
    assert (party.snapshot.tags, party.level("node-1")) == ({}, "trusted")
    assert party.ask() == 304


def test_tags_begin_at_their_moment(place, tagged, party):  # noqa: F811
    answer = assign(place, valid_from=text(60), valid_until=text(600))
    assert (answer["tags"], answer["tag_record"]["state"]) == ({}, "future")
    party.ask()
    assert party.snapshot.tags == {}
    place.clock.pass_by(60)
    assert party.ask() == 200
    assert party.snapshot.tags == {"node-1": EU}


def test_E7_what_has_ended_stays_so_when_the_clock_is_put_back(place, tagged):
    assign(place, valid_until=text(20))
    place.clock.pass_by(25)
    assert told(place) == {}
    place.clock.pass_by(-15)
    assign_time = place.get("/v1/hosts/node-1")
    assert (assign_time["tags"], assign_time["tag_record"]["state"]) == ({}, "expired")
    assert told(place) == {}


@pytest.mark.parametrize(
    "fields",
    [
        {"valid_until": "2020-01-01T00:00:00Z"},
        {"valid_from": text(60), "valid_until": text(60)},
        {"valid_until": "2027-01-15T09:00:00"},
        {"valid_until": "tomorrow"},
        {"validuntil": text(60)},
    ],
)
def test_times_nobody_can_mean_are_refused(place, tagged, fields):
    answer = place.call("PUT", "/v1/hosts/node-1/tags", {"tags": EU, **fields})
    assert refusal(answer) == (400, "field-invalid")


# -- the database is not believed -----------------------------------------------------------------


def trail(place):
    """The audit trail."""
    with place.store.read() as connection:
        return list(connection.execute(select(audit).order_by(audit.c.sequence)).mappings())


def edit(place, table=tag_records, **values):
    """Change rows behind the back of the service; another worker reads them."""
    place.store.write(lambda connection: connection.execute(update(table).values(values)))


def record(place):
    return place.get("/v1/hosts/node-1")["tag_record"]["signed"]


@pytest.mark.parametrize("where", [0, 1, 2])
def test_a_record_changed_in_the_database_does_not_count(place, place_maker, tagged, where, caplog):
    parts = assign(place)["tag_record"]["signed"].split(".")
    letter = parts[where][9]
    parts[where] = parts[where][:9] + ("A" if letter != "A" else "B") + parts[where][10:]
    edit(place, record=".".join(parts))
    other = place_maker()
    assert told(other) == {}
    assert other.get("/v1/hosts/node-1")["tag_record"]["state"] == "invalid"
    assert "the tags stored for host node-1 do not count" in caplog.text


def test_a_record_of_another_kind_does_not_count(place, place_maker, tagged):
    assign(place)
    payload = place.service.signing.verify(record(place), "oat-tags+jwt")
    edit(place, record=place.service.signing.sign(payload, "other+jwt"))
    assert told(place_maker()) == {}


def test_the_record_of_another_host_does_not_count(place, tagged):
    other = place.approved_host("node-2")
    other.attest()
    place.trust(other)
    assign(place)
    assign(place, "node-2", {"zone": "us-1"})
    assert told(place, "node-2") == {"zone": "us-1"}
    edit(place, record=record(place))
    assert told(place) == EU
    place.call("POST", "/v1/tags", {"name": "row", "values": ["1"]})
    assert place.get("/v1/hosts/node-2")["tags"] == {}


def test_B2_tags_do_not_go_over_to_another_endorsement_key(place, place_maker, tagged):
    assign(place)
    edit(place, hosts, ek_fingerprint="f" * 64)
    other = place_maker()
    assert told(other) == {}
    assert other.get("/v1/hosts/node-1")["tag_record"]["state"] == "another-host"


def test_B2_a_host_that_is_rebound_or_renamed_has_no_tags(place, tagged, party):  # noqa: F811
    assign(place)
    party.ask()
    waiting = candidate_of(AttestingHost(place, "node-1"))
    place.store.write(lambda connection: hosts_store.enrol(connection, waiting, place.clock()))
    body = {"ek_fingerprint": waiting.ek_fingerprint}
    assert place.call("POST", "/v1/hosts/node-1/rebind", body).status_code == 200
    shown = place.get("/v1/hosts/node-1")
    assert (shown["tags"], shown["tag_record"]["state"]) == ({}, "another-host")
    assert party.ask() == 200
    assert party.snapshot.tags == {}
    assign(place)
    assert place.call("POST", "/v1/hosts/node-1/rename", {"host": "node-9"}).status_code == 200
    assert place.get("/v1/hosts/node-9")["tags"] == {}


def test_a_longer_validity_written_into_the_database_does_not_count(place, place_maker, tagged):
    assign(place, valid_until=text(20))
    edit(place, ends_at=None)
    place.clock.pass_by(25)
    assert told(place_maker()) == {}


def test_records_stay_good_when_the_key_is_rotated_and_not_when_it_is_taken_away(place, tagged):
    assign(place)
    path, signing = place.settings.signing_key, place.service.signing
    path.write_bytes(rotated(signing.keys))
    assert told(place) == EU
    assign(place, tags={"zone": "us-1"})
    assert told(place) == {"zone": "us-1"}
    path.write_bytes(rotated(None))
    assert place.get("/v1/hosts/node-1")["tags"] == {}


# -- the trail ------------------------------------------------------------------------------------


def test_what_is_done_to_tags_is_in_the_audit_trail(place, tagged):
    assign(place, valid_until=text(20))
    place.clock.pass_by(20)
    told(place)
    assign(place)
    place.call("DELETE", "/v1/hosts/node-1/tags")
    place.call("DELETE", "/v1/tags/rack")
    acts = [row["action"] for row in trail(place) if row["action"].startswith("tag.")]
    assert acts == [
        "tag.create", "tag.create", "tag.assign", "tag.expire", "tag.assign", "tag.revoke",
        "tag.delete",
    ]  # fmt: skip


# -- policies that ask for tags ------------------------------------------------------------------


def ask(place, **demand):
    """Let the default policy ask for these tags."""
    document = place.get("/v1/policies/default") | {"tags": demand}
    answer = place.call("PUT", "/v1/policies/default", document)
    assert answer.status_code == 200, answer.text


def verdict(place, name="node-1"):
    host = place.get(f"/v1/hosts/{name}")
    return host["level"], [finding["code"] for finding in host["findings"]]


def test_E9_a_policy_that_asks_for_tags_and_tags_that_change_count_at_once(place, tagged, party):  # noqa: F811
    party.ask()
    ask(place, require={"zone": ["eu-1"]})
    assert verdict(place) == ("untrusted", ["tag-missing"])
    assert party.ask() == 200
    assert party.level("node-1") == "untrusted"
    assign(place)
    assert verdict(place) == ("trusted", [])
    assert party.ask() == 200
    assert (party.level("node-1"), party.snapshot.tags) == ("trusted", {"node-1": EU})
    assert tagged.attest() == "trusted"
    assign(place, tags={"zone": "us-1"})
    assert verdict(place) == ("untrusted", ["tag-missing"])
    assign(place)
    place.call("DELETE", "/v1/hosts/node-1/tags")
    assert verdict(place) == ("untrusted", ["tag-missing"])
    assert tagged.attest() == "untrusted"


def test_E11_a_verdict_that_rests_on_tags_lapses_with_them(place, tagged, party):  # noqa: F811
    ask(place, require={"zone": ["eu-1"]})
    assign(place, valid_until=text(20))
    assert tagged.attest() == "trusted"
    party.ask()
    place.clock.pass_by(20)
    assert party.level("node-1") == "unknown"
    assert party.ask() == 200
    assert (party.level("node-1"), party.snapshot.tags) == ("unknown", {})
    assert tagged.attest() == "untrusted"


def test_the_end_of_tags_is_warned_of_before(place_maker, place, tagged):
    assign(place, valid_until=text(3000))
    # The default is longer than that.
    assert verdict(place) == ("trusted", ["tags-expiring"])
    assert tagged.attest() == "trusted"
    assert verdict(place) == ("trusted", ["tags-expiring"])


def test_E9_an_appraisal_under_way_does_not_outlive_the_tags_it_saw(place, tagged, monkeypatch):
    ask(place, require={"zone": ["eu-1"]})
    assign(place)
    appraise_safely, calls = appraise.appraise_safely, []

    def meanwhile(*args):
        calls.append(args)
        found = appraise_safely(*args)
        if len(calls) == 1:
            place.call("DELETE", "/v1/hosts/node-1/tags")
        return found

    monkeypatch.setattr(appraise, "appraise_safely", meanwhile)
    assert tagged.attest() == "untrusted"
    assert len(calls) == 2


class HoldingHost:
    """A host whose TPM has an NV index."""

    def __init__(self, host):
        self.host = host
        self.contents = None

    def attest(self, *, nonce=None, key=None, **fields):
        """A round; the answer."""
        body = self.host.evidence()
        challenge = base64.urlsafe_b64decode(body["challenge"])
        if self.contents is not None:
            message, signature = certify(
                key or self.host.key, nonce or hashlib.sha256(challenge).digest(), self.contents,
                **fields,
            )  # fmt: skip
            body["tags"] = {"certification": b64(message), "signature": b64(signature)}
        return self.host.submit(body)

    def write(self, answer):
        """Write what the backend wants."""
        self.contents = bytes.fromhex(answer.json["tag_contents"])


@pytest.fixture
def holding(place, tagged):
    """A host whose policy wants its tags in the TPM."""
    ask(place, nvram="required")
    assign(place)
    return HoldingHost(tagged)


def test_a_host_proves_that_its_tpm_holds_the_record(place, holding):
    assert verdict(place) == ("unknown", ["tag-not-in-tpm"])
    answer = holding.attest()
    assert answer.json["level"] == "unknown"
    holding.write(answer)
    answer = holding.attest()
    assert (answer.json["level"], answer.json["tag_contents"]) == ("trusted", None)
    # Evidence that is judged again remembers it.
    ask(place, nvram="optional")
    ask(place, nvram="required")
    assert verdict(place) == ("trusted", [])


def test_a_stale_record_in_the_tpm_is_found_and_replaced(place, holding):
    holding.write(holding.attest())
    assert holding.attest().json["level"] == "trusted"
    assign(place, tags={"zone": "us-1"})
    assert verdict(place) == ("unknown", ["tag-not-in-tpm"])
    answer = holding.attest()
    assert answer.json["level"] == "unknown"
    assert "has shown record 1" in answer.json["findings"][0]["message"]
    holding.write(answer)
    assert holding.attest().json["level"] == "trusted"
    assert told(place) == {"zone": "us-1"}


def test_a_host_that_stops_showing_it_loses_its_trust(place, holding):
    holding.write(holding.attest())
    assert holding.attest().json["level"] == "trusted"
    holding.contents = None
    assert holding.attest().json["level"] == "unknown"
    assert told(place) == {}


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"nonce": bytes(32)}, "tag-nonce"),
        ({"key": SigningKey.ecc()}, "tag-signature"),
        ({"offset": 8}, "tag-range"),
        ({"name": b"\x00\x0b" + bytes(32)}, "tag-index"),
    ],
)
def test_what_was_certified_otherwise_is_refused_and_held_against_the_host(
    place, holding, fields, code
):
    holding.write(holding.attest())
    assert holding.attest().json["level"] == "trusted"
    answer = holding.attest(**fields)
    assert (answer.status_code, answer.json["code"]) == (422, code)
    assert verdict(place) == ("untrusted", [code])
    assert holding.attest().json["level"] == "trusted"


def test_reports_can_be_judged_again_with_the_tags_of_then(place, holding):
    holding.write(holding.attest())
    holding.attest()
    place.call("DELETE", "/v1/hosts/node-1/tags")
    reports = place.get("/v1/reports?host=node-1")["reports"]
    assert len(reports) > 3
    for report in reports:
        again = place.get(f"/v1/reports/{report['id']}/appraisal")
        assert again["same"], (report, again)
