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
"""The endorsement key: the identity its maker gave the TPM, and the certificate that says so.

Templates, NV indices and policies: TCG "EK Credential Profile for TPM Family 2.0", level 0,
sections 2.2.1.4 to 2.2.1.6 and annex B. The low range (templates L-1, L-2) is guarded by policy A,
the high range (H-1 to H-3) by policy B.
"""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tpm2_pytss import (
    ESYS_TR,
    TPM2_ALG,
    TPM2_SE,
    TPM2B_DIGEST,
    TPM2B_ENCRYPTED_SECRET,
    TPM2B_ID_OBJECT,
    TPM2B_PUBLIC,
    TPM2B_SENSITIVE_CREATE,
    TPML_DIGEST,
    TPMT_SYM_DEF,
    TSS2_Exception,
)
from tpm2_pytss.utils import NoSuchIndex, create_ek_template

from oat_trusted_filter.agent.certificates import read_certificates, split_der
from oat_trusted_filter.agent.errors import TpmError, translated
from oat_trusted_filter.agent.tpm import Tpm

LOG = logging.getLogger(__name__)

# The authority's own certificates, concatenated over as many indices as they need.
_CHAIN_FIRST = 0x01C00100
_CHAIN_LAST = 0x01C001FF

# Policy A: PolicySecret(TPM_RH_ENDORSEMENT), SHA-256.
_POLICY_A = bytes.fromhex("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa")
# Policy B is PolicyOR(policy A, policy C); these are policy C, PolicyAuthorizeNV on the index
# 0x01c07f01 (SHA-256) and 0x01c07f02 (SHA-384).
_POLICY_C = {
    int(TPM2_ALG.SHA256): bytes.fromhex(
        "3767e2edd43ff45a3a7e1eaefcef78643dca964632e7aad82c673a30d8633fde"
    ),
    int(TPM2_ALG.SHA384): bytes.fromhex(
        "d6032ce61f2fb3c240eb3cf6a33237ef2b6a16f4293c22b455e261cffd217ad5"
        "b4947c2d73e63005eed2dc2b3593d165"
    ),
}


@dataclass(frozen=True, slots=True)
class _Kind:
    """One entry of the profile's table of templates."""

    template: str
    """Name of the template in the stack."""
    certificate_index: int
    words: str


_RSA_LOW = _Kind("EK-RSA2048", 0x01C00002, "RSA-2048")
_P256_LOW = _Kind("EK-ECC256", 0x01C0000A, "P-256")
_RSA_HIGH = _Kind("EK-HIGH-RSA2048", 0x01C00012, "RSA-2048 (high range)")
_P256_HIGH = _Kind("EK-HIGH-ECC256", 0x01C00014, "P-256 (high range)")
_P384_HIGH = _Kind("EK-HIGH-ECC384", 0x01C00016, "P-384 (high range)")

#: Kinds to try for each value of [agent] ek_template, best first.
_KINDS = {
    "auto": (_RSA_LOW, _P256_LOW, _P384_HIGH, _RSA_HIGH, _P256_HIGH),
    "rsa2048": (_RSA_LOW, _RSA_HIGH),
    "p256": (_P256_LOW, _P256_HIGH),
    "p384": (_P384_HIGH,),
}


@dataclass(frozen=True, slots=True)
class EndorsementKey:
    """The endorsement key, loaded for as long as the context that yielded it is open."""

    handle: Any
    public: bytes
    """TPM2B_PUBLIC."""
    certificate: bytes | None
    """X.509, DER; None if there is none for this key."""
    intermediates: tuple[bytes, ...]
    """Certificates of the authority (DER) that came with it."""
    kind: str
    """Algorithm, for people."""
    name_algorithm: int
    auth_policy: bytes


@contextlib.contextmanager
def endorsement_key(
    tpm: Tpm, choice: str = "auto", file: Path | None = None
) -> Iterator[EndorsementKey]:
    """The endorsement key, loaded until the context ends.

    The first kind that has a certificate for its key is taken. If none has, the first kind the TPM
    can make is taken without one, and the backend decides whether an operator may vouch for it.

    :param choice: ``auto``, ``rsa2048``, ``p256`` or ``p384``.
    :param file: has the certificate, in place of the TPM.
    :raises TpmError: the TPM refused, or the certificates are for other keys.
    :raises ConfigurationError: the file has no certificate.
    """
    with contextlib.ExitStack() as stack:
        if file is None:
            yield _find(tpm, stack, choice)
        else:
            yield _find_for(tpm, stack, choice, file)


