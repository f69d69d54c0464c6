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
"""Endorsement key certificates: whether a TPM's maker vouches for its key.

Source: TCG EK Credential Profile for TPM Family 2.0, 2.5, section 3; RFC 5280, section 6.

1. The certificate is DER that can be read, nothing in front or behind.
2. It is an EK certificate: purpose tcg-kp-EKCertificate, not an authority, no critical extension
   that is not known here.
3. It is valid now.
4. A chain of at most four authorities, each entitled to sign, leads to one of the store.
5. None of them has revoked what it has signed, as far as there are lists (:mod:`.revocation`).
6. The TPM is one in hardware, unless software ones are allowed.

Makers' certificates are not always strict DER, so they are read with asn1crypto; signatures are
checked by cryptography over the bytes as they are.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from asn1crypto import pem, x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from oat_trusted_filter.tcg.public import PublicArea

RevocationCheck = Callable[[x509.Certificate, x509.Certificate, datetime], None]

#: tcg-kp-EKCertificate.
EK_PURPOSE = "2.23.133.8.1"
_MANUFACTURER, _MODEL = "2.23.133.2.1", "2.23.133.2.2"
#: Vendor ids (TCG Vendor ID Registry) of TPMs that are programs: IBM (libtpms, swtpm), Google,
#: Microsoft and VMware for their virtual machines.
SOFTWARE_MANUFACTURERS = frozenset({"id:00001014", "id:474F4F47", "id:4D534654", "id:564D5700"})

_KNOWN_CRITICAL = frozenset(
    {
        "authority_key_identifier",
        "basic_constraints",
        "certificate_policies",
        "extended_key_usage",
        "key_usage",
        "subject_alt_name",
        "subject_directory_attributes",
    }
)
_HASHES: dict[str, type[hashes.HashAlgorithm]] = {
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
}
_MAX_AUTHORITIES = 4
_MAX_BYTES = 16 * 1024


class CertificateRefused(Exception):
    """An endorsement key certificate, or a store of authorities, is not accepted.

    :param code: stable, for programs.
    :param message: one sentence for people.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class EkCertificate:
    """What an accepted certificate says."""

    public_key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey
    manufacturer: str
    """Vendor id, ``id:`` and eight hexadecimal digits."""
    model: str
    software: bool
    """The TPM is a program."""
    expires_at: datetime


def load_ca_store(folder: Path) -> tuple[bytes, ...]:
    """The authorities of a folder: every PEM or DER file in it, as DER.

    :raises CertificateRefused: ``ek-ca-store``, the folder or a file in it cannot be used.
    """
    found: list[bytes] = []
    try:
        paths = sorted(path for path in folder.iterdir() if path.is_file())
        for path in paths:
            found += _authorities(path.read_bytes(), path)
    except OSError as error:
        raise CertificateRefused(
            "ek-ca-store", f"{error.filename or folder}: {error.strerror}"
        ) from error
    return tuple(found)


def _authorities(data: bytes, path: Path) -> Iterator[bytes]:
    try:
        for der in der_blocks(data):
            _read(der)
            yield der
    except (CertificateRefused, ValueError) as error:
        raise CertificateRefused("ek-ca-store", f"{path} is not a certificate: {error}") from error


class Authority(NamedTuple):
    """An authority that vouches for endorsement keys."""

    subject: str
    fingerprint: str
    """SHA-256 of the certificate, hexadecimal."""
    valid_from: datetime
    valid_until: datetime


def authority(der: bytes) -> Authority:
    """What a certificate of :func:`load_ca_store` says about itself."""
    certificate = _read(der)
    return Authority(
        certificate.subject.human_friendly,
        hashlib.sha256(der).hexdigest(),
        certificate.not_valid_before,
        certificate.not_valid_after,
    )


def der_blocks(data: bytes) -> list[bytes]:
    """What is in a file, be it DER or PEM.

    :raises ValueError: it is broken PEM.
    """
    if not pem.detect(data):
        return [data]
    return [der for _, _, der in pem.unarmor(data, multiple=True)]


