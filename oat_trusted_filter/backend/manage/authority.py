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
"""The backend's own certificate authority and the certificate of its server.

Agents and schedulers get the CA certificate by hand, so there is nothing the authority could say
about others: it signs server certificates for names, and no further authorities.
"""

import datetime
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from oat_trusted_filter.backend.manage.files import PUBLIC, SECRET, read_file, write_file
from oat_trusted_filter.backend.settings import StartError

LIFETIME = datetime.timedelta(days=3652)
#: Clocks of other machines may be this much behind.
_BACKDATED = datetime.timedelta(days=1)
#: A server certificate with less than this left is made anew.
_RENEW = datetime.timedelta(days=90)
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_DNS_NAME = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?:\.(?!-)[A-Za-z0-9-]{1,63})*")
_COMMON_NAME_LONGEST = 64
_CA = "ca"
#: The new authority, vouched for by the one it has replaced.
_CROSS = "ca-cross.pem"
_SERVER = "server"


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def ensure(folder: Path, names: Sequence[str], now: datetime.datetime) -> list[Path]:
    """Make what is missing of ``ca.pem``, ``ca.key``, ``server.pem`` and ``server.key``.

    The authority is never replaced, nor is a server certificate somebody else has signed. One of
    our own is, if it lacks one of the names or is about to expire.

    :param names: host names and addresses clients use, beside those of the loopback interface.
    :returns: the files that were written.
    :raises StartError: ``configuration`` for a name that is none, ``tls-file-invalid`` or
        ``tls-file-missing`` if the authority is there and cannot be used,
        ``state-dir-unwritable``.
    """
    wanted = list(dict.fromkeys([*map(_checked, names), *_LOOPBACK]))
    written = []
    ca = _load_authority(folder)
    if ca is None:
        ca = _new_authority(now)
        written += _store(folder, _CA, ca)
    known = _load_server(folder)
    if known is None or (_ours(known, ca) and not _good(known, ca, wanted, now)):
        kept = [] if known is None else certificate_names(known)
        server = _new_server(ca, list(dict.fromkeys([*wanted, *kept])), now)
        written += _store(folder, _SERVER, server, _cross(folder))
    return written


def rotate(folder: Path, now: datetime.datetime) -> list[Path]:
    """Let a new authority take over, so that nobody notices.

    The old one vouches for the new one with its last signature; the server shows that with its own
    certificate. So whoever knows only the old authority trusts the server as before, and whoever
    gets the new ``ca.pem``, which holds both, trusts it without the old one. Both authorities have
    the same name, for the old one may sign for no authority but itself.

    :returns: the files that were written.
    :raises StartError: ``tls-file-missing`` or ``tls-file-invalid``: there is no authority, it has
        been rotated and not retired yet, or the server has a certificate of somebody else.
    """
    old = _load_authority(folder)
    server = _load_server(folder)
    if old is None or server is None or not _ours(server, old):
        raise StartError(
            "tls-file-missing", f"{folder} holds no authority that has signed for the server"
        )
    if _cross(folder):
        raise StartError(
            "tls-file-invalid",
            f"{folder / _CROSS} is there: the last rotation has not been ended with ca retire",
        )
    new = _new_authority(now)
    vouched = _authority_certificate(new.key, old, min(now + LIFETIME, _end(old)), now)
    leaf = _new_server(new, certificate_names(server), now)
    write_file(folder / _CROSS, vouched.public_bytes(serialization.Encoding.PEM), PUBLIC)
    return [
        folder / _CROSS,
        *_store(folder, _SERVER, leaf, [vouched]),
        *_store(folder, _CA, new, [old.certificate]),
    ]


def retire(folder: Path) -> list[Path]:
    """Forget the authority that was replaced: whoever knows only that one is locked out now.

    :returns: the files that were written.
    :raises StartError: ``tls-file-missing``, none was replaced.
    """
    ca, server = _load_authority(folder), _load_server(folder)
    if ca is None or server is None or not _cross(folder):
        raise StartError("tls-file-missing", f"{folder / _CROSS} is not there: nothing to retire")
    paths = []
    for name, certificate in ((_SERVER, server), (_CA, ca.certificate)):
        paths.append(folder / f"{name}.pem")
        write_file(paths[-1], certificate.public_bytes(serialization.Encoding.PEM), PUBLIC)
    (folder / _CROSS).unlink()
    return paths


def fingerprint(folder: Path) -> str:
    """SHA-256 of the authority's certificate, for ``[agent] ca_fingerprint``.

    :raises StartError: ``tls-file-missing`` or ``tls-file-invalid``.
    """
    ca = _load_authority(folder)
    if ca is None:
        raise StartError("tls-file-missing", f"{folder} holds no authority; run init")
    return ca.certificate.fingerprint(hashes.SHA256()).hex()


