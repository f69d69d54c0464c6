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
"""Enrolment against the real service, by TPMs and by those who have none."""

import base64
import json
import threading

import pytest

from tests.functional.backend.parts import ComputeHost, Operator, b64
from tests.lab.quotes import SigningKey


def begin(host, **fields):
    return host.http.call("POST", "/v1/enrolments", host.enrolment(**fields))


def show_secret(host, begun, secret):
    return host.http.call("PUT", f"/v1/enrolments/{begun.json['id']}", {"secret": b64(secret)})


def test_a_new_host_waits_with_what_is_known_of_its_tpm(host, operator):
    assert host.enrol(service_host="compute-1", resource_provider=f"{7:032x}") == "pending"
    shown = operator.show(host.name)
    expected = {
        "region": "",
        "host": host.name,
        "service_host": "compute-1",
        "resource_provider": f"{7:032x}",
        "state": "pending",
        "ek_fingerprint": host.fingerprint,
        "software_tpm": True,
        "ek_certificate_status": "verified",
        "level": "unknown",
        "findings": [],
        "appraised_at": None,
        "expires_at": None,
        "policy": "default",
        "ima": None,
    }
    # More fields may come.
    assert {name: shown[name] for name in expected} == expected
    assert "00001014" in shown["manufacturer"]
    assert operator.show(shown["id"])["host"] == host.name
    assert host.submit().code == "host-pending"


def test_the_whole_way_to_trust(host, operator):
    assert host.round().code == "host-pending"
    (waiting,) = operator.hosts(host.name)
    host.fingerprint = waiting["ek_fingerprint"]
    assert operator.approve(host)["state"] == "approved"
    assert host.round().level == "untrusted"
    name = operator.trust(host)
    assert operator.show(host.name)["level"] == "trusted"
    assert host.round().level == "trusted"
    operator.call("DELETE", f"/v1/reference-sets/{name}")
    assert operator.show(host.name)["level"] == "untrusted"
    events = operator.call("GET", f"/v1/hosts/{host.name}/boot-log")["events"]
    assert any("grubx64.efi" in event["description"].lower() for event in events)
    assert set(events[1]["digests"]) == {"sha1", "sha256", "sha384"}
    operator.call("DELETE", f"/v1/hosts/{host.name}")
    assert host.submit().code == "host-unknown"


def test_a_registered_key_is_approved_when_it_enrols(host, operator):
    host.enrol()
    operator.call("DELETE", f"/v1/hosts/{host.name}")
    body = {"host": host.name, "ek_fingerprint": host.fingerprint}
    assert operator.call("POST", "/v1/hosts", body)["state"] == "registered"
    answer = operator.http.call(
        "POST", f"/v1/hosts/{host.name}/approve", {"ek_fingerprint": host.fingerprint},
        token=operator.backend.admin_token,
    )  # fmt: skip
    assert (answer.status, answer.code) == (409, "host-not-enrolled")
    assert host.round().level == "untrusted"
    assert operator.show(host.name)["state"] == "approved"


def test_B2_another_tpm_under_an_approved_name_waits_apart(trusted, backend, tpms, operator):
    before = operator.show(trusted.name)
    evil = ComputeHost(backend, tpms[1], trusted.name, "machine-a-loader")
    assert evil.round().code == "host-pending"
    assert evil.round().code == "host-pending"
    assert operator.show(trusted.name) == before
    assert [item["state"] for item in operator.hosts(trusted.name)] == ["approved", "pending"]
    evil.enrol()
    answer = evil.http.call(
        "POST", f"/v1/hosts/{evil.name}/approve", {"ek_fingerprint": evil.fingerprint},
        token=backend.admin_token,
    )  # fmt: skip
    assert (answer.status, answer.code) == (409, "host-already-approved")
    assert trusted.round().level == "trusted"
    # Only an operator who names the key puts another one in its place.
    operator.call("DELETE", f"/v1/hosts/{trusted.name}?ek_fingerprint={trusted.fingerprint}")
    operator.approve(evil)
    assert evil.round().level == "untrusted"
    assert trusted.submit().code == "signature-invalid"
    operator.call("DELETE", f"/v1/hosts/{evil.name}")


