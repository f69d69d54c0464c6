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
"""Signatures of files: those of evmctl, and those that must not pass."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from oat_trusted_filter.tcg.errors import FormatError
from oat_trusted_filter.tcg.file_signature import FileKeys, parse_file_signature
from tests.lab.file_keys import FileKey, file_digest

MADE_BY_EVMCTL = Path(__file__).resolve().parents[2] / "data" / "ima"
CONTENT = b"program"
DIGEST = file_digest(CONTENT)
KEY = FileKey.ecc()
GOOD = KEY.sign(CONTENT)


@pytest.mark.parametrize("name", ["evmctl-rsa", "evmctl-p256"])
def test_signatures_of_evmctl_are_good(name):
    keys = FileKeys([(MADE_BY_EVMCTL / f"{name}.pem").read_text()])
    signature = (MADE_BY_EVMCTL / f"{name}.sig").read_bytes()

    assert {keys.signer("sha256", DIGEST, signature)} == keys.names
    assert keys.signer("sha256", file_digest(b"another"), signature) is None


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
@pytest.mark.parametrize(
    "key",
    [FileKey.rsa(), FileKey.rsa(3072), KEY, FileKey.ecc(ec.SECP384R1()),
     FileKey.ecc(ec.SECP521R1())],
)  # fmt: skip
def test_all_kinds_of_keys_and_hashes(key, algorithm):
    keys = FileKeys([key.pem])
    signature, digest = key.sign(CONTENT, algorithm), file_digest(CONTENT, algorithm)

    assert {keys.signer(algorithm, digest, signature)} == keys.names
    assert keys.signer(algorithm, file_digest(b"another", algorithm), signature) is None
    assert keys.signer(algorithm, digest, signature[:-1] + bytes([signature[-1] ^ 1])) is None


def test_the_key_is_found_by_the_name_its_certificate_gives_it():
    named = KEY.certificate(b"twenty bytes of a nm")
    signature = KEY.sign(CONTENT, key_id=b"a nm")

    assert FileKeys([named]).signer("sha256", DIGEST, signature)
    assert FileKeys([named]).signer("sha256", DIGEST, GOOD)
    assert FileKeys([KEY.certificate()]).signer("sha256", DIGEST, GOOD)
    assert FileKeys([KEY.pem]).signer("sha256", DIGEST, signature) is None


def test_one_text_may_hold_several_keys():
    keys = FileKeys([FileKey.rsa().pem + KEY.certificate()])

    assert len(keys.names) == 2
    assert keys.signer("sha256", DIGEST, GOOD)
    assert FileKeys().signer("sha256", DIGEST, GOOD) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        GOOD[:8],
        GOOD[:-1],
        GOOD + b"\0",
        b"\2" + GOOD[1:],  # a mere digest
        b"\5" + GOOD[1:],  # EVM
        GOOD[:1] + b"\1" + GOOD[2:],
        KEY.sign(CONTENT, version=3),  # fs-verity signs something else
        KEY.sign(CONTENT, "sha1"),
        GOOD[:2] + b"\xff" + GOOD[3:],
        GOOD[:9],
    ],
)
def test_other_attributes_vouch_for_nothing(data):
    with pytest.raises(FormatError) as refused:
        parse_file_signature(data)
    assert refused.value.code == "file-signature"
    assert FileKeys([KEY.pem]).signer("sha256", DIGEST, data) is None


def test_the_hash_of_the_signature_is_that_of_the_digest():
    keys = FileKeys([KEY.pem])

    assert keys.signer("sha384", DIGEST, GOOD) is None
    assert keys.signer("sha256", DIGEST + b"\0", GOOD) is None
    assert keys.signer("sha256", DIGEST, KEY.sign(CONTENT, "sha384")) is None


def test_a_stranger_does_not_sign():
    stranger = FileKey.ecc()

    assert FileKeys([KEY.pem]).signer("sha256", DIGEST, stranger.sign(CONTENT)) is None
    forged = stranger.sign(CONTENT, key_id=KEY.key_id)
    assert FileKeys([KEY.pem]).signer("sha256", DIGEST, forged) is None


@pytest.mark.parametrize(
    "pem",
    [
        "",
        "no key",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        FileKey.rsa(1024).pem,
        FileKey.ecc(ec.SECP256K1()).pem,
        KEY.pem + "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n",
    ],
)
def test_what_is_no_key_or_a_weak_one_is_refused(pem):
    with pytest.raises(FormatError) as refused:
        FileKeys([pem])
    assert refused.value.code == "file-key"


@given(st.binary(max_size=100))
def test_D8_whatever_the_bytes_the_answer_is_no(data):
    for attribute in (data, GOOD[:9] + data, GOOD + data):
        if attribute != GOOD:
            assert FileKeys([KEY.pem]).signer("sha256", DIGEST, attribute) is None
