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
"""What the backend signs, and what passes for it and what does not."""

import base64
import json
import os

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from oat_trusted_filter.backend.manage.signing_key import rotate
from oat_trusted_filter.backend.settings import StartError
from oat_trusted_filter.backend.signing import SignatureRefused, Signing, read_keys, thumbprint

SAID = {"host": "node-1", "level": "trusted", "größe": 7}


@pytest.fixture
def path(tmp_path):
    """A file with a key."""
    rotate(tmp_path / "signing.key")
    return tmp_path / "signing.key"


@pytest.fixture
def signing(path):
    """It signs with that key."""
    return Signing(path)


def refusal(signing, token, typ="thing+jws"):
    with pytest.raises(SignatureRefused) as caught:
        signing.verify(token, typ)
    return caught.value.code


def encoded(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def test_what_is_signed_is_read_back(signing):
    assert signing.verify(signing.sign(SAID, "thing+jws"), "thing+jws") == SAID


def test_anybody_can_verify_with_the_published_keys(signing):
    token = signing.sign(SAID, "thing+jws")
    keys = jwt.PyJWKSet.from_dict(signing.jwks())
    kid = jwt.get_unverified_header(token)["kid"]
    assert jwt.decode(token, keys[kid], algorithms=["ES256"]) == SAID
    assert "d" not in signing.jwks()["keys"][0]


def test_the_thumbprint_is_that_of_another_implementation():
    """RFC 7638 has no example of a curve; this value is jwcrypto's."""
    key = ec.derive_private_key(1, ec.SECP256R1()).public_key()
    assert thumbprint(key) == "xx0BcA-wMohw8atYDJOe6peGModklG2wRHBlXHMvl0M"


def test_an_old_key_verifies_and_no_longer_signs(path, signing):
    token = signing.sign(SAID, "thing+jws")
    old = signing.keys.current
    new = rotate(path)
    assert [key["kid"] for key in signing.jwks()["keys"]] == [new, old]
    assert signing.verify(token, "thing+jws") == SAID
    assert jwt.get_unverified_header(signing.sign(SAID, "thing+jws"))["kid"] == new
    assert list(read_keys(path).public) == [new, old]


@pytest.mark.parametrize("content", [None, b"", b"half a ke"])
def test_a_file_that_is_being_replaced_disturbs_nobody(path, signing, content):
    kid = signing.keys.current
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert signing.verify(signing.sign(SAID, "thing+jws"), "thing+jws") == SAID
    assert signing.keys.current == kid


def test_one_kind_does_not_pass_for_another(signing):
    assert refusal(signing, signing.sign(SAID, "other+jws")) == "token-type"


def test_changed_tokens(signing):
    header, payload, signature = signing.sign(SAID, "thing+jws").split(".")
    other = encoded({**SAID, "level": "untrusted"})
    assert refusal(signing, f"{header}.{other}.{signature}") == "token-signature-invalid"
    flipped = bytearray(base64.urlsafe_b64decode(signature + "=="))
    flipped[5] ^= 1
    wrong = base64.urlsafe_b64encode(flipped).rstrip(b"=").decode()
    assert refusal(signing, f"{header}.{payload}.{wrong}") == "token-signature-invalid"
    assert refusal(signing, f"{header}.{payload}.") == "token-signature-invalid"


def test_tokens_of_others(signing, tmp_path):
    rotate(tmp_path / "other.key")
    stranger = Signing(tmp_path / "other.key")
    assert refusal(signing, stranger.sign(SAID, "thing+jws")) == "token-key-unknown"
    kid = signing.keys.current
    headers = {"typ": "thing+jws", "kid": kid}
    forged = jwt.encode(SAID, stranger.keys.private, "ES256", headers)
    assert refusal(signing, forged) == "token-signature-invalid"


def test_algorithms_that_prove_nothing(signing):
    headers = {"typ": "thing+jws", "kid": signing.keys.current}
    assert refusal(signing, jwt.encode(SAID, None, "none", headers)) == "token-malformed"
    shown = json.dumps(signing.jwks()["keys"][0]["x"]).encode()
    assert refusal(signing, jwt.encode(SAID, shown, "HS256", headers)) == "token-malformed"


@pytest.mark.parametrize(
    "token",
    ["", ".", "..", "a.b.c", "a.b", "ä.ö.ü", "x" * 2_000_000, "\0",
     f"{encoded([])}.{encoded(1)}.AA",
     f"{encoded({'alg': 'ES256', 'typ': 'thing+jws', 'kid': ['x']})}.{encoded(1)}.AA"],
)  # fmt: skip
def test_tokens_that_are_none(signing, token):
    assert refusal(signing, token) == "token-malformed"


def test_only_objects_are_signed_content(signing):
    headers = {"typ": "thing+jws", "kid": signing.keys.current}
    token = jwt.PyJWS().encode(b"[1]", signing.keys.private, "ES256", headers)
    assert refusal(signing, token) == "token-malformed"


def other_key(kind):
    made = {
        "rsa": lambda: rsa.generate_private_key(65537, 2048),
        "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    }[kind]()
    return made.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


@pytest.mark.parametrize("kind", ["rsa", "p384"])
def test_keys_of_another_kind(path, kind):
    before = path.read_bytes()
    for content in (other_key(kind), before + other_key(kind), before + b"-----BEGIN x"):
        path.write_bytes(content)
        with pytest.raises(StartError) as caught:
            Signing(path)
        assert caught.value.code == "signing-key-invalid"


def test_no_file_and_no_permission(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(StartError) as caught:
            Signing(path)
        assert caught.value.code == "signing-key-missing"
        assert os.fspath(path) in str(caught.value)
