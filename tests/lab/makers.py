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
"""Makers of TPMs, their authorities, and what these sign: EK certificates and revocation lists."""

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

NOW = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)
YEAR = datetime.timedelta(days=365)
EK_PURPOSE = x509.ObjectIdentifier("2.23.133.8.1")
MANUFACTURER, MODEL = (x509.ObjectIdentifier(f"2.23.133.2.{n}") for n in (1, 2))
#: Vendor ids: a maker of chips, and the one swtpm's certificates name.
INFINEON, IBM = "id:49465800", "id:00001014"


@dataclass
class Authority:
    """A key that signs, and the certificate that says so."""

    key: Any
    certificate: x509.Certificate

    @property
    def der(self) -> bytes:
        """The certificate, DER."""
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> bytes:
        """The certificate, PEM."""
        return self.certificate.public_bytes(Encoding.PEM)


def name(text: str) -> x509.Name:
    """A name with this common name."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: Any,
    start: datetime.datetime = NOW - YEAR,
    end: datetime.datetime = NOW + YEAR,
) -> x509.CertificateBuilder:
    """A certificate that still lacks its extensions."""
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
    )


def authority(
    text: str,
    parent: Authority | None = None,
    *,
    path_length: int | None = None,
    ca: bool = True,
    usage: bool | None = True,
    **validity: datetime.datetime,
) -> Authority:
    """A new authority, signed by itself or by another one."""
    key = ec.generate_private_key(ec.SECP256R1())
    issued_by = parent.certificate.subject if parent else name(text)
    made = builder(name(text), issued_by, key.public_key(), **validity).add_extension(
        x509.BasicConstraints(ca, path_length if ca else None), critical=True
    )
    if usage is not None:
        made = made.add_extension(
            x509.KeyUsage(
                digital_signature=not usage, content_commitment=False, key_encipherment=False,
                data_encipherment=False, key_agreement=False, key_cert_sign=usage,
                crl_sign=usage, encipher_only=False, decipher_only=False,
            ),
            critical=True,
        )  # fmt: skip
    return Authority(key, made.sign(parent.key if parent else key, hashes.SHA256()))


def ek_certificate(  # noqa: PLR0913
    issuer: Authority,
    key: Any,
    *,
    purpose: x509.ObjectIdentifier | None = EK_PURPOSE,
    manufacturer: str = INFINEON,
    extra: Sequence[tuple[x509.ExtensionType, bool]] = (),
    ca: bool = False,
    digest: hashes.HashAlgorithm | None = None,
    **validity: datetime.datetime,
) -> bytes:
    """The certificate of an endorsement key, DER.

    :param key: the private or the public key.
    """
    alternative = x509.DirectoryName(
        x509.Name(
            [x509.NameAttribute(MANUFACTURER, manufacturer), x509.NameAttribute(MODEL, "SLB9672")]
        )
    )
    public = key.public_key() if hasattr(key, "public_key") else key
    made = builder(x509.Name([]), issuer.certificate.subject, public, **validity)
    made = made.add_extension(x509.SubjectAlternativeName([alternative]), critical=True)
    made = made.add_extension(x509.BasicConstraints(ca, None), critical=True)
    if purpose is not None:
        made = made.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    for extension, critical in extra:
        made = made.add_extension(extension, critical=critical)
    return made.sign(issuer.key, digest or hashes.SHA256()).public_bytes(Encoding.DER)


def unsorted_ek_certificate(
    issuer: Authority, key: Any, **validity: datetime.datetime
) -> bytes:
    """One as Nuvoton makes them: manufacturer and model in one SET, in the order they came to mind.

    DER wants sets sorted, and a strict decoder refuses this one.
    """
    parts = x509.RelativeDistinguishedName(
        [x509.NameAttribute(MANUFACTURER, "id:4E544300"), x509.NameAttribute(MODEL, "NPCT75x")]
    )
    public = key.public_key() if hasattr(key, "public_key") else key
    made = builder(x509.Name([]), issuer.certificate.subject, public, **validity)
    made = made.add_extension(
        x509.SubjectAlternativeName([x509.DirectoryName(x509.Name([parts]))]), critical=True
    )
    made = made.add_extension(x509.ExtendedKeyUsage([EK_PURPOSE]), critical=False)
    der = made.sign(issuer.key, hashes.SHA256()).public_bytes(Encoding.DER)
    # Swap the two elements of the SET, as the maker did, and sign again.
    start = der.index(b"\x31", der.index(bytes.fromhex("0603551d11")) + 8)
    length = der[start + 1]
    content = der[start + 2 : start + 2 + length]
    first = content[: 2 + content[1]]
    unsorted = der.replace(content, content[len(first) :] + first)
    body_length = int.from_bytes(unsorted[6:8], "big") + 4
    body = unsorted[4 : 4 + body_length]
    signature = issuer.key.sign(body, ec.ECDSA(hashes.SHA256()))
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")
    tail = algorithm + b"\x03" + bytes([len(signature) + 1]) + b"\0" + signature
    return b"\x30\x82" + (len(body) + len(tail)).to_bytes(2, "big") + body + tail


def revocation_list(
    issuer: Authority,
    revoked: Iterable[bytes] = (),
    *,
    signer: Authority | None = None,
    start: datetime.datetime = NOW - YEAR,
    end: datetime.datetime = NOW + YEAR,
    extra: Sequence[tuple[x509.ExtensionType, bool]] = (),
) -> bytes:
    """A CRL, DER.

    :param revoked: certificates, DER.
    :param signer: who signs it in the name of the issuer.
    """
    made = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(start)
        .next_update(end)
    )
    for der in revoked:
        entry = x509.RevokedCertificateBuilder().revocation_date(start)
        serial = x509.load_der_x509_certificate(der).serial_number
        made = made.add_revoked_certificate(entry.serial_number(serial).build())
    for extension, critical in extra:
        made = made.add_extension(extension, critical=critical)
    signed = made.sign((signer or issuer).key, hashes.SHA256())
    return signed.public_bytes(Encoding.DER)