def activate(
    tpm: Tpm,
    attestation_key: Any,
    key: EndorsementKey,
    credential_blob: bytes,
    encrypted_secret: bytes,
) -> bytes:
    """TPM2_ActivateCredential: open the secret the backend made for these two keys.

    :param attestation_key: handle of the loaded attestation key.
    :param credential_blob: TPM2B_ID_OBJECT.
    :param encrypted_secret: TPM2B_ENCRYPTED_SECRET.
    :raises TpmError: ``tpm-activation`` if the secret was made for other keys or is malformed,
        else what the TPM refused.
    """
    blob = _unmarshalled(TPM2B_ID_OBJECT, credential_blob)
    secret = _unmarshalled(TPM2B_ENCRYPTED_SECRET, encrypted_secret)
    session = _policy_session(tpm, key)
    try:
        return bytes(
            tpm.esapi.activate_credential(
                attestation_key,
                key.handle,
                blob,
                secret,
                session1=ESYS_TR.PASSWORD,
                session2=session,
            )
        )
    except TSS2_Exception as error:
        raise TpmError(
            "tpm-activation",
            f"the secret from the backend cannot be opened with this TPM: {error}",
            int(error.rc),
        ) from error
    finally:
        tpm.flush(session)


def _find(tpm: Tpm, stack: contextlib.ExitStack, choice: str) -> EndorsementKey:
    kinds = _KINDS[choice]
    foreign: list[str] = []
    for kind in kinds:
        certificate = _certificate(tpm, kind)
        if certificate is None:
            continue
        with contextlib.ExitStack() as attempt:
            key = _load(tpm, attempt, kind, certificate)
            if key is not None:
                stack.push(attempt.pop_all())
                return key
        foreign.append(f"{kind.words} in NV index {kind.certificate_index:#010x}")
    if foreign:
        raise TpmError(
            "tpm-no-endorsement-key",
            "the certificates in the TPM are for other endorsement keys than it makes: "
            + ", ".join(foreign),
        )
    return _first_made(tpm, stack, kinds, None)


def _find_for(
    tpm: Tpm, stack: contextlib.ExitStack, choice: str, file: Path
) -> EndorsementKey:
    """The key the certificate in a file is for."""
    certificate, *authorities = read_certificates(file)
    key = _first_made(tpm, stack, _KINDS[choice], certificate)
    return replace(key, intermediates=(*authorities, *key.intermediates))


def _first_made(
    tpm: Tpm, stack: contextlib.ExitStack, kinds: Sequence[_Kind], certificate: bytes | None
) -> EndorsementKey:
    """The first of these keys the TPM can make, if there is a certificate the one it is for."""
    refusal: TpmError | None = None
    for kind in kinds:
        with contextlib.ExitStack() as attempt:
            try:
                key = _load(tpm, attempt, kind, certificate)
            except TpmError as error:
                if error.code in {"tpm-unreachable", "tpm-authorization", "tpm-memory"}:
                    raise
                refusal = refusal or error  # this TPM may not know the algorithm
                continue
            if key is not None:
                stack.push(attempt.pop_all())
                return key
    if certificate is None:
        why = f"the TPM makes no endorsement key: {refusal}"
    else:
        words = ", ".join(kind.words for kind in kinds)
        why = f"the certificate in [agent] ek_certificate is for none of this TPM's keys: {words}"
    raise TpmError("tpm-no-endorsement-key", why) from refusal


def _load(
    tpm: Tpm, stack: contextlib.ExitStack, kind: _Kind, certificate: bytes | None
) -> EndorsementKey | None:
    """The key of one kind, None if the certificate is for another key."""
    template = _template(tpm, kind)
    found = _persistent(tpm, stack, template, certificate)
    if found is None:
        with translated(f"making the endorsement key {kind.words}", "endorsement_password"):
            handle, public, *_ = tpm.esapi.create_primary(
                TPM2B_SENSITIVE_CREATE(), template, ESYS_TR.ENDORSEMENT
            )
        stack.callback(tpm.flush, handle)
        if certificate is not None and not _certifies(certificate, public):
            return None
        found = handle, public
    handle, public = found
    return EndorsementKey(
        handle=handle,
        public=bytes(public.marshal()),
        certificate=certificate,
        intermediates=_chain(tpm) if certificate is not None else (),
        kind=kind.words,
        name_algorithm=int(public.publicArea.nameAlg),
        auth_policy=bytes(public.publicArea.authPolicy),
    )


def _persistent(
    tpm: Tpm, stack: contextlib.ExitStack, template: TPM2B_PUBLIC, certificate: bytes | None
) -> tuple[Any, TPM2B_PUBLIC] | None:
    """An endorsement key the TPM keeps already, if it is the one the template makes."""
    wanted = _frame(template)
    for number in tpm.persistent_endorsement_keys():
        with translated(f"reading the key {number:#010x}"):
            handle = tpm.esapi.tr_from_tpmpublic(number)
            public, _, _ = tpm.esapi.read_public(handle)
        # Without a certificate nothing tells it from a key with another "unique" field.
        if certificate is not None and _frame(public) == wanted and _certifies(certificate, public):
            stack.callback(_close, tpm, handle)
            return handle, public
        _close(tpm, handle)
    return None