def verify_ek_certificate(
    der: bytes,
    intermediates: Sequence[bytes],
    ca_store: Sequence[bytes],
    now: datetime,
    *,
    allow_software_tpm: bool,
    allow_expired: bool = False,
    check_revocation: RevocationCheck | None = None,
) -> EkCertificate:
    """Check the certificate of an endorsement key.

    :param der: the certificate.
    :param intermediates: authorities the TPM's maker left beside it; nobody vouches for them yet.
    :param ca_store: authorities the operator trusts, DER.
    :param now: with a time zone.
    :param allow_expired: an operator's word for this one: its end counts for nothing.
    :param check_revocation: of a certificate and its issuer; None: there are no lists.
    :raises CertificateRefused: ``ek-certificate-malformed``, ``ek-certificate-purpose``,
        ``ek-certificate-critical-extension``, ``ek-certificate-expired``,
        ``ek-certificate-untrusted``, ``ek-software-tpm`` or what ``check_revocation`` raises.
    """
    leaf = _read(der)  # 1
    _check_purpose(leaf)  # 2
    if not allow_expired:
        _check_valid(leaf, now)  # 3
    chain = _chain(leaf, intermediates, ca_store, now, allow_expired=allow_expired)  # 4
    if check_revocation is not None:
        for certificate, issuer in pairwise(chain):  # 5
            check_revocation(certificate, issuer, now)
    names = _tpm_names(leaf)
    manufacturer = names.get(_MANUFACTURER, "")
    software = manufacturer.upper().replace("ID:", "id:") in SOFTWARE_MANUFACTURERS
    if software and not allow_software_tpm:  # 6
        raise CertificateRefused(
            "ek-software-tpm",
            f"the TPM is a program ({names.get(_MODEL) or manufacturer}), and [attestation] "
            "allow_software_tpm is not set",
        )
    return EkCertificate(
        public_key=_public_key(leaf),
        manufacturer=manufacturer,
        model=names.get(_MODEL, ""),
        software=software,
        expires_at=leaf.not_valid_after,
    )


def check_certifies(certificate: EkCertificate, public: PublicArea) -> None:
    """Check that the certificate is for this key.

    :raises CertificateRefused: ``ek-certificate-mismatch``.
    """
    if certificate.public_key.public_numbers() != public.key.public_numbers():
        raise CertificateRefused(
            "ek-certificate-mismatch", "the EK certificate is for another key than the EK"
        )


def _read(der: bytes) -> x509.Certificate:
    """Step 1. The whole structure is read now, for asn1crypto decodes a part when it is asked."""
    if len(der) > _MAX_BYTES:
        raise _malformed(f"it has {len(der)} bytes")
    try:
        certificate = x509.Certificate.load(der, strict=True)
        certificate.native  # noqa: B018
        names = [item["extn_id"].dotted for item in certificate["tbs_certificate"]["extensions"]]
        if len(names) != len(set(names)):
            raise ValueError("an extension stands there twice")
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise _malformed(str(error).splitlines()[0] if str(error) else "no DER") from error
    return certificate


def _check_purpose(leaf: x509.Certificate) -> None:
    """Step 2."""
    purposes = leaf.extended_key_usage_value
    if purposes is None or EK_PURPOSE not in [purpose.dotted for purpose in purposes]:
        raise CertificateRefused(
            "ek-certificate-purpose", f"the certificate lacks the purpose {EK_PURPOSE} of an EK's"
        )
    if leaf.ca:
        raise CertificateRefused(
            "ek-certificate-purpose", "the certificate is an authority's and not an EK's"
        )
    _check_critical(leaf)


def _check_critical(certificate: x509.Certificate) -> None:
    unknown = certificate.critical_extensions - _KNOWN_CRITICAL
    if unknown:
        raise CertificateRefused(
            "ek-certificate-critical-extension",
            f"{_name(certificate)} has critical extensions that are not known: "
            f"{', '.join(sorted(unknown))}",
        )


def _check_valid(certificate: x509.Certificate, now: datetime) -> None:
    """Step 3."""
    if not certificate.not_valid_before <= now <= certificate.not_valid_after:
        raise CertificateRefused(
            "ek-certificate-expired",
            f"{_name(certificate)} is valid from {certificate.not_valid_before} "
            f"to {certificate.not_valid_after}",
        )


