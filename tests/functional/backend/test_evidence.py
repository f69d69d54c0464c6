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
"""Evidence of software TPMs, honest and not, against the real service."""

import base64
import json
import shutil
import struct

import pytest
from tpm2_pytss import (
    ESAPI,
    ESYS_TR,
    TPM2_ALG,
    TPM2B_DATA,
    TPML_DIGEST_VALUES,
    TPMT_HA,
    TPMT_SIG_SCHEME,
    TPMU_HA,
)

from oat_trusted_filter.agent.attestation_key import attestation_key
from oat_trusted_filter.agent.tpm import Tpm
from oat_trusted_filter.tcg.attestation import parse_quote
from oat_trusted_filter.tcg.bootlog import EV_NO_ACTION, parse_boot_log
from tests.functional.backend.parts import ComputeHost, Operator, b64
from tests.lab.boots import Boot
from tests.lab.wait import wait_for


def extend(software, pcr, **digests):
    """Extend a PCR in some banks only, as no firmware should and root may."""
    values = TPML_DIGEST_VALUES(
        [
            TPMT_HA(hashAlg=TPM2_ALG.parse(bank), digest=TPMU_HA(**{bank: digest}))
            for bank, digest in digests.items()
        ]
    )
    with ESAPI(software.tcti) as tpm:
        tpm.pcr_extend(ESYS_TR(pcr), values)


def level(operator, host):
    return operator.show(host.name)["level"]


def test_rounds_go_on_across_a_restart_of_the_backend(trusted, backend):
    agent = trusted.agent()
    assert agent.round().level == "trusted"
    backend.restart()
    assert agent.round().level == "trusted"


def test_A12_a_relayed_quote_of_another_enrolled_machine(trusted, backend, tpms, operator):
    other = ComputeHost(backend, tpms[1])
    other.enrol()
    operator.approve(other)
    challenge = trusted.challenge()
    body = other.evidence(challenge) | trusted.identity
    answer = trusted.submit(body)
    assert (answer.status, answer.code) == (400, "signature-invalid")
    assert level(operator, trusted) == "trusted"


def test_B9_evidence_in_the_name_of_another_host(trusted, operator):
    body = trusted.evidence() | {"host": "node-of-somebody-else"}
    answer = trusted.submit(body)
    assert (answer.status, answer.code) == (403, "challenge-invalid")
    other = trusted.named("node-of-somebody-else")
    answer = other.submit()
    assert (answer.status, answer.code) == (404, "host-unknown")


def test_A6_evidence_is_good_once(trusted, operator):
    body = trusted.evidence()
    assert trusted.submit(body).status == 200
    for _ in range(4):  # whichever worker gets it
        answer = trusted.submit(body)
        assert (answer.status, answer.code) == (403, "challenge-spent")
    assert level(operator, trusted) == "trusted"


def test_A6_two_at_once_with_one_challenge(trusted):
    """Both are on their way before one of them is answered."""
    body = json.dumps(trusted.evidence()).encode()
    connections = [trusted.http.connect() for _ in range(6)]
    for connection in connections:
        connection.request("POST", "/v1/evidence", body, {"Content-Type": "application/json"})
    answers = [connection.getresponse() for connection in connections]
    statuses = sorted(answer.status for answer in answers)
    for answer, connection in zip(answers, connections, strict=True):
        answer.read()
        connection.close()
    assert statuses == [200] + [403] * 5


@pytest.mark.parametrize("cut", [0, 1, 10, 40])
def test_A4_signatures_and_quotes_that_are_cut_off(trusted, operator, cut):
    for field in ("signature", "quote"):
        body = trusted.evidence()
        body[field] = b64(base64.b64decode(body[field])[:cut])
        answer = trusted.submit(body)
        assert answer.status == 400
    body = trusted.evidence()
    body["quote"] = b64(base64.b64decode(body["quote"]) + b"\0")
    assert trusted.submit(body).code == "quote-trailing-bytes"
    assert level(operator, trusted) == "trusted"


