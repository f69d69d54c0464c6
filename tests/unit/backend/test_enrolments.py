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
"""What becomes of hosts after their enrolment, on the test's own clock, and what is recorded."""

import base64
import copy
import datetime
import json
import threading

import pytest

from oat_trusted_filter.backend.store import audit, enrolment_tokens, hosts
from oat_trusted_filter.backend.store.enrolment_tokens import EnrolmentToken, Refusal
from tests.lab.makers import IBM, authority, ek_certificate
from tests.lab.paper_tpm import PaperTpm
from tests.lab.quotes import SigningKey
from tests.unit.backend.attesting import AttestingHost, b64
from tests.unit.backend.conftest import BANKS, START, candidate_of

HOUR = 3600


def at(seconds):
    """A moment, counted from when the tests take place."""
    return datetime.datetime.fromtimestamp(START / 1000 + seconds, datetime.UTC)


@pytest.fixture(scope="module")
def maker():
    return authority("maker", start=at(-HOUR), end=at(2 * HOUR))


@pytest.fixture
def place(place_maker, maker, tmp_path):
    """A service that believes the maker."""
    folder = tmp_path / "ek-ca"
    folder.mkdir()
    (folder / "maker.pem").write_bytes(maker.pem)
    return place_maker(ek_ca_dir=folder)


class Machine(AttestingHost):
    """A host with a TPM on paper, whose certificate ends in an hour."""

    def __init__(self, place, name, maker):
        super().__init__(place, name)
        self.tpm = PaperTpm()
        self.key = self.tpm.ak
        self.certificate = ek_certificate(maker, self.tpm.ek, start=at(-HOUR), end=at(HOUR))

    def named(self, name):
        """The same machine under another name."""
        other = copy.copy(self)
        other.name = name
        return other

    def enrol(self, **fields):
        """The state that comes of it, or the code of the refusal."""
        body = {
            **self.identity,
            "ek_public": b64(self.tpm.ek_public),
            "ak_public": b64(self.key.public),
            "ek_certificate": b64(self.certificate),
            "banks": list(BANKS),
        }
        begun = self.place.call("POST", "/v1/enrolments", {**body, **fields})
        if begun.status_code != 201:
            return begun.json["code"]
        self.tpm.ak = self.key
        sealed = (base64.b64decode(begun.json[name]) for name in
                  ("credential_blob", "encrypted_secret"))  # fmt: skip
        secret = {"secret": b64(self.tpm.activate(*sealed))}
        done = self.place.call("PUT", f"/v1/enrolments/{begun.json['id']}", secret)
        return done.json["state" if done.status_code == 200 else "code"]


@pytest.fixture
def machine(place, maker):
    """A trusted host."""
    made = Machine(place, "node-1", maker)
    made.enrol()
    approve(place, made)
    made.attest()
    place.trust(made)
    assert made.attest() == "trusted"
    return made


def approve(place, machine):
    body = {"ek_fingerprint": machine.tpm.fingerprint}
    path = f"/v1/hosts/{machine.name}/approve"
    assert place.call("POST", path, body).status_code == 200


def acts(place, *actions):
    """Actor, action, host and details of the rows of the audit trail with these actions."""
    with place.store.read() as connection:
        return [
            (row.actor, row.action, row.host, json.loads(row.details))
            for row in audit.everything(connection)
            if row.action in actions
        ]


def test_B4_the_end_of_a_certificate_after_the_enrolment_harms_nothing(place, machine, maker):
    place.clock.pass_by(3 * HOUR)
    assert machine.attest() == "trusted"
    # Its TPM is cleared: it has to enrol again, with a certificate that has ended meanwhile.
    machine.reset_count = 0
    assert machine.submit().json["code"] == "tpm-cleared"
    assert machine.enrol() == "approved"
    assert machine.attest() == "trusted"
    shown = place.get("/v1/hosts/node-1")
    assert (shown["state"], shown["ek_certificate_status"]) == ("approved", "expired")
    # Whoever comes now is too late.
    assert Machine(place, "node-2", maker).enrol() == "ek-certificate-expired"
    assert machine.named("node-3").enrol() == "ek-certificate-expired"


