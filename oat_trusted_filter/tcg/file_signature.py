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
"""Signatures of files as IMA keeps them in the extended attribute ``security.ima``.

Source: Linux kernel, security/integrity/integrity.h (``struct signature_v2_hdr``),
security/integrity/digsig_asymmetric.c, include/uapi/linux/hash_info.h; evmctl of ima-evm-utils
makes them. All numbers are in the order of the network::

    type 03 | version 02 | hash algorithm, 1 byte | key identifier, 4 bytes | size, 2 bytes | ...

What is signed is the digest of the file. RSA signs with PKCS #1 v1.5, elliptic curves with ECDSA.
"""

import hashlib
import re
import struct
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

from oat_trusted_filter.tcg.errors import FormatError

_HEAD = struct.Struct(">BBBIH")
_TYPE_SIGNATURE = 3
_VERSION = 2
#: Hashes that are good enough for the digest of a file to stand for the file.
_HASHES: Mapping[int, tuple[str, hashes.HashAlgorithm]] = {
    4: ("sha256", hashes.SHA256()),
    5: ("sha384", hashes.SHA384()),
    6: ("sha512", hashes.SHA512()),
}
_MIN_RSA_BITS = 2048
_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_PEM = re.compile(r"-----BEGIN ([A-Z ]+)-----.*?-----END \1-----", re.DOTALL)

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey


class FileSignature(NamedTuple):
    """A signature as it stands in the attribute."""

    algorithm: str
    """Hash of the file, ``sha256`` for instance."""
    hash: hashes.HashAlgorithm
    key_id: int
    """Tells keys apart; it proves nothing."""
    value: bytes


def parse_file_signature(data: bytes) -> FileSignature:
    """Read the attribute.

    :raises FormatError: ``file-signature``: it is no signature of this kind.
    """
    if len(data) < _HEAD.size:
        raise FormatError("file-signature", "the signature is too short")
    kind, version, algorithm, key_id, size = _HEAD.unpack_from(data)
    if (kind, version) != (_TYPE_SIGNATURE, _VERSION):
        raise FormatError("file-signature", f"type {kind}, version {version} is not known")
    if algorithm not in _HASHES:
        raise FormatError("file-signature", f"hash algorithm {algorithm} is not accepted")
    if size != len(data) - _HEAD.size:
        raise FormatError("file-signature", "the signature has another size than it says")
    return FileSignature(*_HASHES[algorithm], key_id, data[_HEAD.size :])


class FileKeys:
    """Keys whose signature vouches for a file.

    :param pem: texts with certificates or public keys. That a certificate has expired does not
        matter, as it does not to the kernel: what was signed before stays signed.
    :raises FormatError: ``file-key``: one is neither, or its key is weak.
    """

    def __init__(self, pem: Iterable[str] = ()) -> None:
        self._by_id: dict[int, dict[str, PublicKey]] = {}
        self.names: frozenset[str] = frozenset()
        for text in pem:
            for key, key_ids in _keys(text):
                spki = key.public_bytes(
                    serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
                )
                name = hashlib.sha256(spki).hexdigest()
                self.names |= {name}
                for key_id in key_ids:
                    self._by_id.setdefault(key_id, {})[name] = key

    def signer(self, algorithm: str, digest: bytes, data: bytes) -> str | None:
        """Name of the key that signed this digest; None if none of these has.

        :param algorithm: hash of the file.
        :param data: the attribute.
        """
        try:
            signature = parse_file_signature(data)
        except FormatError:
            return None
        if (algorithm, len(digest)) != (signature.algorithm, signature.hash.digest_size):
            return None
        for name, key in self._by_id.get(signature.key_id, {}).items():
            if _verifies(key, digest, signature):
                return name
        return None


def _keys(text: str) -> list[tuple[PublicKey, set[int]]]:
    found = []
    for block in _PEM.finditer(text):
        data = block.group().encode()
        try:
            if block.group(1) == "CERTIFICATE":
                certificate = x509.load_pem_x509_certificate(data)
                key = _accepted(certificate.public_key())
                found.append((key, {_key_id(key), *_subject_key_id(certificate)}))
            else:
                key = _accepted(serialization.load_pem_public_key(data))
                found.append((key, {_key_id(key)}))
        except (ValueError, UnsupportedAlgorithm) as error:
            raise FormatError("file-key", f"not a certificate or public key: {error}") from error
    if not found:
        raise FormatError("file-key", "no certificate or public key in PEM")
    return found


def _accepted(key: object) -> PublicKey:
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= _MIN_RSA_BITS:
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, _CURVES):
        return key
    raise ValueError("the key is neither RSA with 2048 bits or more nor on P-256, P-384 or P-521")


def _key_id(key: PublicKey) -> int:
    """As evmctl makes it: the end of the SHA-1 digest of the bit string."""
    return _end(x509.SubjectKeyIdentifier.from_public_key(key).digest)


def _subject_key_id(certificate: x509.Certificate) -> list[int]:
    """As the kernel takes it from a certificate."""
    try:
        known = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except x509.ExtensionNotFound:
        return []
    return [_end(known.value.digest)]


def _end(digest: bytes) -> int:
    return int.from_bytes(digest[-4:], "big")


def _verifies(key: PublicKey, digest: bytes, signature: FileSignature) -> bool:
    prehashed = utils.Prehashed(signature.hash)
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature.value, digest, padding.PKCS1v15(), prehashed)
        else:
            key.verify(signature.value, digest, ec.ECDSA(prehashed))
    except InvalidSignature:
        return False
    return True