def test_A12_one_tpm_does_not_stand_for_two_hosts(trusted, operator):
    """Whoever has a good machine could let it answer for another one."""
    other = trusted.named("node-without-a-good-boot")
    assert other.enrol() == "pending"
    other.fingerprint = trusted.fingerprint
    answer = other.http.call(
        "POST", f"/v1/hosts/{other.name}/approve", {"ek_fingerprint": other.fingerprint},
        token=operator.backend.admin_token,
    )  # fmt: skip
    assert (answer.status, answer.code) == (409, "ek-already-approved")
    assert trusted.name in answer.json["detail"]
    assert other.round().code == "host-pending"
    operator.call("DELETE", f"/v1/hosts/{trusted.name}")
    assert operator.approve(other)["state"] == "approved"


def test_B3_a_squatter_does_not_keep_the_real_host_out(host, backend, tpms, operator):
    squatter = ComputeHost(backend, tpms[1], host.name)
    assert squatter.round().code == "host-pending"
    # The real host is told to enrol, not to wait.
    assert host.submit().code == "host-unknown"
    assert host.round().code == "host-pending"
    ambiguous = operator.http.call("GET", f"/v1/hosts/{host.name}", token=backend.admin_token)
    assert (ambiguous.status, ambiguous.code) == (409, "host-ambiguous")
    host.enrol()
    operator.approve(host)
    assert host.round().level == "untrusted"
    assert squatter.round().code == "host-pending"
    assert operator.show(host.name)["ek_fingerprint"] == host.fingerprint


def test_B3_of_two_approvals_at_once_exactly_one_wins(host, backend, tpms, operator):
    pair = [host, ComputeHost(backend, tpms[1], host.name)]
    assert [item.enrol() for item in pair] == ["pending", "pending"]
    for item in pair:
        operator.free(item)
    barrier = threading.Barrier(2)
    answers = []

    def run(item):
        body = {"ek_fingerprint": item.fingerprint}
        path = f"/v1/hosts/{host.name}/approve"
        barrier.wait()
        answers.append(item.http.call("POST", path, body, token=backend.admin_token))

    threads = [threading.Thread(target=run, args=(item,)) for item in pair]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.status for answer in answers) == [200, 409]
    (loser,) = (answer for answer in answers if answer.status == 409)
    assert loser.code == "host-already-approved"
    states = sorted(item["state"] for item in operator.hosts(host.name))
    assert states == ["approved", "pending"]


def test_B4_a_certificate_for_another_key(host, backend, tpms):
    other = ComputeHost(backend, tpms[1]).enrolment()
    answer = begin(host, ek_certificate=other["ek_certificate"])
    assert (answer.status, answer.code) == (403, "ek-certificate-mismatch")


@pytest.mark.parametrize("certificate", ["", b64(b"nonsense"), b64(bytes(20_000))])
def test_B4_a_certificate_that_is_none(host, certificate):
    answer = begin(host, ek_certificate=certificate)
    assert (answer.status, answer.code) == (403, "ek-certificate-malformed")


def test_B1_an_attestation_key_that_may_sign_anything(host):
    key = SigningKey.ecc()
    key.attributes &= ~(1 << 16)
    answer = begin(host, ak_public=b64(key.public))
    assert (answer.status, answer.code) == (400, "ak-attributes")


def test_B1_an_attestation_key_outside_the_tpm(host, operator):
    """Its owner cannot open the credential, for that takes the endorsement key."""
    begun = begin(host, ak_public=b64(SigningKey.ecc().public))
    assert begun.status == 201
    answer = show_secret(host, begun, bytes(32))
    assert (answer.status, answer.code) == (403, "activation-failed")
    assert operator.hosts(host.name) == []


def test_B6_a_wrong_secret_is_the_last_one(host, operator):
    begun = begin(host)
    secret = host.secret(begun.json)
    answer = show_secret(host, begun, secret[:-1] + bytes([secret[-1] ^ 1]))
    assert (answer.status, answer.code) == (403, "activation-failed")
    again = show_secret(host, begun, secret)
    assert (again.status, again.code) == (404, "enrolment-unknown")
    assert operator.hosts(host.name) == []


