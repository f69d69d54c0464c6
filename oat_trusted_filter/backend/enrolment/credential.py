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
"""Credential activation: proof that one TPM holds both the endorsement and the attestation key.

A secret is encrypted to the endorsement key together with the Name of the attestation key; the TPM
gives the secret away only if it holds both. Source: TCG TPM 2.0 Library, Part 1, section
"Credential Protection"; TCG EK Credential Profile 2.5, annex B for the templates of EKs.
"""

import hashlib
import hmac

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from oat_trusted_filter.tcg.errors import FormatError
from oat_trusted_filter.tcg.public import (
    TPM_ECC_NIST_P256,
    TPM_ECC_NIST_P384,
    TPMA_DECRYPT,
    TPMA_FIXED_PARENT,
    TPMA_FIXED_TPM,
    TPMA_RESTRICTED,
    TPMA_SENSITIVE_DATA_ORIGIN,
    TPMA_SIGN,
    PublicArea,
)

SECRET_BYTES = 32

_NEEDED = (
    TPMA_RESTRICTED
    | TPMA_DECRYPT
    | TPMA_FIXED_TPM
    | TPMA_FIXED_PARENT
    | TPMA_SENSITIVE_DATA_ORIGIN
)
_MIN_RSA_BITS = 2048
_CURVES = (TPM_ECC_NIST_P256, TPM_ECC_NIST_P384)


class ActivationFailed(Exception):
    """The secret that came back is not the one that was sent."""

    code = "activation-failed"


def check_endorsement_key(public: PublicArea) -> None:
    """Refuse a key that is not an endorsement key, as far as its public area can tell.

    That a TPM made it is for the certificate or the operator to say.

    :raises FormatError: ``ek-attributes`` or ``ek-weak``.
    """
    if public.attributes & _NEEDED != _NEEDED or public.attributes & TPMA_SIGN:
        raise FormatError(
            "ek-attributes",
            "the endorsement key is not a restricted decryption key that never leaves its TPM",
        )
    if public.key_bits is not None and public.key_bits < _MIN_RSA_BITS:
        raise FormatError("ek-weak", f"an endorsement key of {public.key_bits} bits is too short")
    if public.curve is not None and public.curve not in _CURVES:
        raise FormatError("ek-weak", f"endorsement keys on curve {public.curve:#06x} are refused")


def ek_fingerprint(public: PublicArea) -> str:
    """How people name an endorsement key: SHA-256 of its SubjectPublicKeyInfo, hexadecimal."""
    spki = public.key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).hexdigest()


def ek_hash(public: PublicArea) -> str:
    """Another name of an endorsement key, as in lists of makers: SHA-256 of the key alone, in hex.

    For RSA that is RSAPublicKey (RFC 8017, A.1.1), otherwise the uncompressed point (SEC 1, 2.3.3):
    what stands in the bit string of a SubjectPublicKeyInfo.
    """
    if isinstance(public.key, rsa.RSAPublicKey):
        data = public.key.public_bytes(Encoding.DER, PublicFormat.PKCS1)
    else:
        data = public.key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return hashlib.sha256(data).hexdigest()


def make_credential(ek_public: bytes, ak_name: bytes, secret: bytes) -> tuple[bytes, bytes]:
    """Encrypt a secret for the TPM that holds both keys.

    :param ek_public: TPM2B_PUBLIC of the endorsement key.
    :param ak_name: Name of the attestation key.
    :returns: TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET.
    :raises FormatError: ``ek-unusable``, the key cannot take part.
    """
    # The only use of the TPM libraries in the backend; loading them takes a moment.
    from tpm2_pytss import TPM2B_PUBLIC  # noqa: PLC0415
    from tpm2_pytss.utils import make_credential as tpm_make_credential  # noqa: PLC0415

    try:
        public, _ = TPM2B_PUBLIC.unmarshal(ek_public)
        credential, encrypted = tpm_make_credential(public, secret, ak_name)
    except Exception as error:
        # The library raises what its parts raise: TSS2_Exception, ValueError, TypeError and more.
        raise FormatError("ek-unusable", f"the endorsement key is of no use: {error}") from error
    return bytes(credential.marshal()), bytes(encrypted.marshal())


def check_secret(expected_sha256: bytes, secret: bytes) -> None:
    """Compare the secret that came back, in constant time.

    :raises ActivationFailed: it is another one.
    """
    if not hmac.compare_digest(hashlib.sha256(secret).digest(), expected_sha256):
        raise ActivationFailed("the TPM did not return the secret: it does not hold both keys")