def test_A1_values_that_were_not_quoted(trusted, operator):
    body = trusted.evidence()
    del body["pcrs"]["sha384"]
    answer = trusted.submit(body)
    assert (answer.status, answer.code) == (422, "pcr-selection")
    assert level(operator, trusted) == "untrusted"
    assert trusted.round().level == "trusted"


def test_A11_a_bank_that_root_filled_with_a_forged_log(approved, backend, operator):
    """The firmware left a bank alone; root extends it as a good boot would and rewrites the log.

    The machine has booted another boot loader. In the forged bank all is as it should be; every
    allocated bank is quoted, so the others tell.
    """
    operator.trust(approved)
    good, bad = Boot("machine-a"), Boot("machine-a-loader")
    approved.software.power_cycle()
    # What the firmware did: it measured the bad boot, but not into sha384.
    for event in parse_boot_log(bad.boot_log).events:
        if event.type != EV_NO_ACTION:
            honest = {bank: d for bank, d in event.digests.items() if bank != "sha384"}
            extend(approved.software, event.pcr, **honest)
    # What root does then.
    for event in parse_boot_log(good.boot_log).events:
        if event.type != EV_NO_ACTION:
            extend(approved.software, event.pcr, sha384=event.digests["sha384"])
    for log in (good.boot_log, bad.boot_log, b"".join(mixed(good.boot_log, bad.boot_log))):
        answer = approved.submit(approved.evidence(boot_log=log))
        assert answer.status == 422, answer.body
        # The mixed log has digests its own events contradict.
        assert answer.code in ("boot-log-mismatch", "boot-log-event-data")
        assert answer.json["level"] == "untrusted"
    # Showing the one bank alone is no way out either.
    body = approved.evidence(boot_log=good.boot_log)
    body["pcrs"] = {"sha384": body["pcrs"]["sha384"]}
    assert approved.submit(body).code == "pcr-selection"
    assert level(operator, approved) == "untrusted"


def mixed(good, bad):
    """The log of the bad boot with the good digests of sha384 where there are as many events."""
    wanted = [event.digests.get("sha384", b"") for event in parse_boot_log(good).events]
    found = [event.digests.get("sha384", b"") for event in parse_boot_log(bad).events]
    data = bad
    for old, new in zip(found, wanted, strict=False):
        if old and new:
            data = data.replace(old, new, 1)
    yield data


def test_D4_a_pcr_the_log_has_no_event_for(trusted, operator):
    extend(trusted.software, 3, sha1=bytes(20), sha256=bytes(32), sha384=bytes(48))
    answer = trusted.submit()
    assert (answer.status, answer.code) == (422, "boot-log-mismatch")
    shown = operator.show(trusted.name)
    assert (shown["level"], shown["findings"][0]["pcr"]) == ("untrusted", 3)


@pytest.mark.parametrize(
    "log",
    [
        b"",
        b"\0",
        bytes(1_000_000),
        b"\xff" * 1_000_000,
        Boot("machine-a").boot_log[:-1],
        Boot("machine-a").boot_log[:5000],
        Boot("machine-a").boot_log + b"\1",
        Boot("machine-a").boot_log[:32] + struct.pack("<I", 0xFFFFFFFF),
    ],
    ids=["empty", "byte", "zeros", "ones", "cut", "half", "more", "huge-event"],
)
def test_D5_logs_that_are_none(trusted, operator, log):
    answer = trusted.submit(trusted.evidence(boot_log=log))
    assert answer.status == 422, answer.body
    assert answer.code.startswith("boot-log")
    assert level(operator, trusted) == "untrusted"
    assert trusted.round().level == "trusted"


def test_D8_a_log_that_is_too_large_for_the_service(trusted, operator):
    answer = trusted.submit(trusted.evidence(boot_log=bytes(10 * 1024 * 1024)))
    assert (answer.status, answer.code) == (413, "body-too-large")
    assert level(operator, trusted) == "trusted"