def _cross(folder: Path) -> list[x509.Certificate]:
    data = read_file(folder / _CROSS)
    return [] if data is None else x509.load_pem_x509_certificates(data)


def _end(pair: Pair) -> datetime.datetime:
    return pair.certificate.not_valid_after_utc


def _checked(name: str) -> str:
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        if len(name) <= 253 and _DNS_NAME.fullmatch(name):
            return name.lower()
    raise StartError("configuration", f"{name!r} is neither a host name nor an address")


def _load_authority(folder: Path) -> Pair | None:
    certificate, key = (read_file(folder / f"{_CA}.{kind}") for kind in ("pem", "key"))
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        missing, there = ("pem", "key") if certificate is None else ("key", "pem")
        raise StartError(
            "tls-file-missing",
            f"{folder / _CA}.{there} is there and {_CA}.{missing} is not; bring it back, or remove "
            f"both and hand out the new {_CA}.pem",
        )
    try:
        private = serialization.load_pem_private_key(key, None)
        parsed = x509.load_pem_x509_certificate(certificate)
    except (ValueError, TypeError) as error:
        raise StartError(
            "tls-file-invalid", f"{folder / _CA}.pem or {_CA}.key cannot be used: {error}"
        ) from error
    if (
        isinstance(private, ec.EllipticCurvePrivateKey)
        and private.public_key() == parsed.public_key()
    ):
        return Pair(parsed, private)
    raise StartError("tls-file-invalid", f"{folder / _CA}.key is not that of {_CA}.pem")


def _load_server(folder: Path) -> x509.Certificate | None:
    certificate, key = (read_file(folder / f"{_SERVER}.{kind}") for kind in ("pem", "key"))
    if certificate is None or key is None:
        return None
    try:
        return x509.load_pem_x509_certificate(certificate)
    except ValueError as error:
        raise StartError(
            "tls-file-invalid", f"{folder / _SERVER}.pem cannot be used: {error}"
        ) from error  # fmt: skip


def _ours(server: x509.Certificate, ca: Pair) -> bool:
    return server.issuer == ca.certificate.subject


def _good(
    server: x509.Certificate, ca: Pair, names: Sequence[str], now: datetime.datetime
) -> bool:  # fmt: skip
    try:
        server.verify_directly_issued_by(ca.certificate)
    except (ValueError, TypeError, InvalidSignature):
        return False  # the authority was made anew since
    left = server.not_valid_after_utc - now
    return left > _RENEW and set(names) <= set(certificate_names(server))


def _store(
    folder: Path, name: str, pair: Pair, more: Sequence[x509.Certificate] = ()
) -> list[Path]:
    key, certificate = folder / f"{name}.key", folder / f"{name}.pem"
    private = pair.key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    write_file(key, private, SECRET)
    chain = (pair.certificate, *more)
    data = b"".join(item.public_bytes(serialization.Encoding.PEM) for item in chain)
    write_file(certificate, data, PUBLIC)
    return [certificate, key]


def certificate_names(certificate: x509.Certificate) -> list[str]:
    """Host names and addresses a server certificate is for."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [
        *names.get_values_for_type(x509.DNSName),
        *map(str, names.get_values_for_type(x509.IPAddress)),
    ]


def _new_authority(now: datetime.datetime) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    return Pair(_authority_certificate(key, None, now + LIFETIME, now), key)


def _authority_certificate(
    key: ec.EllipticCurvePrivateKey,
    signer: Pair | None,
    end: datetime.datetime,
    now: datetime.datetime,
) -> x509.Certificate:
    """The certificate of an authority.

    :param signer: another authority that vouches for it; None: itself.
    """
    name = _common_name("oat attestation backend CA")
    builder = (
        _builder(name, name, key.public_key(), now, end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
    )
    if signer is None:
        return builder.sign(key, hashes.SHA256())
    return builder.add_extension(_key_of(signer), critical=False).sign(signer.key, hashes.SHA256())


def _key_of(signer: Pair) -> x509.AuthorityKeyIdentifier:
    found = signer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(found)


def _new_server(ca: Pair, names: Sequence[str], now: datetime.datetime) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _builder(_common_name(names[0]), ca.certificate.subject, key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(_key_of(ca), critical=False)
        .add_extension(
            x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False
        )
        .sign(ca.key, hashes.SHA256())
    )
    return Pair(certificate, key)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: datetime.datetime,
    end: datetime.datetime | None = None,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(end or now + LIFETIME)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:_COMMON_NAME_LONGEST])])


def _usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
