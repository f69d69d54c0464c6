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
"""Steps 1 to 6 of the appraisal: the quote, its signature, its clock, its PCRs."""

from dataclasses import replace

import pytest

from oat_trusted_filter.backend.appraisal.appraise import appraise
from oat_trusted_filter.backend.appraisal.policy import DEFAULT_POLICY
from oat_trusted_filter.backend.appraisal.records import QUOTED_PCRS, EvidenceRefused, PreviousState
from oat_trusted_filter.tcg.attestation import PcrSelection
from tests.lab.quotes import SigningKey, select
from tests.unit.appraisal.hosts import ALLOCATED, IMPLEMENTED, NONCE, NOW, Host, reference_of

REFERENCES = [reference_of("machine-a", "machine-b")]


@pytest.fixture(scope="module")
def host():
    return Host()


def verdict(evidence, binding, previous=None):
    return appraise(evidence, binding, DEFAULT_POLICY, REFERENCES, previous, NOW)


def refusal(evidence, binding, previous=None):
    with pytest.raises(EvidenceRefused) as refused:
        verdict(evidence, binding, previous)
    return refused.value.code, refused.value.authentic


def changed(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


def test_good_evidence_is_trusted(host):
    good = verdict(host.evidence(clock=4, reset_count=5, restart_count=6), host.binding)

    assert (good.level, good.findings) == ("trusted", ())
    assert good.references == ("machine-a-machine-b",)
    assert good.state == PreviousState(4, 5, 6, 7)


@pytest.mark.parametrize("make", [SigningKey.rsa, lambda: SigningKey.ecc(4, "sha384")])
def test_keys_of_other_kinds_are_as_good(make):
    host = Host(key=make())

    assert verdict(host.evidence(), host.binding).level == "trusted"


# Step 1


def test_A4_1_a_truncated_signature_is_refused(host):
    evidence = host.evidence()

    assert refusal(replace(evidence, signature=evidence.signature[:-1]), host.binding) == (
        "signature-truncated", False,
    )  # fmt: skip


def test_A5_1_another_attestation_type_is_refused(host):
    assert refusal(host.evidence(kind=0x8017), host.binding) == ("quote-type", False)


def test_A5_1_bytes_left_over_are_refused(host):
    evidence = host.evidence()

    assert refusal(replace(evidence, quote=evidence.quote + b"\0"), host.binding) == (
        "quote-trailing-bytes", False,
    )  # fmt: skip


# Step 2


@pytest.mark.parametrize(
    "nonce", [b"", NONCE[:31], NONCE + b"\0", NONCE[::-1], NONCE.hex().encode()]
)
def test_A6_2_another_nonce_is_refused(host, nonce):
    assert refusal(host.evidence(nonce=nonce), host.binding) == ("nonce-mismatch", False)


def test_A6_2_an_empty_nonce_is_refused_even_if_it_was_asked_for(host):
    evidence = replace(host.evidence(nonce=b""), challenge_nonce=b"")

    assert refusal(evidence, host.binding) == ("nonce-mismatch", False)


# Step 3


def test_A4_3_a_signature_of_another_hosts_key_is_refused(host):
    evidence = host.evidence(key=SigningKey.ecc())

    assert refusal(evidence, host.binding) == ("signature-invalid", False)


def test_A4_3_a_changed_bit_of_signature_or_quote_is_refused(host):
    evidence = host.evidence()

    for change in (
        replace(evidence, signature=changed(evidence.signature, 40)),
        replace(evidence, quote=changed(evidence.quote, len(evidence.quote) - 1)),
    ):
        assert refusal(change, host.binding) == ("signature-invalid", False)


def test_A8_3_a_signature_with_another_hash_is_refused(host):
    other = SigningKey(host.key.private, host.key.scheme, "sha384")

    assert refusal(host.evidence(key=other), host.binding) == ("signature-invalid", False)


def test_A12_3_a_genuine_quote_of_another_machine_is_refused(host):
    other = Host()

    assert refusal(other.evidence(), host.binding) == ("signature-invalid", False)


# Step 4

BEFORE = PreviousState(clock=1000, reset_count=5, restart_count=2, firmware_version=7)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"clock": 999, "reset_count": 5, "restart_count": 2}, "clock-backwards"),
        ({"clock": 999, "reset_count": 5, "restart_count": 3}, "clock-backwards"),
        ({"clock": 2000, "reset_count": 5, "restart_count": 1}, "clock-backwards"),
        ({"clock": 2000, "reset_count": 4, "restart_count": 9}, "tpm-cleared"),
        ({"clock": 1, "reset_count": 0, "restart_count": 0}, "tpm-cleared"),
    ],
)
def test_A9_4_a_clock_that_goes_back_is_refused(host, fields, code):
    assert refusal(host.evidence(**fields), host.binding, BEFORE) == (code, False)