def test_the_event_to_blame_is_named(trusted, operator):
    trusted.boot("machine-a-loader")
    assert trusted.round().level == "untrusted"
    finding = operator.show(trusted.name)["findings"][0]
    assert (finding["code"], finding["pcr"]) == ("pcr-mismatch", 4)
    assert finding["event_type"] == "EV_EFI_BOOT_SERVICES_APPLICATION"
    assert finding["actual"]
    assert finding["expected"]


def test_A9_a_tpm_that_was_cleared_enrols_and_goes_on(trusted):
    agent = trusted.agent()
    assert agent.round().level == "trusted"
    with ESAPI(trusted.software.tcti) as tpm:
        tpm.clear(ESYS_TR.LOCKOUT)
    assert trusted.submit().code == "tpm-cleared"
    assert agent.round().level == "trusted"


def test_A9_a_tpm_set_back_to_a_snapshot(trusted, operator, tmp_path):
    """The state of a virtual TPM is copied and put back: the same boot again, an earlier clock."""
    software = trusted.software
    software.stop()
    snapshot = tmp_path / "snapshot"
    shutil.copytree(software.state_dir, snapshot)
    trusted.boot("machine-a")
    with ESAPI(software.tcti) as tpm:
        tpm.clock_set(tpm.read_clock().clockInfo.clock + 3_600_000, ESYS_TR.OWNER)
    assert trusted.round().level == "trusted"
    software.stop()
    shutil.rmtree(software.state_dir)
    shutil.copytree(snapshot, software.state_dir)
    trusted.boot("machine-a")
    answer = trusted.submit()
    assert (answer.status, answer.code) == (400, "clock-backwards")
    # Nothing of it counts, not even against the host: its last verdict runs out by itself.
    assert operator.show(trusted.name)["level"] == "trusted"
    trusted.boot("machine-a")
    assert trusted.round().level == "trusted"


def certified(esapi, key, nonce, scheme):
    return esapi.certify(key, key, nonce, in_scheme=scheme)


def timed(esapi, key, nonce, scheme):
    return esapi.get_time(key, nonce, in_scheme=scheme)


@pytest.mark.parametrize("attest", [certified, timed])
def test_A5_what_else_the_tpm_signs_over_the_nonce(trusted, operator, attest):
    """The attestation key itself signs it, with the nonce in its place."""
    body = trusted.evidence()
    with Tpm(trusted.software.tcti) as tpm, attestation_key(tpm, "ecc") as key:
        scheme = TPMT_SIG_SCHEME(scheme=TPM2_ALG.NULL)
        nonce = TPM2B_DATA(parse_quote(base64.b64decode(body["quote"])).extra_data)
        message, signature = attest(tpm.esapi, key.handle, nonce, scheme)
        body |= {"quote": b64(bytes(message)), "signature": b64(bytes(signature.marshal()))}
    answer = trusted.submit(body)
    assert (answer.status, answer.code) == (400, "quote-type")
    assert operator.show(trusted.name)["level"] == "trusted"


def test_E2_a_silent_host_lapses_at_its_deadline(backend_maker, allowing, tpms):
    options = {
        **allowing,
        ("attestation", "verdict_lifetime"): 3,
        ("attestation", "challenge_lifetime"): 2,
        ("attestation", "interval"): 1,
    }
    with backend_maker(options) as backend:
        operator, host = Operator(backend), ComputeHost(backend, tpms[0])
        host.enrol()
        operator.approve(host)
        host.round()
        operator.trust(host)
        assert host.round().level == "trusted"

        def verdict():
            (found,) = operator.call("GET", "/v1/verdicts")["hosts"]
            return found["level"], found.get("reason", "")

        assert verdict() == ("trusted", "")
        wait_for(lambda: verdict() == ("unknown", "verdict-lapsed"), 10, "the lapse")
        # A backend that was stopped in between comes to the same.
        assert host.round().level == "trusted"
        backend.restart()
        wait_for(lambda: verdict() == ("unknown", "verdict-lapsed"), 10, "the lapse")
        assert host.round().level == "trusted"
