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
"""Quotes made of parts, without a TPM: for what no TPM would sign, or not on demand.

A :class:`SigningKey` has the public area of a TPM's attestation key and signs whatever it is given.
"""

import struct
from collections.abc import Sequence
from typing import Self

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from oat_trusted_filter.tcg.algorithms import BANKS, new_hash
from oat_trusted_filter.tcg.attestation import (
    TPM_GENERATED_VALUE,
    TPM_ST_ATTEST_NV,
    TPM_ST_ATTEST_QUOTE,
    PcrSelection,
)
from oat_trusted_filter.tcg.nv import TAG_INDEX
from oat_trusted_filter.tcg.pcr import PcrValues, pcr_digest
from oat_trusted_filter.tcg.public import (
    TPM_ALG_ECC,
    TPM_ALG_NULL,
    TPM_ALG_RSA,
    TPM_ECC_NIST_P256,
    TPM_ECC_NIST_P384,
    TPMA_FIXED_PARENT,
    TPMA_FIXED_TPM,
    TPMA_RESTRICTED,
    TPMA_SENSITIVE_DATA_ORIGIN,
    TPMA_SIGN,
)
from oat_trusted_filter.tcg.signature import TPM_ALG_ECDSA, TPM_ALG_RSAPSS, TPM_ALG_RSASSA

#: TPMA_OBJECT of an attestation key.
ATTRIBUTES = (
    TPMA_RESTRICTED | TPMA_SIGN | TPMA_FIXED_TPM | TPMA_FIXED_PARENT | TPMA_SENSITIVE_DATA_ORIGIN
)

_CURVES = {TPM_ECC_NIST_P256: ec.SECP256R1(), TPM_ECC_NIST_P384: ec.SECP384R1()}
_HASHES = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384()}


def sized(data: bytes) -> bytes:
    """A TPM2B."""
    return struct.pack(">H", len(data)) + data


class SigningKey:
    """A key like the attestation key of a TPM, outside of any."""

    def __init__(
        self,
        private: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey,
        scheme: int,
        bank: str = "sha256",
        attributes: int = ATTRIBUTES,
    ) -> None:
        self.private = private
        self.scheme = scheme
        self.bank = bank
        self.attributes = attributes

    @classmethod
    def ecc(cls, curve: int = TPM_ECC_NIST_P256, bank: str = "sha256") -> Self:
        """A new ECDSA key."""
        return cls(ec.generate_private_key(_CURVES[curve]), TPM_ALG_ECDSA, bank)

    @classmethod
    def rsa(cls, bits: int = 2048, scheme: int = TPM_ALG_RSASSA, bank: str = "sha256") -> Self:
        """A new RSA key."""
        return cls(rsa.generate_private_key(65537, bits), scheme, bank)

    @property
    def public(self) -> bytes:
        """TPM2B_PUBLIC."""
        if isinstance(self.private, rsa.RSAPrivateKey):
            kind = TPM_ALG_RSA
            modulus = self.private.public_key().public_numbers().n
            bits = modulus.bit_length()
            tail = struct.pack(">HI", bits, 0) + sized(modulus.to_bytes(bits // 8, "big"))
        else:
            kind = TPM_ALG_ECC
            numbers = self.private.public_key().public_numbers()
            size = (numbers.curve.key_size + 7) // 8
            curve = next(c for c, known in _CURVES.items() if known.name == numbers.curve.name)
            tail = struct.pack(">HH", curve, TPM_ALG_NULL)
            tail += sized(numbers.x.to_bytes(size, "big")) + sized(numbers.y.to_bytes(size, "big"))
        area = struct.pack(">HHI", kind, BANKS["sha256"], self.attributes) + sized(b"")
        area += struct.pack(">HHH", TPM_ALG_NULL, self.scheme, BANKS[self.bank])
        return sized(area + tail)

    def sign(self, message: bytes) -> bytes:
        """TPMT_SIGNATURE over the message."""
        head = struct.pack(">HH", self.scheme, BANKS[self.bank])
        algorithm = _HASHES[self.bank]
        if isinstance(self.private, ec.EllipticCurvePrivateKey):
            size = (self.private.curve.key_size + 7) // 8
            numbers = decode_dss_signature(self.private.sign(message, ec.ECDSA(algorithm)))
            return head + b"".join(sized(number.to_bytes(size, "big")) for number in numbers)
        how: padding.AsymmetricPadding = padding.PKCS1v15()
        if self.scheme == TPM_ALG_RSAPSS:
            how = padding.PSS(padding.MGF1(algorithm), padding.PSS.DIGEST_LENGTH)
        return head + sized(self.private.sign(message, how, algorithm))


def attest(
    nonce: bytes,
    selections: Sequence[PcrSelection],
    digest: bytes,
    *,
    magic: int = TPM_GENERATED_VALUE,
    kind: int = TPM_ST_ATTEST_QUOTE,
    clock: int = 1000,
    reset_count: int = 1,
    restart_count: int = 0,
    safe: bool = True,
    firmware_version: int = 7,
) -> bytes:
    """TPMS_ATTEST with a quote."""
    body = struct.pack(">IH", magic, kind) + sized(b"signer") + sized(nonce)
    body += struct.pack(">QIIBQ", clock, reset_count, restart_count, safe, firmware_version)
    body += struct.pack(">I", len(selections))
    for selection in selections:
        body += struct.pack(">HB", selection.algorithm, 3) + selection.mask.to_bytes(3, "little")
    return body + sized(digest)


def select(
    banks: Sequence[str], allocated: Sequence[str], pcrs: Sequence[int]
) -> list[PcrSelection]:
    """A selection of these banks, with the PCRs in those that are allocated."""
    mask = sum(1 << pcr for pcr in pcrs)
    return [PcrSelection(BANKS[bank], mask if bank in allocated else 0) for bank in banks]


def quote(
    key: SigningKey,
    nonce: bytes,
    values: PcrValues,
    selections: Sequence[PcrSelection],
    **fields: int,
) -> tuple[bytes, bytes]:
    """A quote over these values and its signature, as a TPM makes them.

    :param fields: of :func:`attest`.
    """
    digest = (
        pcr_digest(selections, values, key.bank)
        if any(selection.mask for selection in selections)
        else new_hash(key.bank).digest()
    )
    message = attest(nonce, selections, digest, **fields)
    return message, key.sign(message)


def certify(
    key: SigningKey,
    nonce: bytes,
    contents: bytes,
    *,
    name: bytes = TAG_INDEX.name,
    offset: int = 0,
    magic: int = TPM_GENERATED_VALUE,
    kind: int = TPM_ST_ATTEST_NV,
    safe: int = 1,
) -> tuple[bytes, bytes]:
    """What TPM2_NV_Certify makes of an NV index with these contents, and its signature."""
    message = struct.pack(">IH", magic, kind) + sized(b"signer") + sized(nonce)
    message += struct.pack(">QIIBQ", 1000, 1, 0, safe, 7)
    message += sized(name) + struct.pack(">H", offset) + sized(contents)
    return message, key.sign(message)
