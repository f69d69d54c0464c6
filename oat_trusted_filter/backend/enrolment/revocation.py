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
"""Revocation lists of the makers of TPMs, out of files an operator keeps up to date.

Source: RFC 5280, sections 5 and 6.3. Nothing is fetched: what certificates say about where their
lists are comes from strangers.

1. An authority none of the files is a list of is not asked. That is for the operator to choose.
2. A list counts only with the signature of the authority it names.
3. A certificate that any such list names is refused.
4. If all lists of an authority are past the moment they were to be replaced, none of its
   certificates is accepted until there is a newer one: what was revoked since is not known.

Lists are looked at when a TPM enrols. A host that takes part already is not touched by them.
"""

import os
import threading
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_der_public_key

from oat_trusted_filter.backend.enrolment.certificate import CertificateRefused, der_blocks

_MAX_FILE_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _List:
    """One list and the file it is in."""

    crl: x509.CertificateRevocationList
    issuer: asn1_x509.Name
    scope: x509.IssuingDistributionPoint | None
    path: Path

    def covers(self, certificate: asn1_x509.Certificate) -> bool:
        """Whether it speaks of certificates of this kind."""
        if self.scope is None:
            return True
        if certificate.ca:
            return not self.scope.only_contains_user_certs
        return not self.scope.only_contains_ca_certs

    def current(self, now: datetime) -> bool:
        """Whether no newer one is due."""
        end = self.crl.next_update_utc
        return end is not None and self.crl.last_update_utc <= now <= end

    def signed_by(self, issuer: asn1_x509.Certificate) -> bool:
        """Whether the authority has signed it."""
        try:
            # Whatever kind of key it is: one that cannot sign is refused with a TypeError.
            key = load_der_public_key(issuer.public_key.dump())
            return self.crl.is_signature_valid(key)  # type: ignore[arg-type]
        except (TypeError, ValueError, UnsupportedAlgorithm):
            return False


class RevocationLists:
    """The lists in a folder, read again when a file in it changes. Thread-safe.

    :param folder: with PEM and DER files; None: there are no lists.
    :raises CertificateRefused: ``ek-crl-invalid``, the folder or a file in it cannot be used.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._seen: frozenset[tuple[str, int, int]] | None = None
        self._lists: tuple[_List, ...] = ()
        self._current()

    def out_of_date(self, now: datetime) -> list[Path]:
        """The files with a list that has to be replaced."""
        return sorted({item.path for item in self._current() if not item.current(now)})

    def check(
        self, certificate: asn1_x509.Certificate, issuer: asn1_x509.Certificate, now: datetime
    ) -> None:
        """Check that an authority has not revoked a certificate of its own.

        :raises CertificateRefused: ``ek-certificate-revoked``, ``ek-crl-expired``,
            ``ek-crl-untrusted`` or ``ek-crl-invalid``.
        """
        named = [  # 1
            item
            for item in self._current()
            if item.issuer == issuer.subject and item.covers(certificate)
        ]
        if not named:
            return
        authority = issuer.subject.human_friendly
        lists = [item for item in named if item.signed_by(issuer)]  # 2
        if not lists:
            raise CertificateRefused(
                "ek-crl-untrusted", f"{named[0].path} is not signed by {authority}, which it names"
            )
        for item in lists:  # 3
            if item.crl.get_revoked_certificate_by_serial_number(certificate.serial_number):
                raise CertificateRefused(
                    "ek-certificate-revoked",
                    f"{authority} has revoked its certificate {certificate.serial_number:x} "
                    f"({item.path})",
                )
        if not any(item.current(now) for item in lists):  # 4
            raise CertificateRefused(
                "ek-crl-expired",
                f"the revocation list of {authority} is out of date ({lists[0].path}, to be "
                f"replaced by {lists[0].crl.next_update_utc}); get a new one",
            )

    def _current(self) -> tuple[_List, ...]:
        if self._folder is None:
            return ()
        with self._lock:
            try:
                seen = _listing(self._folder)
                if seen != self._seen:
                    names = sorted(name for name, _, _ in seen)
                    self._lists = tuple(
                        item for name in names for item in _read(self._folder / name)
                    )
                    self._seen = seen
            except OSError as error:
                raise CertificateRefused(
                    "ek-crl-invalid", f"{error.filename or self._folder}: {error.strerror}"
                ) from error
            return self._lists


def _listing(folder: Path) -> frozenset[tuple[str, int, int]]:
    """By what a change of a file is seen."""
    with os.scandir(folder) as entries:
        found = [(entry.name, entry.stat()) for entry in entries if entry.is_file()]
    return frozenset((name, status.st_mtime_ns, status.st_size) for name, status in found)


def _read(path: Path) -> list[_List]:
    with path.open("rb") as file:
        data = file.read(_MAX_FILE_BYTES + 1)
    try:
        if len(data) > _MAX_FILE_BYTES:
            raise ValueError(f"it has more than {_MAX_FILE_BYTES} bytes")
        return [_parsed(der, path) for der in der_blocks(data)]
    except ValueError as error:
        raise CertificateRefused(
            "ek-crl-invalid", f"{path} is not a revocation list: {error}"
        ) from error


def _parsed(der: bytes, path: Path) -> _List:
    """One list, if it is complete and speaks of its own authority's certificates only.

    :raises ValueError: it is not.
    """
    crl = x509.load_der_x509_crl(der)
    if crl.next_update_utc is None:
        raise ValueError("it does not say when a newer one is due")
    scope = None
    for extension in crl.extensions:
        value = extension.value
        if isinstance(value, x509.IssuingDistributionPoint):
            scope = value
            if value.indirect_crl or value.only_some_reasons or value.only_contains_attribute_certs:
                raise ValueError("it is indirect or incomplete")
        elif extension.critical:
            raise ValueError(f"critical extension {extension.oid.dotted_string} is not known")
    return _List(crl, asn1_x509.Name.load(crl.issuer.public_bytes()), scope, path)
