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
"""Group A of the attacks over HTTPS: quotes that were made or changed to deceive."""

import base64
import itertools
import json

import pytest

from oat_trusted_filter.backend.appraisal.records import QUOTED_PCRS
from oat_trusted_filter.backend.store import hosts, renewing
from oat_trusted_filter.tcg.attestation import PcrSelection
from oat_trusted_filter.tcg.signature import TPM_ALG_RSAPSS
from tests.functional.backend.wire import Wire
from tests.lab.quotes import SigningKey, select, sized
from tests.unit.backend.attesting import ALLOCATED, IMPLEMENTED, b64

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def wire(backend):
    made = Wire(backend)
    yield made
    made.store.close()


@pytest.fixture(scope="module")
def soft(wire):
    """A trusted host whose key signs what it is told."""
    host = wire.approved_host("soft")
    assert host.attest() == "untrusted"
    wire.trust(host)
    assert host.attest() == "trusted"
    return host


def refused(host, body, status, code, level):
    """The answer is this refusal, the host has this level, and it heals with its next word."""
    answer = host.submit(body)
    assert (answer.status_code, answer.json["code"]) == (status, code), answer.text
    assert host.place.show(host)["level"] == level
    assert host.attest() == "trusted"


def of(pcrs, values):
    return {
        bank: {str(pcr): of_bank[pcr].hex() for pcr in pcrs} for bank, of_bank in values.items()
    }


def test_A1_other_pcrs_than_those_signed(soft):
    swapped = soft.evidence()
    values = swapped["pcrs"]["sha256"]
    values["0"], values["7"] = values["7"], values["0"]
    refused(soft, swapped, 422, "pcr-digest", "untrusted")
    fewer = soft.evidence()
    del fewer["pcrs"]["sha256"]["7"]
    refused(soft, fewer, 422, "pcr-selection", "untrusted")
    extra = soft.evidence()
    extra["pcrs"]["sha512"] = {"0": "00" * 64}
    refused(soft, extra, 422, "pcr-selection", "untrusted")


@pytest.mark.parametrize(
    ("banks", "pcrs", "code"),
    [
        (ALLOCATED, [pcr for pcr in QUOTED_PCRS if pcr != 7], "quote-selection"),
        (ALLOCATED, [*QUOTED_PCRS, 16, 23], "quote-selection"),
        ((), QUOTED_PCRS, "quote-banks"),
        (("sha1",), QUOTED_PCRS, "quote-banks"),
    ],
    ids=["lacks-7", "more", "empty", "sha1-alone"],
)
def test_A2_a_selection_without_what_is_needed(soft, banks, pcrs, code):
    values = {bank: dict(soft.values[bank]) for bank in banks}
    for value in values.values():
        value.update({pcr: bytes(len(value[0])) for pcr in pcrs if pcr not in value})
    host, whole = soft, soft.values
    host.values = values
    try:
        body = host.evidence(selections=select(IMPLEMENTED, banks, pcrs))
        body["pcrs"] = of([pcr for pcr in pcrs if pcr in QUOTED_PCRS], values)
    finally:
        host.values = whole
    refused(host, body, 422, code, "untrusted")


def test_A3_a_bank_twice_or_one_nobody_asked_for(soft):
    asked = select(IMPLEMENTED, ALLOCATED, QUOTED_PCRS)
    twice = soft.evidence(selections=[*asked, asked[1]])
    refused(soft, twice, 422, "quote-banks", "untrusted")
    # SM3, which the TPM was enrolled without.
    other = soft.evidence(selections=[*asked, PcrSelection(0x0012, 0)])
    refused(soft, other, 422, "quote-banks", "untrusted")


def test_A4_a_bit_of_the_signature(soft):
    body = soft.evidence()
    signature = bytearray(base64.b64decode(body["signature"]))
    signature[-1] ^= 1
    refused(soft, body | {"signature": b64(signature)}, 400, "signature-invalid", "trusted")


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"magic": 0}, "quote-magic"),
        ({"magic": 0x474354FF}, "quote-magic"),
        ({"kind": 0x8017}, "quote-type"),
        ({"kind": 0x8019}, "quote-type"),
        ({"kind": 0x801A}, "quote-type"),
    ],
)
def test_A5_another_magic_or_type_under_a_good_signature(soft, fields, code):
    refused(soft, soft.evidence(**fields), 400, code, "trusted")


def test_A5_bytes_behind_the_structure_under_a_good_signature(soft):
    body = soft.evidence()
    message = base64.b64decode(body["quote"]) + b"\0"
    body |= {"quote": b64(message), "signature": b64(soft.key.sign(message))}
    refused(soft, body, 400, "quote-trailing-bytes", "trusted")


def test_A7_challenges_are_distinct_and_long_enough(http):
    connection = http.connect()
    found = set()
    body = json.dumps({"host": "node"})
    for _ in range(300):
        connection.request("POST", "/v1/challenges", body, {"Content-Type": "application/json"})
        found.add(json.loads(connection.getresponse().read())["challenge"])
    connection.close()
    assert len(found) == 300
    # Time, 32 random bytes, and a MAC over both; the random ones alone are as distinct.
    parts = [base64.urlsafe_b64decode(text) for text in found]
    assert {len(part) for part in parts} == {8 + 32 + 32}
    assert len({part[8:40] for part in parts}) == 300


def test_A8_another_scheme_or_hash_than_the_keys(soft):
    for key in (
        SigningKey.ecc(bank="sha384"),
        SigningKey(soft.key.private, soft.key.scheme, "sha384"),
        SigningKey.rsa(2048, TPM_ALG_RSAPSS),
    ):
        refused(soft, soft.evidence(key=key), 400, "signature-invalid", "trusted")


@pytest.mark.parametrize("r", [0, P256_ORDER, P256_ORDER + 1, 2**256 - 1])
@pytest.mark.parametrize("place", [0, 1])
def test_A8_r_and_s_out_of_range(soft, r, place):
    body = soft.evidence()
    signature = base64.b64decode(body["signature"])
    numbers = [signature[6:38], signature[40:72]]
    numbers[place] = r.to_bytes(32, "big")
    changed = signature[:4] + b"".join(map(sized, numbers))
    refused(soft, body | {"signature": b64(changed)}, 400, "signature-invalid", "trusted")


def test_A8_der_in_place_of_the_structure(soft):
    body = soft.evidence()
    refused(soft, body | {"signature": b64(b"\x30\x06\2\1\1\2\1\1")}, 400, "signature-scheme",
            "trusted")  # fmt: skip


def test_A10_another_firmware_version_is_recorded(soft, wire):
    assert soft.submit(soft.evidence(firmware_version=9)).status_code == 200
    with wire.store.read() as connection:
        subject = renewing.subject(connection, hosts.approved_name("", soft.name))
    assert json.loads(subject.tpm_state)["firmware_version"] == 9
