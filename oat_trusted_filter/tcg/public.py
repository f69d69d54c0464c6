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
"""TPM2B_PUBLIC: keys of a TPM, what they may be used for, and checking their signatures.

Source: TCG TPM 2.0 Library, Part 2 (Structures), sections 12.2.4 TPMT_PUBLIC, 12.2.3.5
TPMS_RSA_PARMS, 12.2.3.6 TPMS_ECC_PARMS, 8.3 TPMA_OBJECT; Part 1, section "Names".
"""

import struct
from dataclasses import dataclass
from functools import cached_property

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from oat_trusted_filter.tcg.algorithms import BANKS, DIGESTERS, bank_name
from oat_trusted_filter.tcg.errors import AttestationKeyError, FormatError, SignatureError
from oat_trusted_filter.tcg.signature import (
    TPM_ALG_ECDSA,
    TPM_ALG_RSAPSS,
    TPM_ALG_RSASSA,
    Signature,
)

TPM_ALG_RSA = 0x0001
TPM_ALG_NULL = 0x0010
TPM_ALG_ECC = 0x0023

TPM_ECC_NIST_P256 = 0x0003
TPM_ECC_NIST_P384 = 0x0004
TPM_ECC_NIST_P521 = 0x0005

TPMA_FIXED_TPM = 1 << 1
TPMA_FIXED_PARENT = 1 << 4
TPMA_SENSITIVE_DATA_ORIGIN = 1 << 5
TPMA_RESTRICTED = 1 << 16
TPMA_DECRYPT = 1 << 17
TPMA_SIGN = 1 << 18

_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")
_HEAD = struct.Struct(">HHI")
_RSA_DEFAULT_EXPONENT = 65537
_CURVES: dict[int, ec.EllipticCurve] = {
    TPM_ECC_NIST_P256: ec.SECP256R1(),
    TPM_ECC_NIST_P384: ec.SECP384R1(),
    TPM_ECC_NIST_P521: ec.SECP521R1(),
}
#: Order of the group, which r and s of a signature must be below (FIPS 186-4, D.1.2).
_ORDERS = {
    TPM_ECC_NIST_P256: 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    TPM_ECC_NIST_P384: int(
        "ffffffffffffffffffffffffffffffffffffffffffffffff"
        "c7634d81f4372ddf581a0db248b0a77aecec196accc52973",
        16,
    ),
}
_HASHES: dict[int, hashes.HashAlgorithm] = {
    BANKS["sha256"]: hashes.SHA256(),
    BANKS["sha384"]: hashes.SHA384(),
    BANKS["sha512"]: hashes.SHA512(),
}
_ECDSA = {number: ec.ECDSA(algorithm) for number, algorithm in _HASHES.items()}
_SCHEMES_WITH_HASH = frozenset({TPM_ALG_RSASSA, TPM_ALG_RSAPSS, TPM_ALG_ECDSA})
_SCHEMES = {
    TPM_ALG_RSA: frozenset({TPM_ALG_RSASSA, TPM_ALG_RSAPSS}),
    TPM_ALG_ECC: frozenset({TPM_ALG_ECDSA}),
}
_MIN_RSA_BITS = 2048
_MAX_RSA_BITS = 4096


@dataclass(frozen=True)
class PublicArea:
    """The public part of a TPM's key."""

    raw: bytes
    """TPMT_PUBLIC, without the size in front of it."""
    type: int
    """TPM_ALG_RSA or TPM_ALG_ECC."""
    name_alg: int
    attributes: int
    """TPMA_OBJECT."""
    auth_policy: bytes
    scheme: int | None
    """Signing scheme, None if the key has none of its own."""
    scheme_hash: int | None
    curve: int | None
    """TPM_ECC_CURVE of an ECC key."""
    key_bits: int | None
    """Size of an RSA key in bits."""
    key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey

    @cached_property
    def name(self) -> bytes:
        """The Name of the object: its nameAlg and the digest of its public area."""
        bank = bank_name(self.name_alg)
        if bank is None:
            raise FormatError("public-name-algorithm", f"name algorithm {self.name_alg:#06x}")
        return _U16.pack(self.name_alg) + DIGESTERS[bank](self.raw)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.offset = 0

    def u16(self) -> int:
        (value,) = _U16.unpack_from(self._data, self.offset)
        self.offset += 2
        return int(value)

    def u32(self) -> int:
        (value,) = _U32.unpack_from(self._data, self.offset)
        self.offset += 4
        return int(value)

    def sized(self) -> bytes:
        size = self.u16()
        end = self.offset + size
        if end > len(self._data):
            raise FormatError(
                "public-truncated", f"a field of {size} bytes goes beyond the public area"
            )
        value = self._data[self.offset : end]
        self.offset = end
        return value


