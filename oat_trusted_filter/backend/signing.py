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
"""What the backend signs so that others can show it: compact JWS (RFC 7515) with ES256 (RFC 7518).

One file holds the private key, followed by the public keys of those it has replaced, newest first:
what an old key has signed stays provable. The file is read again when it has been changed, so a key
is rotated without a restart. A key is named by its thumbprint (RFC 7638).
"""

import base64
import datetime
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from jwt.algorithms import ECAlgorithm
from jwt.api_jws import PyJWS

from oat_trusted_filter.backend.settings import StartError
from oat_trusted_filter.backend.watched import WatchedFile

ALGORITHM = "ES256"
_BEGIN = b"-----BEGIN "
_LONGEST_TOKEN = 1024 * 1024
_BEGINNING = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
_NO_END = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)

_JWS = PyJWS(algorithms=[ALGORITHM])


class SignatureRefused(Exception):
    """A token does not prove what it says.

    :param code: ``token-malformed``, ``token-type``, ``token-key-unknown`` or
        ``token-signature-invalid``.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Keys:
    """The key that signs, and all that verify."""

    private: ec.EllipticCurvePrivateKey
    public: Mapping[str, ec.EllipticCurvePublicKey]
    """By thumbprint, the one that signs first and then from the newest to the oldest."""

    @property
    def current(self) -> str:
        """Thumbprint of the key that signs."""
        return next(iter(self.public))

    @property
    def certificate(self) -> x509.Certificate:
        """The key that signs as a certificate, for those who take keys in no other form.

        It is signed by the key itself, so it proves nothing: it is known by where it was got. It
        has no end of its own (:rfc:`5280`, section 4.1.2.5) and is the same whoever makes it.
        """
        name = x509.Name(
            [x509.NameAttribute(NameOID.COMMON_NAME, f"oat signing key {self.current}")]
        )
        key = self.private.public_key()
        identifier = x509.SubjectKeyIdentifier.from_public_key(key)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key)
            .serial_number(int.from_bytes(identifier.digest) >> 1)
            .not_valid_before(_BEGINNING)
            .not_valid_after(_NO_END)
            .add_extension(identifier, critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .sign(self.private, hashes.SHA256(), ecdsa_deterministic=True)
        )

    @classmethod
    def parse(cls, data: bytes) -> "Keys":
        """Read the contents of the file.

        :raises ValueError: they are not a private key and public keys, all of P-256, in PEM.
        """
        first, *rest = [_BEGIN + part for part in data.split(_BEGIN)[1:]] or [b""]
        private = serialization.load_pem_private_key(first, None)
        if not isinstance(private, ec.EllipticCurvePrivateKey):
            raise ValueError("the private key is not one of an elliptic curve")
        public = [private.public_key(), *map(_public_key, rest)]
        if any(key.curve.name != ec.SECP256R1().name for key in public):
            raise ValueError("a key is not one of P-256")
        return cls(private, {thumbprint(key): key for key in public})


def rotated(before: Keys | None) -> bytes:
    """Contents of the file with a new key.

    :param before: the keys so far; their public parts are kept.
    """
    private = ec.generate_private_key(ec.SECP256R1())
    parts = [
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    ]
    parts += [
        key.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        for key in (before.public.values() if before else ())
    ]
    return b"".join(parts)


def read_keys(path: Path) -> Keys:
    """The keys in a file.

    :raises StartError: ``signing-key-missing`` or ``signing-key-invalid``.
    """
    try:
        return Keys.parse(path.read_bytes())
    except FileNotFoundError as error:
        raise StartError(
            "signing-key-missing", f"{path} does not exist: run oat-manage --config-file FILE init"
        ) from error
    except OSError as error:
        raise StartError(
            "signing-key-missing", f"{path} cannot be read: {error.strerror}"
        ) from error  # fmt: skip
    except (ValueError, TypeError) as error:
        raise StartError("signing-key-invalid", f"{path} holds no signing key") from error


class Signing:
    """Signs and verifies with the keys of a file. Thread-safe.

    :raises StartError: ``signing-key-missing`` or ``signing-key-invalid``.
    """

    def __init__(self, path: Path) -> None:
        self._file = WatchedFile(path, read_keys)

    @property
    def keys(self) -> Keys:
        """The keys as they are in the file; those before if it is not usable at this moment."""
        return self._file.value

    def sign(self, payload: Mapping[str, Any], typ: str) -> str:
        """Sign a JSON object.

        :param typ: what kind of object it is; verified again, so one kind never passes for another.
        :returns: a compact JWS.
        """
        keys = self.keys
        return _JWS.encode(
            json.dumps(payload, separators=(",", ":"), ensure_ascii=False).encode(),
            keys.private,
            ALGORITHM,
            headers={"typ": typ, "kid": keys.current},
        )

    def verify(self, token: str, typ: str) -> Mapping[str, Any]:
        """What a token says that this backend has signed.

        :raises SignatureRefused: it proves nothing, or is of another kind.
        """
        return verify(token, typ, self.keys.public)

    def jwks(self) -> dict[str, Any]:
        """The public keys as a JWK set (RFC 7517), the one that signs first."""
        return {"keys": [_jwk(name, key) for name, key in self.keys.public.items()]}


def verify(
    token: str, typ: str, public: Mapping[str, ec.EllipticCurvePublicKey]
) -> Mapping[str, Any]:
    """What a token says, if one of these keys has signed it.

    :param public: keys by thumbprint.
    :raises SignatureRefused: it proves nothing, or is of another kind.
    """
    malformed = SignatureRefused("token-malformed", "this is no signed token of this backend")
    if len(token) > _LONGEST_TOKEN:
        raise malformed
    try:
        header = _JWS.get_unverified_header(token)
        if header.get("alg") != ALGORITHM:
            raise malformed
        if header.get("typ") != typ:
            raise SignatureRefused("token-type", f"the token is not of the type {typ}")
        key = public.get(header.get("kid", ""))
        if key is None:
            raise SignatureRefused("token-key-unknown", "the key that signed it is not known here")
        payload = json.loads(_JWS.decode(token, key, [ALGORITHM]))
    except jwt.InvalidSignatureError as error:
        raise SignatureRefused(
            "token-signature-invalid", "the signature does not fit the token"
        ) from error
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
        raise malformed from error
    if not isinstance(payload, dict):
        raise malformed
    return payload


def thumbprint(key: ec.EllipticCurvePublicKey) -> str:
    """RFC 7638, SHA-256, base64url."""
    jwk = ECAlgorithm.to_jwk(key, as_dict=True)
    members: Sequence[str] = ("crv", "kty", "x", "y")
    text = json.dumps({name: jwk[name] for name in members}, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _jwk(name: str, key: ec.EllipticCurvePublicKey) -> dict[str, Any]:
    return {**ECAlgorithm.to_jwk(key, as_dict=True), "kid": name, "alg": ALGORITHM, "use": "sig"}


def _public_key(data: bytes) -> ec.EllipticCurvePublicKey:
    key = serialization.load_pem_public_key(data)
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise ValueError("a public key is not one of an elliptic curve")
    return key