def _chain(
    leaf: x509.Certificate,
    intermediates: Sequence[bytes],
    ca_store: Sequence[bytes],
    now: datetime,
    *,
    allow_expired: bool,
) -> list[x509.Certificate]:
    """Step 4: depth first over all issuers of the right name.

    :returns: the certificate, and the authorities up to one of the store.
    """
    trusted = set(ca_store)
    pool = [_read(der) for der in (*ca_store, *intermediates[:_MAX_AUTHORITIES])]
    tried: set[int] = set()

    def path_from(certificate: x509.Certificate, below: int) -> list[x509.Certificate] | None:
        for number, issuer in enumerate(pool):
            if number in tried or issuer.subject != certificate.issuer:
                continue
            tried.add(number)
            if not _may_sign(issuer, below) or not _signed(certificate, issuer):
                continue
            _check_critical(issuer)
            if not allow_expired:
                _check_valid(issuer, now)
            if issuer.dump() in trusted:
                return [certificate, issuer]
            above = path_from(issuer, below + 1) if below + 1 < _MAX_AUTHORITIES else None
            if above is not None:
                return [certificate, *above]
        return None

    path = path_from(leaf, 0)
    if path is None:
        raise CertificateRefused(
            "ek-certificate-untrusted",
            f"no authority of [attestation] ek_ca_dir vouches for {_name(leaf)}, issued by "
            f"{leaf.issuer.human_friendly}",
        )
    return path


def _may_sign(issuer: x509.Certificate, below: int) -> bool:
    """Whether this is an authority, with ``below`` others between it and the EK's certificate."""
    if not issuer.ca:
        return False
    longest = issuer.max_path_length
    if longest is not None and below > longest:
        return False
    usage = issuer.key_usage_value
    return usage is None or "key_cert_sign" in usage.native


def _signed(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    algorithm = certificate["signature_algorithm"]
    try:
        digest = _HASHES[algorithm.hash_algo]()
        key: Any = load_der_public_key(issuer.public_key.dump())
        signature = certificate["signature_value"].native
        signed = certificate["tbs_certificate"].dump()
        match algorithm.signature_algo:
            case "rsassa_pkcs1v15":
                key.verify(signature, signed, padding.PKCS1v15(), digest)
            case "rsassa_pss":
                pss = padding.PSS(padding.MGF1(digest), padding.PSS.AUTO)
                key.verify(signature, signed, pss, digest)
            case "ecdsa":
                key.verify(signature, signed, ec.ECDSA(digest))
            case _:
                return False
    except (
        InvalidSignature, UnsupportedAlgorithm, KeyError, ValueError, TypeError, AttributeError
    ):  # fmt: skip
        # Also a hash that is too weak, or a key of another kind than the signature.
        return False
    return True


def _public_key(leaf: x509.Certificate) -> rsa.RSAPublicKey | ec.EllipticCurvePublicKey:
    try:
        if leaf.public_key.algorithm in ("rsa", "rsaes_oaep"):
            # Some makers say RSAES-OAEP, which says what the key is for; the key is the same.
            numbers = leaf.public_key["public_key"].parsed
            return rsa.RSAPublicNumbers(
                numbers["public_exponent"].native, numbers["modulus"].native
            ).public_key()
        key = load_der_public_key(leaf.public_key.dump())
    except (ValueError, TypeError, KeyError, UnsupportedAlgorithm) as error:
        raise _malformed(f"its key cannot be read: {error}") from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise _malformed("its key is neither RSA nor on an elliptic curve")
    return key


def _tpm_names(leaf: x509.Certificate) -> dict[str, str]:
    """Manufacturer, model and version from the subject alternative name, by object identifier."""
    found: dict[str, str] = {}
    for general_name in leaf.subject_alt_name_value or ():
        if general_name.name != "directory_name":
            continue
        for part in general_name.chosen.chosen:
            for attribute in part:
                found[attribute["type"].dotted] = str(attribute["value"].native)
    return found


def _name(certificate: x509.Certificate) -> str:
    return f"the certificate of {certificate.subject.human_friendly or 'an unnamed TPM'}"


def _malformed(why: str) -> CertificateRefused:
    return CertificateRefused("ek-certificate-malformed", f"the certificate cannot be read: {why}")