def _close(tpm: Tpm, handle: Any) -> None:
    with contextlib.suppress(TSS2_Exception):
        tpm.esapi.tr_close(handle)


def _frame(public: TPM2B_PUBLIC) -> tuple[int, int, int, bytes, bytes]:
    """All of a public area but the key itself."""
    area = public.publicArea
    parameters = area.parameters
    detail = parameters.rsaDetail if area.type == TPM2_ALG.RSA else parameters.eccDetail
    return (
        int(area.type),
        int(area.nameAlg),
        int(area.objectAttributes),
        bytes(area.authPolicy),
        bytes(detail.marshal()),
    )


def _certifies(certificate: bytes, public: TPM2B_PUBLIC) -> bool:
    """Whether the key stands in the certificate.

    The bytes of the key are looked for, the certificate is not decoded: makers' certificates are
    not always what strict decoders take. Whether it holds good is for the backend to say.
    """
    area = public.publicArea
    if area.type == TPM2_ALG.RSA:
        return bytes(area.unique.rsa) in certificate
    size = 48 if len(bytes(area.unique.ecc.x)) > 32 else 32
    point = bytes(area.unique.ecc.x).rjust(size, b"\0") + bytes(area.unique.ecc.y).rjust(
        size, b"\0"
    )
    return point in certificate


def _template(tpm: Tpm, kind: _Kind) -> TPM2B_PUBLIC:
    """The template of a kind; the maker may have left nonce or template of its own in the TPM."""

    def read(index: int) -> bytes:
        if index == kind.certificate_index:
            return b""  # read already
        data = tpm.read_nv(index)
        if data is None:
            raise NoSuchIndex(index)
        return data

    with translated(f"reading the template of the endorsement key {kind.words}"):
        _, template = create_ek_template(kind.template, read)
    return template


def _certificate(tpm: Tpm, kind: _Kind) -> bytes | None:
    data = tpm.read_nv(kind.certificate_index)
    if not data:
        return None
    certificates = split_der(data)
    if not certificates:
        LOG.warning("NV index %#010x holds no X.509 certificate", kind.certificate_index)
        return None
    return certificates[0]


def _chain(tpm: Tpm) -> tuple[bytes, ...]:
    parts = [tpm.read_nv(index) for index in tpm.nv_indices(_CHAIN_FIRST, _CHAIN_LAST)]
    return split_der(b"".join(part for part in parts if part))


def _policy_session(tpm: Tpm, key: EndorsementKey) -> Any:
    """A policy session that may use the endorsement key."""
    with translated("starting a session"):
        session = tpm.esapi.start_auth_session(
            tpm_key=ESYS_TR.NONE,
            bind=ESYS_TR.NONE,
            session_type=TPM2_SE.POLICY,
            symmetric=TPMT_SYM_DEF(algorithm=TPM2_ALG.NULL),
            auth_hash=TPM2_ALG(key.name_algorithm),
        )
    try:
        with translated("authorizing the endorsement key", "endorsement_password"):
            tpm.esapi.policy_secret(ESYS_TR.ENDORSEMENT, session, expiration=0)
            if key.auth_policy != _POLICY_A:
                _to_policy_b(tpm, session, key)
    except BaseException:
        tpm.flush(session)
        raise
    return session


def _to_policy_b(tpm: Tpm, session: Any, key: EndorsementKey) -> None:
    branch_c = _POLICY_C.get(key.name_algorithm)
    if branch_c is not None:
        branch_a = bytes(tpm.esapi.policy_get_digest(session))
        tpm.esapi.policy_or(session, TPML_DIGEST([TPM2B_DIGEST(branch_a), TPM2B_DIGEST(branch_c)]))
    if bytes(tpm.esapi.policy_get_digest(session)) != key.auth_policy:
        raise TpmError(
            "tpm-no-endorsement-key",
            f"the endorsement key {key.kind} is guarded by a policy that is in no TCG profile",
        )


def _unmarshalled(kind: Any, data: bytes) -> Any:
    try:
        value, used = kind.unmarshal(data)
    except (TSS2_Exception, ValueError) as error:
        raise TpmError("tpm-activation", f"the backend sent no {kind.__name__}: {error}") from error
    if used != len(data):
        raise TpmError("tpm-activation", f"the backend sent more than a {kind.__name__}")
    return value