@pytest.mark.parametrize(
    "fields",
    [
        {"clock": 1000, "reset_count": 5, "restart_count": 2},
        {"clock": 1001, "reset_count": 5, "restart_count": 2},
        {"clock": 1001, "reset_count": 5, "restart_count": 3},
        # After a power cut the clock may be a little behind.
        {"clock": 990, "reset_count": 6, "restart_count": 0, "safe": False},
    ],
)
def test_A9_4_a_clock_that_goes_on_is_in_order(host, fields):
    assert verdict(host.evidence(**fields), host.binding, BEFORE).level == "trusted"


def test_A10_4_another_firmware_version_is_recorded(host):
    fields = {"clock": 1001, "reset_count": 5, "restart_count": 2, "firmware_version": 8}

    assert verdict(host.evidence(**fields), host.binding, BEFORE).state.firmware_version == 8


# Step 5


def test_A1_5_fewer_pcrs_than_asked_for_are_refused(host):
    selections = select(IMPLEMENTED, ALLOCATED, QUOTED_PCRS[:-1])
    pcrs = {bank: {pcr: of[pcr] for pcr in QUOTED_PCRS[:-1]} for bank, of in host.values.items()}

    evidence = host.evidence(selections=selections, pcrs=pcrs)

    assert refusal(evidence, host.binding) == ("quote-selection", True)


def test_A1_5_more_pcrs_than_asked_for_are_refused():
    host = Host()
    for values in host.values.values():
        values[23] = bytes(len(values[0]))

    evidence = host.evidence(selections=select(IMPLEMENTED, ALLOCATED, (*QUOTED_PCRS, 23)))

    assert refusal(evidence, host.binding) == ("quote-selection", True)


def test_A2_5_an_empty_selection_is_refused(host):
    assert refusal(host.evidence(selections=[]), host.binding) == ("quote-banks", True)
    unallocated = select(IMPLEMENTED, (), QUOTED_PCRS)
    assert refusal(host.evidence(selections=unallocated), host.binding) == ("quote-banks", True)


def test_A2_5_sha1_alone_is_refused():
    host = Host()
    host.values = {"sha1": host.values["sha1"]}

    assert refusal(host.evidence(), host.binding) == ("quote-banks", True)


def test_A3_5_a_bank_twice_is_refused(host):
    selections = select((*IMPLEMENTED, "sha256"), ALLOCATED, QUOTED_PCRS)

    assert refusal(host.evidence(selections=selections), host.binding) == ("quote-banks", True)


def test_A3_5_a_bank_the_tpm_was_enrolled_without_is_refused(host):
    for algorithm in (0x12, 0x0D):
        selections = [*select(IMPLEMENTED[:3], ALLOCATED, QUOTED_PCRS), PcrSelection(algorithm, 0)]
        binding = replace(host.binding, banks=IMPLEMENTED[:3])
        assert refusal(host.evidence(selections=selections), binding) == ("quote-banks", True)


@pytest.mark.parametrize("bank", ALLOCATED)
def test_A11_5_a_bank_left_out_is_refused(host, bank):
    """Else a bank the firmware did not extend could be shown, and the one it did extend not."""
    rest = [name for name in IMPLEMENTED if name != bank]
    pcrs = {name: values for name, values in host.values.items() if name != bank}
    evidence = host.evidence(selections=select(rest, ALLOCATED, QUOTED_PCRS), pcrs=pcrs)

    assert refusal(evidence, host.binding) == ("quote-banks", True)


# Step 6


def test_A1_6_relabelled_values_are_refused(host):
    pcrs = {bank: {**of, 4: of[7], 7: of[4]} for bank, of in host.values.items()}

    assert refusal(host.evidence(pcrs=pcrs), host.binding) == ("pcr-digest", True)


def test_A1_6_fewer_or_extra_values_are_refused(host):
    fewer = {bank: dict(list(of.items())[1:]) for bank, of in host.values.items()}
    extra = {bank: {**of, 23: of[0]} for bank, of in host.values.items()}
    without_bank = {bank: of for bank, of in host.values.items() if bank != "sha1"}
    other_bank = {**host.values, "sha512": {pcr: bytes(64) for pcr in QUOTED_PCRS}}

    for pcrs in (fewer, extra, without_bank, other_bank):
        assert refusal(host.evidence(pcrs=pcrs), host.binding) == ("pcr-selection", True)


def test_A1_6_values_of_another_length_are_refused(host):
    """Also if all of them together have the digest that was quoted."""
    of = host.values["sha256"]
    shifted = {**of, 0: of[0] + of[1][:1], 1: of[1][1:]}

    evidence = host.evidence(pcrs={**host.values, "sha256": shifted})

    assert refusal(evidence, host.binding) == ("pcr-length", True)
