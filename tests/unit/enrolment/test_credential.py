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
"""Which keys are endorsement keys, and credentials for them."""

import hashlib

import pytest

from oat_trusted_filter.backend.enrolment.credential import (
    ActivationFailed,
    check_endorsement_key,
    check_secret,
    ek_fingerprint,
    make_credential,
)
from oat_trusted_filter.tcg.errors import FormatError
from oat_trusted_filter.tcg.public import TPMA_DECRYPT, TPMA_RESTRICTED, TPMA_SIGN, parse_public
from tests.lab.quotes import ATTRIBUTES, SigningKey

EK_ATTRIBUTES = ATTRIBUTES & ~TPMA_SIGN | TPMA_DECRYPT


def refusal(public):
    with pytest.raises(FormatError) as refused:
        check_endorsement_key(public)
    return refused.value.code


@pytest.fixture(scope="module")
def key():
    return SigningKey.rsa()


def public_with(key, attributes):
    return parse_public(SigningKey(key.private, key.scheme, key.bank, attributes).public)


def test_a_restricted_decryption_key_is_an_endorsement_key(key):
    check_endorsement_key(public_with(key, EK_ATTRIBUTES))


@pytest.mark.parametrize(
    "attributes",
    [ATTRIBUTES, EK_ATTRIBUTES | TPMA_SIGN, EK_ATTRIBUTES & ~TPMA_RESTRICTED, TPMA_DECRYPT],
)
def test_B5_another_key_is_none(key, attributes):
    assert refusal(public_with(key, attributes)) == "ek-attributes"


def test_B5_a_short_key_is_none():
    assert refusal(public_with(SigningKey.rsa(1024), EK_ATTRIBUTES)) == "ek-weak"


def test_the_fingerprint_is_that_of_the_key_whatever_its_attributes(key):
    one, other = public_with(key, EK_ATTRIBUTES), public_with(key, ATTRIBUTES)

    assert ek_fingerprint(one) == ek_fingerprint(other)
    assert len(bytes.fromhex(ek_fingerprint(one))) == 32


def test_rubbish_gets_no_credential():
    with pytest.raises(FormatError) as refused:
        make_credential(b"\0\4rubb", b"\0\x0b" + bytes(32), bytes(32))

    assert refused.value.code == "ek-unusable"


@pytest.mark.parametrize("secret", [b"", b"s" * 31, b"s" * 33, b"t" * 32])
def test_B6_a_wrong_secret_is_refused(secret):
    expected = hashlib.sha256(b"s" * 32).digest()

    check_secret(expected, b"s" * 32)
    with pytest.raises(ActivationFailed) as refused:
        check_secret(expected, secret)
    assert refused.value.code == "activation-failed"