def parse_public(data: bytes) -> PublicArea:
    """Take the public area of an RSA or ECC key apart.

    :param data: the bytes of TPM2B_PUBLIC.
    :raises FormatError: ``public-truncated``, ``public-trailing-bytes``, ``public-type``,
        ``public-name-algorithm``, ``public-scheme`` or ``public-key``.
    """
    try:
        return _parse(data)
    except struct.error:
        raise FormatError("public-truncated", "the public area ends inside a field") from None


def _parse(data: bytes) -> PublicArea:
    (size,) = _U16.unpack_from(data, 0)
    if size > len(data) - 2:
        raise FormatError("public-truncated", f"a public area of {size} bytes is cut off")
    if size < len(data) - 2:
        raise FormatError("public-trailing-bytes", "bytes are left over after the public area")
    area = data[2:]
    kind, name_alg, attributes = _HEAD.unpack_from(area, 0)
    if kind not in _SCHEMES:
        raise FormatError("public-type", f"a key of type {kind:#06x} is neither RSA nor ECC")
    if bank_name(name_alg) is None:
        raise FormatError("public-name-algorithm", f"name algorithm {name_alg:#06x} is not known")
    reader = _Reader(area)
    reader.offset = _HEAD.size
    auth_policy = reader.sized()
    _skip_symmetric(reader)
    scheme, scheme_hash = _scheme(reader)
    key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey
    curve = key_bits = None
    if kind == TPM_ALG_RSA:
        key_bits, key = _rsa_key(reader)
    else:
        curve, key = _ecc_key(reader)
    if reader.offset != len(area):
        raise FormatError("public-trailing-bytes", "bytes are left over after the public area")
    return PublicArea(
        area, kind, name_alg, attributes, auth_policy, scheme, scheme_hash, curve, key_bits, key
    )


def _skip_symmetric(reader: _Reader) -> None:
    """TPMT_SYM_DEF_OBJECT: algorithm, and for a real one key size and mode."""
    if reader.u16() != TPM_ALG_NULL:
        reader.u32()


def _scheme(reader: _Reader) -> tuple[int | None, int | None]:
    scheme = reader.u16()
    if scheme == TPM_ALG_NULL:
        return None, None
    if scheme not in _SCHEMES_WITH_HASH:
        raise FormatError("public-scheme", f"key scheme {scheme:#06x} is not known")
    return scheme, reader.u16()


def _rsa_key(reader: _Reader) -> tuple[int, rsa.RSAPublicKey]:
    key_bits = reader.u16()
    exponent = reader.u32() or _RSA_DEFAULT_EXPONENT
    modulus = int.from_bytes(reader.sized(), "big")
    if modulus.bit_length() != key_bits or not 1024 <= key_bits <= _MAX_RSA_BITS:
        raise FormatError("public-key", f"the RSA key does not have {key_bits} bits")
    try:
        return key_bits, rsa.RSAPublicNumbers(exponent, modulus).public_key()
    except ValueError as error:
        raise FormatError("public-key", f"the RSA key is not valid: {error}") from error


def _ecc_key(reader: _Reader) -> tuple[int, ec.EllipticCurvePublicKey]:
    curve = reader.u16()
    if reader.u16() != TPM_ALG_NULL:
        # Every KDF scheme there is names a hash.
        reader.u16()
    x = int.from_bytes(reader.sized(), "big")
    y = int.from_bytes(reader.sized(), "big")
    if curve not in _CURVES:
        raise FormatError("public-key", f"elliptic curve {curve:#06x} is not known")
    try:
        return curve, ec.EllipticCurvePublicNumbers(x, y, _CURVES[curve]).public_key()
    except ValueError as error:
        raise FormatError("public-key", f"the point is not on its curve: {error}") from error


