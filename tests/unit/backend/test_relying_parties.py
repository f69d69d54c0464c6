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
"""What relying parties are told, through the scheduler's own snapshot where that shows it best."""

import pytest

from oat_trusted_filter.backend.store import changes, hosts
from oat_trusted_filter.client.verdicts import parse_not_modified, parse_reply
from oat_trusted_filter.scheduler.snapshot import View, apply_reply
from tests.unit.backend.conftest import candidate_of

NEVER = 10**9


class Party:
    """A relying party with nova-scheduler's snapshot, on a clock that runs with the backend's."""

    def __init__(self, place):
        self.place = place
        self.snapshot = None

    @property
    def now(self):
        return self.place.clock() / 1000

    def ask(self):
        """Refresh; the status of the answer."""
        headers, path = {}, "/v1/verdicts"
        if self.snapshot is not None:
            headers["If-None-Match"] = self.snapshot.etag
            path += f"?since={self.snapshot.since}"
        answer = self.place.client.simulate_get(path, headers=headers)
        if answer.status_code == 304:
            reply = parse_not_modified(answer.headers, self.now)
        else:
            reply = parse_reply(answer.json, answer.headers, self.now)
        self.full = reply.full
        self.snapshot = apply_reply(self.snapshot, reply, "", NEVER)
        return answer.status_code

    def level(self, name):
        """What the party acts upon at this moment, without asking."""
        return View(self.snapshot, self.now, None).verdict_on(name).level


@pytest.fixture
def party(place):
    return Party(place)


@pytest.fixture
def pair(place):
    """Two trusted hosts; the second was appraised 100 s after the first."""
    made = [place.approved_host("node-1"), place.approved_host("node-2", "machine-b")]
    for host in made:
        host.attest()
    place.trust(*made)
    made[0].attest()
    place.clock.pass_by(100)
    made[1].attest()
    return made


def test_a_full_answer_and_what_it_says_of_a_host(place, pair):
    answer = place.client.simulate_get("/v1/verdicts")
    body = answer.json
    assert body["full"] is True
    assert body["lease"] == float(answer.headers["oat-lease"]) == 30.0
    assert answer.headers["etag"] == f'"{body["epoch"]}:{body["cursor"]}"'
    assert answer.headers["cache-control"] == "no-store"
    assert (body["deleted"], body["lapsing"]) == ([], [])
    # What is empty is left out.
    assert body["hosts"] == [
        {"region": "", "host": name, "level": "trusted"} for name in ("node-1", "node-2")
    ]


def test_nothing_changed_is_not_modified_with_a_lease(place, pair, party):
    assert party.ask() == 200
    for host in pair:
        host.attest()
    answer = place.client.simulate_get(
        "/v1/verdicts", headers={"If-None-Match": party.snapshot.etag}
    )
    assert (answer.status_code, answer.content) == (304, b"")
    assert float(answer.headers["oat-lease"]) == 30.0
    assert answer.headers["etag"] == party.snapshot.etag
    assert answer.headers["cache-control"] == "no-store"
    assert party.ask() == 304


@pytest.mark.parametrize("header", ["{}", "W/{}", '"other", {}'])
def test_forms_of_the_condition(place, pair, header):
    etag = place.client.simulate_get("/v1/verdicts").headers["etag"]
    answer = place.client.simulate_get(
        "/v1/verdicts", headers={"If-None-Match": header.format(etag)}
    )
    assert answer.status_code == 304
    other = place.client.simulate_get("/v1/verdicts", headers={"If-None-Match": '"x:1"'})
    assert other.status_code == 200


def test_only_what_changed_is_told(place, pair, party):
    party.ask()
    pair[0].boot("machine-a-loader")
    pair[0].attest()
    assert party.ask() == 200
    assert not party.full
    assert (party.level("node-1"), party.level("node-2")) == ("untrusted", "trusted")
    assert party.ask() == 304


def test_identity_that_changes_is_told(place, pair, party):
    party.ask()
    since = party.snapshot.since
    candidate = candidate_of(
        pair[0], ek_fingerprint=pair[0].binding.ek_fingerprint, service_host="compute-1"
    )
    place.store.write(lambda connection: hosts.enrol(connection, candidate, place.clock()))
    told = place.get(f"/v1/verdicts?since={since}")
    assert [(item["host"], item["service_host"]) for item in told["hosts"]] == [
        ("node-1", "compute-1")
    ]


def test_a_deleted_host_is_forgotten(place, pair, party):
    party.ask()
    assert place.call("DELETE", "/v1/hosts/node-1").status_code == 204
    assert party.ask() == 200
    assert not party.full
    assert (party.level("node-1"), party.level("node-2")) == ("unknown", "trusted")
    assert list(party.snapshot.verdicts) == ["node-2"]


def test_pending_hosts_are_nobodys_business(place, pair, party):
    party.ask()
    candidate = candidate_of(pair[0], host="node-3")
    place.store.write(lambda connection: hosts.enrol(connection, candidate, place.clock()))
    assert party.ask() == 304


def test_E11_a_lapse_no_write_announces_reaches_the_client(place, pair, party):
    party.ask()
    place.clock.pass_by(200)  # node-1 was appraised 300 s ago
    assert party.ask() == 200
    assert (party.level("node-1"), party.level("node-2")) == ("unknown", "trusted")
    told = {item["host"]: item.get("reason") for item in place.get("/v1/verdicts")["hosts"]}
    assert told == {"node-1": "verdict-lapsed", "node-2": None}


