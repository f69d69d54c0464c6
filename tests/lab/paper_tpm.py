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
"""A TPM on paper: keys of one, and the one command an enrolment needs. It keeps no secrets.

For what no real TPM does on demand, such as having a certificate of a certain maker.
"""

import hashlib
import hmac
import struct

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from oat_trusted_filter.backend.enrolment.credential import ek_fingerprint
from oat_trusted_filter.tcg.algorithms import BANKS
from oat_trusted_filter.tcg.public import (
    TPM_ALG_NULL,
    TPM_ALG_RSA,
    TPMA_DECRYPT,
    TPMA_SIGN,
    parse_public,
)
from tests.lab.quotes import ATTRIBUTES, SigningKey, sized

_EK_ATTRIBUTES = ATTRIBUTES & ~TPMA_SIGN | TPMA_DECRYPT
#: PolicySecret(TPM_RH_ENDORSEMENT), TCG EK Credential Profile, policy A.
_POLICY_A = bytes.fromhex("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa")
_TPM_ALG_AES, _TPM_ALG_CFB = 0x0006, 0x0043


class PaperTpm:
    """An RSA endorsement key and an attestation key."""

    def __init__(self) -> None:
        self.ek = rsa.generate_private_key(65537, 2048)
        self.ak = SigningKey.ecc()

    @property
    def ek_public(self) -> bytes:
        """TPM2B_PUBLIC of the endorsement key, template L-1."""
        modulus = self.ek.public_key().public_numbers().n.to_bytes(256, "big")
        area = struct.pack(">HHI", TPM_ALG_RSA, BANKS["sha256"], _EK_ATTRIBUTES)
        area += sized(_POLICY_A)
        area += struct.pack(">HHH", _TPM_ALG_AES, 128, _TPM_ALG_CFB)
        area += struct.pack(">HHI", TPM_ALG_NULL, 2048, 0) + sized(modulus)
        return sized(area)

    @property
    def fingerprint(self) -> str:
        """How people name the endorsement key."""
        return ek_fingerprint(parse_public(self.ek_public))

    def activate(self, credential_blob: bytes, encrypted_secret: bytes) -> bytes:
        """TPM2_ActivateCredential; TPM 2.0 Library, part 1, 24 and annex B.10.4."""
        seed = self.ek.decrypt(
            encrypted_secret[2:],
            padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), b"IDENTITY\0"),
        )
        size = int.from_bytes(credential_blob[2:4], "big")
        integrity, sealed = credential_blob[4 : 4 + size], credential_blob[4 + size :]
        name = parse_public(self.ak.public).name
        key = _kdf_a(seed, b"INTEGRITY", b"", 256)
        if not hmac.compare_digest(hmac.digest(key, sealed + name, "sha256"), integrity):
            raise ValueError("the credential is for other keys")
        cipher = Cipher(algorithms.AES(_kdf_a(seed, b"STORAGE", name, 128)), CFB(bytes(16)))
        opened = cipher.decryptor().update(sealed)
        return opened[2 : 2 + int.from_bytes(opened[:2], "big")]


def _kdf_a(key: bytes, label: bytes, context: bytes, bits: int) -> bytes:
    """KDFa with SHA-256 for at most one block (TPM 2.0 Library, part 1, 11.4.10.2)."""
    data = struct.pack(">I", 1) + label + b"\0" + context + struct.pack(">I", bits)
    return hmac.new(key, data, hashlib.sha256).digest()[: bits // 8]
