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
"""Evidence and verdicts, with a clock that moves as the test says."""

import base64
import sqlite3

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError

from oat_trusted_filter.backend.api import evidence as evidence_module
from oat_trusted_filter.backend.appraisal import appraise
from oat_trusted_filter.backend.store import hosts, renewing, verdicts
from oat_trusted_filter.backend.store.engine import Store
from oat_trusted_filter.backend.store.tables import spent_challenges
from tests.lab.quotes import SigningKey
from tests.unit.backend.attesting import b64


def level(place, host):
    return place.get(f"/v1/hosts/{host.name}")["level"]


@pytest.fixture
def host(place):
    """A host that is trusted."""
    made = place.approved_host()
    assert made.attest() == "untrusted"
    place.trust(made)
    assert made.attest() == "trusted"
    return made


def refused(host, body, status, code):
    answer = host.submit(body)
    assert (answer.status_code, answer.json["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return answer


def test_answer_says_when_to_come_back_and_until_when_it_counts(place, host):
    challenge = host.challenge()
    place.clock.pass_by(20)
    answer = host.submit(host.evidence(challenge)).json
    assert answer["interval"] == 60.0
    assert answer["findings"] == []
    assert answer["appraised_at"] == "2027-01-15T08:00:20.000Z"
    # The lifetime counts from the challenge.
    assert answer["expires_at"] == "2027-01-15T08:05:00.000Z"


def test_a_challenge_needs_no_database(place, host, monkeypatch):
    monkeypatch.setattr(Store, "read", broken)
    monkeypatch.setattr(Store, "write", broken)
    challenge = host.challenge()
    monkeypatch.undo()
    assert host.submit(host.evidence(challenge)).json["level"] == "trusted"


def test_A6_a_challenge_is_used_once(place, host):
    body = host.evidence()
    assert host.submit(body).status_code == 200
    refused(host, body, 403, "challenge-spent")
    # Nor with another quote over it.
    refused(host, host.evidence(body["challenge"]), 403, "challenge-spent")
    assert level(place, host) == "trusted"


@pytest.mark.parametrize(
    ("mangle", "status", "code"),
    [
        (lambda text: "", 400, "challenge-malformed"),
        (lambda text: text[:64], 400, "challenge-malformed"),
        (lambda text: text[:-1], 400, "challenge-malformed"),
        (lambda text: text + "=", 400, "challenge-malformed"),
        (lambda text: text + "A" * 10_000, 400, "challenge-malformed"),
        (lambda text: base64.urlsafe_b64decode(text).hex(), 400, "challenge-malformed"),
        (lambda text: text.swapcase(), 403, "challenge-invalid"),
        (lambda text: "A" * 96, 403, "challenge-invalid"),
    ],
)
def test_A6_other_challenges_are_refused(place, host, mangle, status, code):
    good = host.evidence()
    refused(host, good | {"challenge": mangle(good["challenge"])}, status, code)
    assert level(place, host) == "trusted"
    assert host.submit(good).status_code == 200


def test_A6_an_expired_challenge_is_refused(place, host):
    body = host.evidence()
    place.clock.pass_by(60)
    refused(host, body, 403, "challenge-expired")


def test_A6_a_quote_over_another_challenge_is_refused(place, host):
    other = host.challenge()
    refused(host, host.evidence() | {"challenge": other}, 400, "nonce-mismatch")
    assert level(place, host) == "trusted"


def test_B9_in_the_name_of_another_host(place, host):
    other = place.approved_host("node-2", "machine-b")
    challenge = other.challenge()
    body = host.evidence(challenge) | other.identity
    refused(host, body, 400, "signature-invalid")
    # Its own challenge does not count for the other name.
    refused(host, host.evidence() | other.identity, 403, "challenge-invalid")
    assert level(place, other) == "unknown"


def test_A4_a_signature_by_the_key_of_another_enrolled_host(place, host):
    other = place.approved_host("node-2", "machine-b")
    refused(host, host.evidence(key=other.key), 400, "signature-invalid")


@pytest.mark.parametrize("signature", [b"", b"\0", bytes(72)])
def test_A4_a_truncated_signature(place, host, signature):
    answer = host.submit(host.evidence() | {"signature": b64(signature)})
    assert answer.status_code == 400
    assert level(place, host) == "trusted"


def test_evidence_that_proves_nothing_spends_no_challenge(host):
    challenge = host.challenge()
    refused(host, host.evidence(challenge, key=SigningKey.ecc()), 400, "signature-invalid")
    assert host.submit(host.evidence(challenge)).status_code == 200


def test_A9_a_cleared_tpm_is_sent_to_enrol_and_starts_anew(place, host):
    host.reset_count = 0
    refused(host, host.evidence(), 409, "tpm-cleared")
    assert level(place, host) == "trusted"
    place.store.write(
        lambda c: verdicts.forget_tpm_state(c, host.binding.id, identity_changed=False)
    )
    assert host.attest() == "trusted"


def test_A9_the_clock_goes_backwards(place, host):
    refused(host, host.evidence(clock=1), 400, "clock-backwards")
    host.boot("machine-a")
    host.clock = 0
    assert host.attest() == "trusted"


def test_words_of_the_host_that_do_not_fit_make_it_untrusted(place, host):
    body = host.evidence()
    body["pcrs"]["sha256"]["0"] = "00" * 32
    answer = refused(host, body, 422, "pcr-digest")
    assert answer.json["level"] == "untrusted"
    shown = place.get(f"/v1/hosts/{host.name}")
    assert (shown["level"], shown["findings"][0]["code"]) == ("untrusted", "pcr-digest")
    assert shown["pcrs"] is None
    refused(host, body, 403, "challenge-spent")
    # It heals as soon as what it says fits again.
    assert host.attest() == "trusted"


@pytest.mark.parametrize("boot_log", [b"", b"\0" * 32, b"x" * 5000])
def test_D5_a_log_that_is_none(place, host, boot_log):
    host.boot_log = boot_log
    answer = host.submit()
    assert answer.status_code == 422
    assert answer.json["code"].startswith("boot-log")
    assert level(place, host) == "untrusted"


def test_a_boot_log_has_the_digest_it_is_named_by(place, host):
    body = host.evidence()
    body["boot_log"]["digest"] = "00" * 32
    refused(host, body, 400, "boot-log-digest")
    body["boot_log"]["data"] = None
    refused(host, body, 409, "boot-log-needed")
    assert level(place, host) == "trusted"


def test_a_log_another_host_has_proven_need_not_be_sent(place, host):
    twin = place.approved_host("node-2", "machine-a")
    assert twin.submit(twin.evidence(with_log=False)).json["level"] == "trusted"


def test_a_log_nobody_has_proven_is_not_kept(place, host):
    stranger = place.approved_host("node-2", "machine-b")
    refused(
        stranger, stranger.evidence(key=SigningKey.ecc()), 400, "signature-invalid"
    )  # fmt: skip
    refused(stranger, stranger.evidence(with_log=False), 409, "boot-log-needed")


def test_a_host_nobody_knows_has_to_enrol(place, host):
    host.name = "node-9"
    refused(host, host.evidence(), 404, "host-unknown")


def test_E2_a_verdict_ends_at_the_stated_time(place, host):
    challenge = host.challenge()
    place.clock.pass_by(30)
    assert host.submit(host.evidence(challenge)).json["level"] == "trusted"
    place.clock.pass_by(269.999)
    assert level(place, host) == "trusted"
    place.clock.pass_by(0.001)
    shown = place.get("/v1/hosts/node-1")
    assert (shown["level"], shown["expires_at"]) == ("unknown", None)
    assert shown["findings"][0]["code"] == "verdict-lapsed"
    assert host.attest() == "trusted"


def test_a_verdict_ends_with_the_references_it_rests_on(place, host):
    name = place.get("/v1/reference-sets")["reference_sets"][0]["name"]
    document = place.get(f"/v1/reference-sets/{name}") | {"valid_until": "2027-01-15T08:01:00Z"}
    assert place.call("DELETE", f"/v1/reference-sets/{name}").status_code == 204
    body = {"name": "short", "document": document}
    assert place.call("POST", "/v1/reference-sets", body).status_code == 201
    assert level(place, host) == "trusted"
    assert place.get("/v1/hosts/node-1")["expires_at"] == "2027-01-15T08:01:00.000Z"
    assert host.submit().json["expires_at"] == "2027-01-15T08:01:00.000Z"
    place.clock.pass_by(60)
    assert level(place, host) == "unknown"


def broken(*arguments, **keywords):
    raise ZeroDivisionError("a fault of the verifier")


def test_E1_a_fault_of_the_verifier_takes_trust_away_and_the_service_goes_on(
    place, host, monkeypatch
):
    monkeypatch.setattr(appraise, "check_replay", broken)
    answer = host.submit()
    assert (answer.status_code, answer.json["level"]) == (200, "unknown")
    assert answer.json["findings"][0]["code"] == "verifier-error"
    shown = place.get("/v1/hosts/node-1")
    assert (shown["level"], shown["findings"][0]["code"]) == ("unknown", "verifier-error")
    monkeypatch.undo()
    assert host.attest() == "trusted"


def test_E1_a_stranger_who_finds_a_fault_takes_nobodys_trust_away(place, host, monkeypatch):
    monkeypatch.setattr(appraise, "_check_quote", broken)
    answer = host.submit(host.evidence(key=SigningKey.ecc()))
    assert (answer.status_code, answer.json["code"]) == (500, "verifier-error")
    monkeypatch.undo()
    assert level(place, host) == "trusted"


def test_E1_a_fault_outside_the_verifier_is_a_problem_with_its_id(place, host, monkeypatch, caplog):
    monkeypatch.setattr(evidence_module, "_outcome", broken)
    answer = host.submit()
    assert (answer.status_code, answer.json["code"]) == (500, "internal-error")
    assert "ZeroDivisionError" not in answer.text
    assert answer.json["request_id"] == answer.headers["x-openstack-request-id"]
    assert answer.json["request_id"] in caplog.text
    monkeypatch.undo()
    assert host.attest() == "trusted"


def test_a_database_that_fails_is_a_problem_that_passes(place, host, monkeypatch):
    def away(*arguments):
        raise OperationalError("SELECT 'secret'", {}, sqlite3.OperationalError("disk I/O error"))

    monkeypatch.setattr(renewing, "subject", away)
    answer = refused(host, host.evidence(), 503, "database-unavailable")
    assert answer.headers["retry-after"] == "1"
    assert "secret" not in answer.text
    monkeypatch.undo()
    assert host.attest() == "trusted"


def test_evidence_that_is_overtaken_is_judged_again(place, host, monkeypatch):
    """A write between reading and storing, as another submission or a lapse would make."""
    genuine, times = renewing.renew, []

    def overtaken(connection, *arguments):
        times.append(1)
        if len(times) == 1:
            verdicts.overtake_all(connection)
        return genuine(connection, *arguments)

    monkeypatch.setattr(renewing, "renew", overtaken)
    assert host.attest() == "trusted"
    assert len(times) == 2


def test_a_host_deleted_while_it_attests_stays_deleted(place, host, monkeypatch):
    genuine = evidence_module._appraise

    def deleted_meanwhile(*arguments):
        verdict = genuine(*arguments)
        place.store.write(lambda connection: hosts.remove(connection, host.binding))
        monkeypatch.undo()
        return verdict

    monkeypatch.setattr(evidence_module, "_appraise", deleted_meanwhile)
    refused(host, host.evidence(), 404, "host-unknown")
    assert place.get("/v1/verdicts")["hosts"] == []


def test_B10_software_tpms_lose_their_trust_when_they_are_not_allowed_any_more(place_maker):
    allowing = place_maker(allow_software_tpm=True)
    host = allowing.approved_host(software_tpm=True)
    host.attest()
    allowing.trust(host)
    assert host.attest() == "trusted"
    host.place = strict = place_maker()
    refused(host, host.evidence(), 403, "ek-software-tpm")
    strict.clock.pass_by(300)
    assert level(strict, host) == "unknown"


def test_spent_challenges_do_not_pile_up(place, host, monkeypatch):
    monkeypatch.setattr(evidence_module, "_PURGE_EVERY", 1)
    for _ in range(5):
        host.attest()
        place.clock.pass_by(70)
    host.attest()
    with place.store.read() as connection:
        count = connection.scalar(select(func.count()).select_from(spent_challenges))
    assert count == 1