def test_E11_an_answer_never_reaches_beyond_a_deadline(place, pair, party):
    """Whatever is asked and when, the party drops the host at its deadline and not later."""
    deadline = party.now - 100 + 300
    while party.now < deadline - 7:
        party.ask()
        assert party.level("node-1") == "trusted"
        place.clock.pass_by(7)
    party.ask()
    # Asked for the last time before the end; now the backend is silent.
    place.clock.pass_by(deadline - party.now - 0.001)
    assert party.level("node-1") == "trusted"
    place.clock.pass_by(0.001)
    assert party.level("node-1") == "unknown"
    assert party.level("node-2") == "trusted"


def test_E11_while_a_host_is_about_to_lapse_nobody_hears_not_modified(place, pair, party):
    party.ask()
    place.clock.pass_by(200 - 29)
    for _ in range(3):
        assert party.ask() == 200
        assert not party.full
    body = place.get(f"/v1/verdicts?since={party.snapshot.since}")
    assert body["hosts"] == []
    assert body["lapsing"] == [
        {"region": "", "host": "node-1", "seconds": 29.0, "tags_only": False}
    ]
    pair[0].attest()
    assert party.ask() == 304
    place.clock.pass_by(29)
    assert party.level("node-1") == "trusted"


def test_E2_a_verdict_given_while_an_answer_is_made_is_not_told_without_its_end(
    place_maker, monkeypatch
):
    place = place_maker(verdict_lifetime=70.0)
    host = place.approved_host("node-1")
    host.attest()
    place.trust(host)
    place.clock.pass_by(100)
    challenge = host.challenge()
    place.clock.pass_by(50)
    settle = place.service.snapshots.settle

    def overtaken(now):
        outlook = settle(now)
        assert host.submit(host.evidence(challenge)).json["level"] == "trusted"
        return outlook

    monkeypatch.setattr(place.service.snapshots, "settle", overtaken)
    body = place.get("/v1/verdicts")
    assert [item["level"] for item in body["hosts"]] == ["trusted"]
    assert [(item["host"], item["seconds"]) for item in body["lapsing"]] == [("node-1", 20.0)]


@pytest.mark.parametrize("since", ["other:1", "{epoch}:999999", "{epoch}:999999999999999999"])
def test_E11_a_cursor_from_elsewhere_gets_everything(place, pair, since):
    epoch = place.get("/v1/verdicts")["epoch"]
    body = place.get(f"/v1/verdicts?since={since.format(epoch=epoch)}")
    assert body["full"] is True
    assert len(body["hosts"]) == 2


def test_E11_after_a_new_epoch_everybody_starts_over(place, pair, party):
    party.ask()
    place.store.write(lambda connection: changes.new_epoch(connection, "restored"))
    assert party.ask() == 200
    assert party.full
    assert party.snapshot.epoch == "restored"


@pytest.mark.parametrize("since", ["", "7", "a:b", "a:-1", ":1", "a:1:2", "a:" + "9" * 30, "é:1"])
def test_a_malformed_cursor_is_refused(place, since):
    answer = place.client.simulate_get("/v1/verdicts", params={"since": since})
    assert (answer.status_code, answer.json["code"]) == (400, "field-invalid")


def test_E12_parties_of_two_servers_miss_nothing(place_maker, pair, place):
    """Two API servers over one database, asked in turn while hosts flip."""
    parties = [Party(place), Party(place_maker())]
    for boot in ("machine-a-loader", "machine-a", "machine-a-cmdline", "machine-a-loader"):
        for party in parties:
            party.ask()
        pair[0].boot(boot)
        level = pair[0].attest()
        # The servers take turns with the parties.
        parties[0].place, parties[1].place = parties[1].place, parties[0].place
        for party in parties:
            party.ask()
            assert party.level("node-1") == level


def test_regions_are_told_apart(place, pair):
    place.approved_host("node-1", region="other")
    told = place.get("/v1/verdicts")["hosts"]
    assert {(item["region"], item["host"], item["level"]) for item in told} == {
        ("", "node-1", "trusted"),
        ("", "node-2", "trusted"),
        ("other", "node-1", "unknown"),
    }


def test_a_kept_answer_that_is_brought_up_to_date_is_the_one_a_new_service_gives(
    place, place_maker, pair
):
    """Only what has changed is written anew; of whatever kind the change is."""

    def told(service, query=""):
        answer = service.get(f"/v1/verdicts{query}")
        assert answer["full"] is True
        return sorted(answer["hosts"], key=lambda item: (item["region"], item["host"]))

    def operate(method, path, body=None):
        answer = place.call(method, path, body)
        assert answer.status_code < 300, answer.text

    first, second = pair

    def flip():
        second.boot("machine-a-loader")
        assert second.attest() == "untrusted"

    def come():
        place.approved_host("node-3", region="north").attest()

    def come_again():
        place.approved_host(first.name).attest()

    seen = [told(place)]
    for change in (
        flip,
        come,
        lambda: operate("POST", "/v1/tags", {"name": "rack", "values": ["r1"]}),
        lambda: operate("PUT", "/v1/hosts/node-1/tags", {"tags": {"rack": "r1"}}),
        lambda: operate("DELETE", "/v1/hosts/node-1"),
        come_again,
        lambda: place.clock.pass_by(NEVER / 1000),
    ):
        change()
        for query in ("", "?region=north"):
            now = told(place, query)
            assert now == told(place_maker(), query)
        seen.append(told(place))
    assert [len(hosts) for hosts in seen] == [2, 2, 3, 3, 3, 2, 3, 3]
    assert seen[4][0]["tags"] == {"rack": "r1"}
    assert {host["reason"] for host in seen[-1]} == {"verdict-lapsed"}
