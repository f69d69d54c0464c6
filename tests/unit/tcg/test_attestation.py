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
"""TPMS_ATTEST, TPMT_SIGNATURE and the digest over PCRs."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oat_trusted_filter.tcg.attestation import parse_quote
from oat_trusted_filter.tcg.errors import FormatError, SignatureError
from oat_trusted_filter.tcg.pcr import pcr_digest
from oat_trusted_filter.tcg.public import parse_public, verify_signature
from oat_trusted_filter.tcg.signature import TPM_ALG_RSAPSS, parse_signature
from tests.lab.quotes import SigningKey, attest, quote, select, sized

NONCE = b"n" * 32
VALUES = {"sha1": {0: b"\1" * 20, 7: b"\2" * 20}, "sha256": {0: b"\3" * 32, 7: b"\4" * 32}}
SELECTIONS = select(["sha1", "sha256", "sha384"], ["sha1", "sha256"], [0, 7])
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

TPM_ST_ATTEST_CERTIFY, TPM_ST_ATTEST_TIME, TPM_ST_ATTEST_CREATION = 0x8017, 0x8019, 0x801A


@pytest.fixture(scope="module")
def key():
    return SigningKey.ecc()


@pytest.fixture(scope="module")
def signed(key):
    return quote(key, NONCE, VALUES, SELECTIONS, clock=5, reset_count=6, restart_count=7)


def refusal(parse, data):
    with pytest.raises(FormatError) as refused:
        parse(data)
    return refused.value.code


def test_a_quote_is_taken_apart(signed):
    parsed = parse_quote(signed[0])

    assert parsed.extra_data == NONCE
    assert (parsed.clock_info.clock, parsed.clock_info.reset_count) == (5, 6)
    assert (parsed.clock_info.restart_count, parsed.clock_info.safe) == (7, True)
    assert parsed.firmware_version == 7
    assert {s.bank: s.pcrs for s in parsed.selections} == {
        "sha1": (0, 7), "sha256": (0, 7), "sha384": (),
    }  # fmt: skip
    assert parsed.pcr_digest == pcr_digest(parsed.selections, VALUES, "sha256")


def test_A4_a_truncated_quote_or_signature_is_refused_wherever_it_ends(signed):
    message, signature = signed

    for end in range(len(message)):
        assert refusal(parse_quote, message[:end]) == "quote-truncated"
    for end in range(len(signature)):
        assert refusal(parse_signature, signature[:end]) == "signature-truncated"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"magic": 0xFF544346}, "quote-magic"),
        ({"kind": TPM_ST_ATTEST_CERTIFY}, "quote-type"),
        ({"kind": TPM_ST_ATTEST_TIME}, "quote-type"),
        ({"kind": TPM_ST_ATTEST_CREATION}, "quote-type"),
    ],
)
def test_A5_another_magic_or_type_is_refused(fields, code):
    assert refusal(parse_quote, attest(NONCE, SELECTIONS, b"d" * 32, **fields)) == code


def test_A5_bytes_left_over_are_refused(signed):
    message, signature = signed

    assert refusal(parse_quote, message + b"\0") == "quote-trailing-bytes"
    assert refusal(parse_signature, signature + b"\0") == "signature-trailing-bytes"


def test_a_quote_that_claims_a_million_banks_is_refused():
    # The count of banks and the size of the digest stand at the end.
    message = attest(NONCE, [], b"")[:-6] + struct.pack(">I", 1_000_000)

    assert refusal(parse_quote, message) == "quote-selection"


def test_a_clock_that_is_neither_safe_nor_unsafe_is_refused():
    assert refusal(parse_quote, attest(NONCE, SELECTIONS, b"", safe=2)) == "quote-clock"


@given(st.binary(max_size=300))
def test_whatever_the_bytes_a_parser_answers_or_refuses(data):
    for parse in (parse_quote, parse_signature, parse_public):
        try:
            parse(data)
        except FormatError as error:
            assert error.code


@pytest.mark.parametrize(
    "make",
    [
        SigningKey.ecc,
        lambda: SigningKey.ecc(curve=4, bank="sha384"),
        SigningKey.rsa,
        lambda: SigningKey.rsa(3072, TPM_ALG_RSAPSS, "sha384"),
    ],
    ids=["p256", "p384", "rsassa", "rsapss"],
)
def test_signatures_of_all_kinds_of_keys_are_checked(make):
    key = make()
    public = parse_public(key.public)
    signature = parse_signature(key.sign(b"message"))

    verify_signature(public, b"message", signature)
    with pytest.raises(SignatureError):
        verify_signature(public, b"massage", signature)


def test_A8_another_scheme_or_hash_than_the_keys_is_refused(key):
    public = parse_public(key.public)
    with_sha384 = SigningKey(key.private, key.scheme, "sha384")

    with pytest.raises(SignatureError, match="another scheme or hash"):
        verify_signature(public, b"message", parse_signature(with_sha384.sign(b"message")))
    with pytest.raises(SignatureError, match="another scheme or hash"):
        verify_signature(public, b"message", parse_signature(SigningKey.rsa().sign(b"message")))


@pytest.mark.parametrize(
    ("r", "s"), [(0, 1), (1, 0), (P256_ORDER, 1), (1, P256_ORDER), (2**300, 2**300)]
)
def test_A8_r_and_s_out_of_range_are_refused(key, r, s):
    head = key.sign(b"message")[:4]
    numbers = b"".join(sized(n.to_bytes(40, "big")) for n in (r, s))

    with pytest.raises(SignatureError, match="out of range"):
        verify_signature(parse_public(key.public), b"message", parse_signature(head + numbers))


def test_A8_a_scheme_that_does_not_sign_with_a_public_key_is_refused():
    assert refusal(parse_signature, struct.pack(">HH", 5, 11) + sized(b"x" * 32)) == (
        "signature-scheme"
    )


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"sha1": VALUES["sha1"]}, "pcr-missing"),
        ({**VALUES, "sha256": {0: b"\3" * 32}}, "pcr-missing"),
        ({**VALUES, "sha256": {0: b"\3" * 32, 7: b"\4" * 20}}, "pcr-length"),
    ],
)
def test_a_digest_over_pcrs_needs_all_of_them(values, code):
    with pytest.raises(FormatError) as refused:
        pcr_digest(SELECTIONS, values, "sha256")

    assert refused.value.code == code