def check_attestation_key(public: PublicArea) -> None:
    """Refuse a key that could sign something the TPM did not make itself, or that is weak.

    1. Attributes: restricted, sign, fixedTPM, fixedParent and sensitiveDataOrigin are set, decrypt
       is not. A restricted signing key signs no external data that begins with the TPM's magic.
    2. Strength: RSA of at least 2048 bits, or NIST P-256 or P-384.
    3. Scheme: RSASSA, RSAPSS or ECDSA, as fits the key, with SHA-256 or SHA-384.

    :raises AttestationKeyError: ``ak-attributes``, ``ak-weak`` or ``ak-scheme``.
    """
    needed = {
        "restricted": TPMA_RESTRICTED,
        "sign": TPMA_SIGN,
        "fixedTPM": TPMA_FIXED_TPM,
        "fixedParent": TPMA_FIXED_PARENT,
        "sensitiveDataOrigin": TPMA_SENSITIVE_DATA_ORIGIN,
    }
    missing = [name for name, bit in needed.items() if not public.attributes & bit]
    if missing:
        raise AttestationKeyError("ak-attributes", f"the key is not {', '.join(missing)}")
    if public.attributes & TPMA_DECRYPT:
        raise AttestationKeyError("ak-attributes", "the key may decrypt")
    if public.key_bits is not None and public.key_bits < _MIN_RSA_BITS:
        raise AttestationKeyError("ak-weak", f"an RSA key of {public.key_bits} bits is too short")
    if public.curve is not None and public.curve not in _ORDERS:
        raise AttestationKeyError("ak-weak", f"elliptic curve {public.curve:#06x} is not accepted")
    if public.scheme not in _SCHEMES[public.type]:
        raise AttestationKeyError("ak-scheme", "the key has no signing scheme of its own")
    if public.scheme_hash not in (BANKS["sha256"], BANKS["sha384"]):
        raise AttestationKeyError("ak-scheme", "the key's scheme uses neither SHA-256 nor SHA-384")


def verify_signature(public: PublicArea, message: bytes, signature: Signature) -> None:
    """Check that this key signed this message, with its own scheme and hash.

    :raises SignatureError: it did not.
    """
    if (signature.scheme, signature.hash_algorithm) != (public.scheme, public.scheme_hash):
        raise SignatureError("the signature has another scheme or hash than the key")
    algorithm = _HASHES.get(signature.hash_algorithm)
    if algorithm is None:
        raise SignatureError(f"hash {signature.hash_algorithm:#06x} does not sign")
    try:
        if isinstance(public.key, rsa.RSAPublicKey):
            public.key.verify(
                signature.rsa or b"", message, _rsa_padding(signature, algorithm), algorithm
            )
        else:
            how = _ECDSA[signature.hash_algorithm]
            public.key.verify(_dss(public, signature), message, how)
    except InvalidSignature:
        raise SignatureError("the signature was not made by this key over this message") from None


def _rsa_padding(
    signature: Signature, algorithm: hashes.HashAlgorithm
) -> padding.PKCS1v15 | padding.PSS:
    if signature.scheme == TPM_ALG_RSASSA:
        return padding.PKCS1v15()
    # The salt is as long as the digest on FIPS TPMs and as long as fits on others (Part 1, B.7).
    return padding.PSS(padding.MGF1(algorithm), padding.PSS.AUTO)


def _dss(public: PublicArea, signature: Signature) -> bytes:
    order = _ORDERS.get(public.curve or 0)
    if order is None:
        raise SignatureError("keys on this curve do not attest")
    if not (0 < signature.r < order and 0 < signature.s < order):
        raise SignatureError("r or s of the signature is out of range")
    return encode_dss_signature(signature.r, signature.s)


def signing_bank(public: PublicArea) -> str:
    """Name of the hash the key signs with, which is also the hash over the PCRs in a quote.

    :raises FormatError: ``public-scheme``, the key has no scheme of its own.
    """
    bank = bank_name(public.scheme_hash) if public.scheme_hash is not None else None
    if bank is None:
        raise FormatError("public-scheme", "the key has no signing scheme of its own")
    return bank
