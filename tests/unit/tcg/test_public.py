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
"""TPM2B_PUBLIC, and which keys may attest."""

import hashlib
import struct
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from oat_trusted_filter.tcg.errors import AttestationKeyError, FormatError, SignatureError
from oat_trusted_filter.tcg.public import (
    TPM_ECC_NIST_P384,
    TPMA_DECRYPT,
    TPMA_FIXED_PARENT,
    TPMA_FIXED_TPM,
    TPMA_RESTRICTED,
    TPMA_SENSITIVE_DATA_ORIGIN,
    TPMA_SIGN,
    check_attestation_key,
    parse_public,
    signing_bank,
    verify_signature,
)
from oat_trusted_filter.tcg.signature import (
    TPM_ALG_ECDSA,
    TPM_ALG_RSASSA,
    Signature,
    parse_signature,
)
from tests.lab.quotes import ATTRIBUTES, SigningKey, sized


@pytest.fixture(scope="module")
def rsa_key():
    return SigningKey.rsa()


@pytest.fixture(scope="module")
def ecc_key():
    return SigningKey.ecc()


def with_attributes(key, attributes):
    return parse_public(SigningKey(key.private, key.scheme, key.bank, attributes).public)


def refusal(public):
    with pytest.raises(AttestationKeyError) as refused:
        check_attestation_key(public)
    return refused.value.code


def test_keys_are_taken_apart(rsa_key, ecc_key):
    rsa_public, ecc_public = parse_public(rsa_key.public), parse_public(ecc_key.public)

    assert (rsa_public.key_bits, rsa_public.curve) == (2048, None)
    assert rsa_public.scheme == TPM_ALG_RSASSA
    assert isinstance(rsa_public.key, rsa.RSAPublicKey)
    assert (ecc_public.key_bits, ecc_public.scheme, ecc_public.curve) == (None, TPM_ALG_ECDSA, 3)
    assert isinstance(ecc_public.key, ec.EllipticCurvePublicKey)
    assert ecc_public.name == b"\0\x0b" + hashlib.sha256(ecc_key.public[2:]).digest()
    check_attestation_key(rsa_public)
    check_attestation_key(ecc_public)
    check_attestation_key(parse_public(SigningKey.ecc(TPM_ECC_NIST_P384, "sha384").public))


@pytest.mark.parametrize(
    "missing",
    [
        TPMA_RESTRICTED,
        TPMA_SIGN,
        TPMA_FIXED_TPM,
        TPMA_FIXED_PARENT,
        TPMA_SENSITIVE_DATA_ORIGIN,
    ],
)
def test_B1_a_key_that_lacks_an_attribute_may_not_attest(ecc_key, missing):
    assert refusal(with_attributes(ecc_key, ATTRIBUTES & ~missing)) == "ak-attributes"


def test_B1_a_key_that_decrypts_may_not_attest(ecc_key):
    assert refusal(with_attributes(ecc_key, ATTRIBUTES | TPMA_DECRYPT)) == "ak-attributes"


def test_B1_a_short_rsa_key_may_not_attest():
    assert refusal(parse_public(SigningKey.rsa(1024).public)) == "ak-weak"


def test_B1_a_key_on_another_curve_may_not_attest(ecc_key, monkeypatch):
    from tests.lab import quotes

    # P-521 is a curve TPMs know, and that the appraisal does not take.
    monkeypatch.setitem(quotes._CURVES, 5, ec.SECP521R1())

    assert refusal(parse_public(SigningKey.ecc(5).public)) == "ak-weak"


def test_B1_a_key_without_a_scheme_of_its_own_may_not_attest(ecc_key):
    data = bytearray(ecc_key.public)
    at = data.index(b"\x00\x10\x00\x18\x00\x0b")
    without = data[: at + 2] + b"\x00\x10" + data[at + 6 :]
    without[0:2] = (len(without) - 2).to_bytes(2, "big")

    assert refusal(parse_public(bytes(without))) == "ak-scheme"


def test_B1_a_key_that_signs_with_sha1_may_not_attest(ecc_key):
    data = ecc_key.public.replace(b"\x00\x10\x00\x18\x00\x0b", b"\x00\x10\x00\x18\x00\x04")

    assert refusal(parse_public(data)) == "ak-scheme"


def test_a_public_area_that_ends_early_or_late_is_refused(rsa_key, ecc_key):
    for data in (rsa_key.public, ecc_key.public):
        for end in range(len(data)):
            with pytest.raises(FormatError):
                parse_public(data[:end])
        with pytest.raises(FormatError) as refused:
            parse_public(data + b"\0")
        assert refused.value.code == "public-trailing-bytes"


def test_a_point_that_is_not_on_the_curve_is_refused(ecc_key):
    with pytest.raises(FormatError) as refused:
        parse_public(ecc_key.public[:-1] + bytes([ecc_key.public[-1] ^ 1]))

    assert refused.value.code == "public-key"


def malformed(data):
    with pytest.raises(FormatError) as refused:
        parse_public(data)
    return refused.value.code


def test_bytes_behind_the_key_are_refused_also_inside_the_size(ecc_key):
    assert malformed(sized(ecc_key.public[2:] + b"x")) == "public-trailing-bytes"


def test_a_modulus_of_another_size_than_it_says_is_refused(rsa_key):
    modulus = rsa_key.public[-256:]
    head = rsa_key.public[2:-264]
    for bits, number in ((2040, modulus), (2048, modulus[1:]), (512, modulus[:64])):
        area = head + struct.pack(">HI", bits, 0) + sized(number)
        assert malformed(sized(area)) == "public-key"


def test_a_kdf_that_names_a_hash_is_read_past(ecc_key):
    area = bytearray(ecc_key.public[2:])
    kdf = len(area) - 2 * 34 - 2
    assert area[kdf : kdf + 2] == b"\0\x10"
    area[kdf : kdf + 2] = b"\0\x20\0\x0b"

    assert parse_public(sized(bytes(area))).key == parse_public(ecc_key.public).key


def test_A8_a_hash_or_a_curve_that_does_not_attest_verifies_nothing(ecc_key):
    public = parse_public(ecc_key.public)
    signature = parse_signature(ecc_key.sign(b"message"))
    verify_signature(public, b"message", signature)
    sha1 = replace(public, scheme_hash=4)
    with pytest.raises(SignatureError, match="does not sign"):
        verify_signature(sha1, b"message", Signature(signature.scheme, 4, r=1, s=1))
    other = replace(public, curve=5)
    with pytest.raises(SignatureError, match="do not attest"):
        verify_signature(other, b"message", signature)


def test_a_key_without_a_scheme_has_no_hash(ecc_key):
    for bank in (None, 0x12):
        with pytest.raises(FormatError) as refused:
            signing_bank(replace(parse_public(ecc_key.public), scheme_hash=bank))
        assert refused.value.code == "public-scheme"


def test_a_name_needs_a_hash_that_is_known(ecc_key):
    with pytest.raises(FormatError) as refused:
        _ = replace(parse_public(ecc_key.public), name_alg=0x12).name
    assert refused.value.code == "public-name-algorithm"