def test_B10_a_software_tpm_does_not_shed_its_mark(place, place_maker, maker):
    options = {"ek_ca_dir": place.settings.ek_ca_dir}
    host = Machine(place_maker(**options, allow_software_tpm=True), "node-1", maker)
    host.certificate = ek_certificate(
        maker, host.tpm.ek, manufacturer=IBM, start=at(-HOUR), end=at(HOUR)
    )
    assert host.enrol() == "pending"
    assert host.enrol(ek_certificate=None) == "ek-certificate-missing"
    approve(place, host)
    host.attest()
    before = place.get("/v1/hosts/node-1")
    assert before["software_tpm"]
    # The option is taken back.
    host.place = place
    assert host.submit().json["code"] == "ek-software-tpm"
    assert host.enrol(ek_certificate=None) == "ek-certificate-missing"
    assert host.submit().json["code"] == "ek-software-tpm"
    # Nor is there a way around by another name.
    assert host.named("node-2").enrol(ek_certificate=None) == "pending"
    answer = place.call("POST", "/v1/hosts/node-1/rename", {"host": "node-2"})
    assert (answer.status_code, answer.json["code"]) == (403, "ek-certificate-missing")
    assert place.get("/v1/hosts/node-1") == before
    place.call("DELETE", "/v1/hosts/node-1")
    assert host.enrol(ek_certificate=None) == "pending"


def test_A9_a_cleared_tpm_is_recorded_and_keeps_its_record(place, machine):
    before = place.get("/v1/hosts/node-1")
    machine.reset_count = 0
    assert machine.submit().json["code"] == "tpm-cleared"
    assert acts(place, "host.renew") == []
    assert machine.enrol() == "approved"
    ((actor, _, host, details),) = acts(place, "host.renew")
    assert (actor, host, details["other_attestation_key"]) == ("verifier", "node-1", False)
    assert details["ek_fingerprint"] == machine.tpm.fingerprint
    # Once: enrolling over and over writes nothing.
    assert machine.enrol() == "approved"
    assert len(acts(place, "host.renew")) == 1
    assert machine.attest() == "trusted"
    after = place.get("/v1/hosts/node-1")
    assert {key: after[key] for key in ("id", "created_at")} == {
        key: before[key] for key in ("id", "created_at")
    }


def test_another_attestation_key_of_the_same_tpm_is_recorded(place, machine):
    before = place.get("/v1/hosts/node-1")
    old, machine.key = machine.key, SigningKey.rsa()
    assert machine.submit().json["code"] == "signature-invalid"
    assert machine.enrol() == "approved"
    assert machine.attest() == "trusted"
    assert place.get("/v1/hosts/node-1")["id"] == before["id"]
    ((_, _, _, details),) = acts(place, "host.renew")
    assert details["other_attestation_key"] is True
    # B5: the key before is none of this host's any more.
    evidence = machine.evidence(key=old)
    assert machine.submit(evidence).json["code"] == "signature-invalid"


def test_B5_an_attestation_key_nobody_has_enrolled(place, machine):
    evidence = machine.evidence(key=SigningKey.ecc())
    assert machine.submit(evidence).json["code"] == "signature-invalid"
    assert machine.attest() == "trusted"


@pytest.mark.every_database
def test_rebinding_and_renaming_are_recorded_with_who_did_what(place, machine, maker):
    board = Machine(place, "node-1", maker)
    board.enrol()
    place.call("PUT", "/v1/hosts/node-1/override", {
        "level": "trusted", "reason": "being repaired", "seconds": 3600,
    })  # fmt: skip
    body = {"ek_fingerprint": board.tpm.fingerprint}
    shown = place.call("POST", "/v1/hosts/node-1/rebind", body).json
    # What was said for a while was said of another machine.
    assert shown["override"] is None
    ((actor, _, host, details),) = acts(place, "host.rebind")
    assert (actor, host) == ("noauth", "node-1")
    assert details["ek_fingerprint"] == board.tpm.fingerprint
    assert details["former_ek_fingerprint"] == machine.tpm.fingerprint

    place.call("POST", "/v1/hosts/node-1/rename", {"host": "node-2", "new_region": "r"})
    former, new = acts(place, "host.rename")
    assert (former[2], former[3]["new"]) == ("node-1", {"region": "r", "host": "node-2"})
    assert (new[2], new[3]["former"]) == ("node-2", {"region": "", "host": "node-1"})