def test_B6_a_secret_is_good_once(host):
    begun = begin(host)
    secret = host.secret(begun.json)
    assert show_secret(host, begun, secret).status == 200
    assert show_secret(host, begun, secret).code == "enrolment-unknown"


@pytest.mark.parametrize("secret", ["", "AA==", b64(bytes(31)), b64(bytes(33))])
def test_B6_secrets_of_other_lengths(host, secret):
    begun = begin(host)
    answer = host.http.call("PUT", f"/v1/enrolments/{begun.json['id']}", {"secret": secret})
    assert (answer.status, answer.code) == (403, "activation-failed")


def test_the_secret_is_for_one_enrolment(host):
    first, second = begin(host), begin(host)
    assert show_secret(host, second, host.secret(first.json)).code == "activation-failed"


def test_B7_without_certificate_nobody_is_trusted_without_an_operator(host, operator):
    assert host.enrol(ek_certificate=None) == "pending"
    shown = operator.show(host.name)
    assert (shown["ek_certificate_status"], shown["software_tpm"]) == ("absent", None)
    assert host.submit().code == "host-pending"
    verdicts = operator.call("GET", "/v1/verdicts")["hosts"]
    assert host.name not in [item["host"] for item in verdicts]
    operator.approve(host)
    assert host.round().level == "untrusted"


@pytest.mark.parametrize(
    "name",
    ["a\nb", "a\0", "\x1b[2J", "../x", "a..b", "x" * 10_000, "nоde", "", "a/b", "a b"],
)
def test_B8_odd_names(host, operator, name):
    for path, body in (
        ("/v1/enrolments", host.enrolment(host=name)),
        ("/v1/challenges", {"host": name}),
        ("/v1/evidence", host.evidence() | {"host": name}),
    ):
        answer = host.http.call("POST", path, body)
        assert (answer.status, answer.code) == (400, "field-invalid")
        assert name not in answer.body.decode() or not name
    assert operator.hosts(name) == []


def test_banks_have_to_be_listed_with_the_one_every_tpm_has(host):
    for banks in ([], ["sha1"], ["sha256", "sha256"], ["sha384", "sha512"]):
        assert begin(host, banks=banks).code == "banks-invalid"
    assert begin(host, banks=["sha256", "md5"]).code == "field-invalid"


def test_A11_banks_cannot_be_dropped_by_enrolling_again(trusted):
    begun = begin(trusted, banks=["sha256"])
    answer = show_secret(trusted, begun, trusted.secret(begun.json))
    assert (answer.status, answer.code) == (409, "banks-changed")
    assert trusted.round().level == "trusted"


def test_B10_software_tpms_are_refused_unless_they_are_allowed(
    backend_maker, allowing, host, operator
):
    options = {**allowing, ("attestation", "allow_software_tpm"): False}
    with backend_maker(options) as strict:
        stranger = ComputeHost(strict, host.software)
        answer = begin(stranger)
        assert (answer.status, answer.code) == (403, "ek-software-tpm")
        assert Operator(strict).hosts(stranger.name) == []


def test_B4_an_authority_nobody_knows(backend_maker, host):
    with backend_maker({("attestation", "allow_software_tpm"): True}) as strict:
        answer = begin(ComputeHost(strict, host.software))
        assert (answer.status, answer.code) == (403, "ek-certificate-untrusted")


def test_nothing_secret_is_in_the_log(trusted, backend):
    """C6, as far as an enrolment and a round go."""
    begun = begin(trusted)
    secret = trusted.secret(begun.json)
    show_secret(trusted, begun, secret)
    log = backend.log
    assert trusted.name in log
    key = (backend.state_dir / "challenge.key").read_text().strip()
    for hidden in (secret.hex(), b64(secret), backend.admin_token, backend.scheduler_token, key):
        assert hidden not in log
    assert json.dumps(begun.json["credential_blob"]) not in log
    assert base64.b64decode(begun.json["credential_blob"]).hex() not in log


def test_workers_know_of_each_others_enrolments(host):
    """Which worker serves a connection is a matter of luck."""
    for _ in range(8):
        begun = begin(host)
        assert show_secret(host, begun, host.secret(begun.json)).status == 200
