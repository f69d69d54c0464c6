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
"""UEFI signature databases: which keys and images firmware trusts (PK, KEK, db) and refuses (dbx).

Source: UEFI Specification 2.10, section 32.4.1 EFI_SIGNATURE_LIST, EFI_SIGNATURE_DATA.
"""

import functools
import hashlib
import struct
import uuid
from dataclasses import dataclass

from oat_trusted_filter.tcg.errors import FormatError

_LIST_HEAD = struct.Struct("<16sIII")
_OWNER_BYTES = 16
_MAX_ENTRIES = 20_000

X509 = "x509"
SHA256 = "sha256"
_TYPES = {
    "a5c059a1-94e4-4aa7-87b5-ab155c2bf072": X509,
    "c1c41626-504c-4092-aca9-41f936934328": SHA256,
    "3c5766e8-269c-4e34-aa14-ed776e85b3b6": "rsa2048",
    "3bd2a492-96c0-4079-b420-fcf98ef103ed": "x509-sha256",
    "7076876e-80c2-4ee6-aad2-28b349a6865b": "x509-sha384",
    "446dbf63-2502-4cda-bcfa-2465d2b0fe9d": "x509-sha512",
    "826ca512-cf10-4ac9-b187-be01496631bd": "sha1",
    "ff3e5307-9fd0-48c9-85f1-8ad56c701e01": "sha384",
    "093e0fae-a6c4-4f50-9f1b-d41e2b89c19a": "sha512",
}


@dataclass(frozen=True, slots=True)
class SignatureEntry:
    """A certificate or a digest in a database."""

    kind: str
    """``x509``, ``sha256`` and so on; the GUID for a type without a name here."""
    owner: str
    """GUID of whoever put it there."""
    data: bytes

    @property
    def fingerprint(self) -> str:
        """What names it: SHA-256 of a certificate, the digest itself otherwise; hexadecimal."""
        if self.kind == X509:
            return hashlib.sha256(self.data).hexdigest()
        return self.data.hex()


def parse_signature_database(data: bytes) -> tuple[SignatureEntry, ...]:
    """The entries of the lists that stand one after the other in a variable.

    :raises FormatError: ``signature-database``.
    """
    found: list[SignatureEntry] = []
    offset = 0
    while offset < len(data):
        try:
            kind, size, header, signature = _LIST_HEAD.unpack_from(data, offset)
        except struct.error:
            raise _malformed("it ends inside a list") from None
        first, end = offset + _LIST_HEAD.size + header, offset + size
        if size < _LIST_HEAD.size + header or end > len(data) or signature <= _OWNER_BYTES:
            raise _malformed("the sizes of a list do not fit")
        if (end - first) % signature:
            raise _malformed("a list does not hold whole entries")
        if len(found) + (end - first) // signature > _MAX_ENTRIES:
            raise _malformed(f"it has more than {_MAX_ENTRIES} entries")
        name = _kind(kind)
        for position in range(first, end, signature):
            found.append(_entry(name, data[position : position + signature]))
        offset = end
    return tuple(found)


def parse_signature_data(data: bytes) -> SignatureEntry:
    """The one EFI_SIGNATURE_DATA an EV_EFI_VARIABLE_AUTHORITY event of db holds: a certificate.

    :raises FormatError: ``signature-database``.
    """
    if len(data) <= _OWNER_BYTES:
        raise _malformed("an entry is cut off")
    return _entry(X509, data)


def _kind(guid: bytes) -> str:
    known = _guid(guid)
    return _TYPES.get(known) or known


def _entry(kind: str, data: bytes) -> SignatureEntry:
    return SignatureEntry(kind, _guid(data[:_OWNER_BYTES]), data[_OWNER_BYTES:])


# Hundreds of entries have one owner; a stranger's only turn the cache over.
@functools.lru_cache(maxsize=64)
def _guid(data: bytes) -> str:
    return str(uuid.UUID(bytes_le=data))


def _malformed(why: str) -> FormatError:
    return FormatError("signature-database", f"a UEFI signature database is malformed: {why}")