def test_tokens_are_recorded_without_themselves(place, maker):
    made = place.call("POST", "/v1/enrolment-tokens", {"host": "node-9"}).json
    assert Machine(place, "node-9", maker).enrol(token=made["token"]) == "approved"
    place.call("DELETE", f"/v1/enrolment-tokens/{made['id']}")
    found = acts(place, "enrolment-token.create", "host.approve", "enrolment-token.revoke")
    assert [act[1] for act in found] == [
        "enrolment-token.create", "host.approve", "enrolment-token.revoke",
    ]  # fmt: skip
    # It is the word of whoever made the token.
    assert {act[0] for act in found} == {"noauth"}
    assert {act[3]["enrolment_token"] for act in found} == {made["id"]}
    assert made["token"] not in json.dumps(found)


def test_B3_a_token_for_any_host_does_not_take_a_name_that_is_announced(place, maker):
    announced = Machine(place, "node-9", maker)
    body = {"host": "node-9", "ek_fingerprint": announced.tpm.fingerprint}
    assert place.call("POST", "/v1/hosts", body).status_code == 201
    token = place.call("POST", "/v1/enrolment-tokens", {}).json["token"]
    assert Machine(place, "node-9", maker).enrol(token=token) == "pending"
    assert announced.enrol() == "approved"
    # It was not used up.
    assert Machine(place, "node-8", maker).enrol(token=token) == "approved"


def test_a_token_expires(place, maker):
    made = place.call("POST", "/v1/enrolment-tokens", {"lifetime": 60}).json
    host = Machine(place, "node-9", maker)
    place.clock.pass_by(60)
    assert host.enrol(token=made["token"]) == "pending"
    (listed,) = place.get("/v1/enrolment-tokens")["enrolment_tokens"]
    assert listed["state"] == "expired"
    # It is still listed for a while.
    place.clock.pass_by(enrolment_tokens.LISTED_AFTER_MS / 1000)
    place.call("POST", "/v1/enrolment-tokens", {})
    assert len(place.get("/v1/enrolment-tokens")["enrolment_tokens"]) == 2
    place.clock.pass_by(1)
    place.call("POST", "/v1/enrolment-tokens", {})
    assert made["id"] not in str(place.get("/v1/enrolment-tokens"))


def test_an_accepted_certificate_past_its_end_is_recorded(place, maker):
    host = Machine(place, "node-9", maker)
    body = {"host": "node-9", "ek_fingerprint": host.tpm.fingerprint, "accept_expired": True}
    place.call("POST", "/v1/hosts", body)
    ((actor, _, name, details),) = acts(place, "host.register")
    assert (actor, name, details["accept_expired"]) == ("noauth", "node-9", True)


@pytest.mark.every_database
def test_of_many_hosts_with_one_token_exactly_one_gets_in(store):
    """In the database itself, whichever it is."""
    token = EnrolmentToken("id", "d" * 64, None, None, "ann", START, START + 60_000)
    store.write(lambda connection: enrolment_tokens.add(connection, token))
    waiting = [
        store.write(lambda c, n=n: hosts.enrol(c, waiting_candidate(f"node-{n}"), START))
        for n in range(4)
    ]
    barrier = threading.Barrier(len(waiting))
    outcomes = []

    def run(host):
        barrier.wait()
        outcomes.append(store.write(
            lambda connection: enrolment_tokens.redeem(connection, "d" * 64, host, START)
        ))  # fmt: skip

    threads = [threading.Thread(target=run, args=(host,)) for host in waiting]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    codes = sorted(item.code if isinstance(item, Refusal) else "" for item in outcomes)
    assert codes == ["", *["enrolment-token-used"] * 3]


def waiting_candidate(name):
    key = SigningKey.ecc()
    host = type("Named", (), {"name": name, "region": "", "key": key})
    return candidate_of(host, ek_certificate_status=hosts.VERIFIED)


def test_B10_verdicts_about_software_tpms_say_so(place):
    for name, software in (("node-1", True), ("node-2", False), ("node-3", None)):
        place.approved_host(name, software_tpm=software)
    found = place.get("/v1/verdicts")["hosts"]
    assert {item["host"]: item.get("software_tpm") for item in found} == {
        "node-1": True, "node-2": None, "node-3": None,
    }  # fmt: skip
