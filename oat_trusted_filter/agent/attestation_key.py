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
"""The attestation key: a primary key of the endorsement hierarchy from a fixed template.

It is the same one at every start, so there is nothing to store and nothing to lose. In this
hierarchy quotes carry the true resetCount, restartCount and firmwareVersion; in the others the
TPM obfuscates them.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tpm2_pytss import (
    ESYS_TR,
    TPM2_ALG,
    TPM2_ECC,
    TPM2B_PUBLIC,
    TPM2B_SENSITIVE_CREATE,
    TPMA_OBJECT,
    TPMS_ECC_PARMS,
    TPMS_ECC_POINT,
    TPMS_RSA_PARMS,
    TPMT_ECC_SCHEME,
    TPMT_KDF_SCHEME,
    TPMT_PUBLIC,
    TPMT_RSA_SCHEME,
    TPMT_SYM_DEF_OBJECT,
    TPMU_ASYM_SCHEME,
    TPMU_PUBLIC_ID,
    TPMU_PUBLIC_PARMS,
    TSS2_Exception,
)

from oat_trusted_filter.agent.errors import translated
from oat_trusted_filter.agent.tpm import Tpm

#: NODA: a TPM locked after wrong passwords can still say what it booted.
ATTRIBUTES = (
    TPMA_OBJECT.FIXEDTPM
    | TPMA_OBJECT.FIXEDPARENT
    | TPMA_OBJECT.SENSITIVEDATAORIGIN
    | TPMA_OBJECT.USERWITHAUTH
    | TPMA_OBJECT.NODA
    | TPMA_OBJECT.RESTRICTED
    | TPMA_OBJECT.SIGN_ENCRYPT
)

# Part of the template, so that no other program's primary key is this one. Never change it: the
# key would be another, and every host would have to enrol again.
_LABEL = b"oat-trusted-filter AK 1".ljust(32, b"\0")


@dataclass(frozen=True, slots=True)
class _Kind:
    """What the key signs with. A field of the template as well: never change one."""

    scheme: TPM2_ALG
    hash: TPM2_ALG
    size: int
    """Bits of an RSA key, TPM2_ECC of an elliptic curve."""


#: By the values of [agent] ak_algorithm.
_KINDS = {
    "ecc": _Kind(TPM2_ALG.ECDSA, TPM2_ALG.SHA256, TPM2_ECC.NIST_P256),
    "ecc-p384": _Kind(TPM2_ALG.ECDSA, TPM2_ALG.SHA384, TPM2_ECC.NIST_P384),
    "rsa": _Kind(TPM2_ALG.RSASSA, TPM2_ALG.SHA256, 2048),
    "rsa-3072": _Kind(TPM2_ALG.RSASSA, TPM2_ALG.SHA384, 3072),
    "rsapss": _Kind(TPM2_ALG.RSAPSS, TPM2_ALG.SHA256, 2048),
    "rsapss-3072": _Kind(TPM2_ALG.RSAPSS, TPM2_ALG.SHA384, 3072),
}


@dataclass(frozen=True, slots=True)
class AttestationKey:
    """The attestation key, loaded for as long as the context that yielded it is open."""

    handle: Any
    public: bytes
    """TPM2B_PUBLIC."""


class AttestationKeyCache:
    """The attestation key as the TPM itself wrapped it (TPM2_ContextSave), kept in memory.

    Making an RSA key takes a hardware TPM seconds, loading it back milliseconds. The wrapped key
    is worthless after the next TPM reset; :func:`attestation_key` then makes it anew.
    """

    def __init__(self) -> None:
        self.algorithm = ""
        self.context: Any = None
        self.public = b""


@contextlib.contextmanager
def attestation_key(
    tpm: Tpm, algorithm: str, cache: AttestationKeyCache | None = None
) -> Iterator[AttestationKey]:
    """The attestation key, loaded until the context ends.

    :param algorithm: one of the values of [agent] ak_algorithm.
    :param cache: remembers the key from one connection to the next.
    :raises TpmError: the TPM refused.
    """
    cache = cache or AttestationKeyCache()
    handle = _load(tpm, algorithm, cache)
    if handle is None:
        handle = _make(tpm, algorithm, cache)
    try:
        yield AttestationKey(handle, cache.public)
    finally:
        tpm.flush(handle)


def _load(tpm: Tpm, algorithm: str, cache: AttestationKeyCache) -> Any:
    if cache.context is None or cache.algorithm != algorithm:
        return None
    try:
        return tpm.esapi.context_load(cache.context)
    except TSS2_Exception:
        # A TPM reset, a firmware update or another TPM: all healed by making the key anew.
        cache.context = None
        return None


def _make(tpm: Tpm, algorithm: str, cache: AttestationKeyCache) -> Any:
    with translated("making the attestation key", "endorsement_password"):
        handle, public, *_ = tpm.esapi.create_primary(
            TPM2B_SENSITIVE_CREATE(), _template(algorithm), ESYS_TR.ENDORSEMENT
        )
    cache.algorithm = algorithm
    cache.public = bytes(public.marshal())
    cache.context = None
    with contextlib.suppress(TSS2_Exception):  # only saves time
        cache.context = tpm.esapi.context_save(handle)
    return handle


def _template(algorithm: str) -> TPM2B_PUBLIC:
    """The fixed template of the attestation key; see :data:`_LABEL` before changing it."""
    kind = _KINDS[algorithm]
    no_symmetric = TPMT_SYM_DEF_OBJECT(algorithm=TPM2_ALG.NULL)
    details = TPMU_ASYM_SCHEME()
    details.anySig.hashAlg = kind.hash
    if kind.scheme == TPM2_ALG.ECDSA:
        parameters = TPMU_PUBLIC_PARMS(
            eccDetail=TPMS_ECC_PARMS(
                symmetric=no_symmetric,
                scheme=TPMT_ECC_SCHEME(scheme=kind.scheme, details=details),
                curveID=kind.size,
                kdf=TPMT_KDF_SCHEME(scheme=TPM2_ALG.NULL),
            )
        )
        unique = TPMU_PUBLIC_ID(ecc=TPMS_ECC_POINT(x=_LABEL, y=bytes(32)))
    else:
        parameters = TPMU_PUBLIC_PARMS(
            rsaDetail=TPMS_RSA_PARMS(
                symmetric=no_symmetric,
                scheme=TPMT_RSA_SCHEME(scheme=kind.scheme, details=details),
                keyBits=kind.size,
            )
        )
        unique = TPMU_PUBLIC_ID(rsa=_LABEL)
    return TPM2B_PUBLIC(
        publicArea=TPMT_PUBLIC(
            type=TPM2_ALG.ECC if kind.scheme == TPM2_ALG.ECDSA else TPM2_ALG.RSA,
            nameAlg=kind.hash,
            objectAttributes=ATTRIBUTES,
            parameters=parameters,
            unique=unique,
        )
    )
