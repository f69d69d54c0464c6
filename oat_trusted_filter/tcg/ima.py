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
"""The measurement list of Linux' Integrity Measurement Architecture: parse it, and lead PCR 10.

Source: Linux kernel, security/integrity/ima (ima_fs.c ``ima_measurements_show``, ima_crypto.c
``ima_calc_field_array_hash_tfm``, ima_template_lib.c), Documentation/security/IMA-templates.rst.
The list is in the byte order of the host, which is little-endian on every machine with UEFI here.

An entry holds the SHA-1 digest of its template data. What is extended is, for each bank, the digest
of the template data with the hash of the bank, or, on kernels before 5.8 and for banks the kernel
has no hash for, the SHA-1 digest padded with zeros. After a violation (a file was open for writing
while it was measured) the entry holds zeros, and ones are extended.
"""

import functools
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from oat_trusted_filter.tcg.algorithms import DIGESTERS, digest_size
from oat_trusted_filter.tcg.errors import FormatError

IMA_PCR = 10
#: One template: the longest path, a signature and a buffer, with room to spare.
MAX_TEMPLATE_BYTES = 128 * 1024
#: PATH_MAX of Linux, with the final NUL.
MAX_PATH_BYTES = 4096
#: The most of a list that is sent at a time; some 35,000 entries.
MAX_PART_BYTES = 4 * 1024 * 1024

_HEAD = struct.Struct("<I20sI")
_U32 = struct.Struct("<I")
_LEGACY = b"ima"
_LEGACY_NAME_BYTES = 256
#: Name, number of fields, and whether the third is a signature; the first two are the digest
#: (``d-ng`` or ``d-ngv2``) and the path (``n-ng``) in all of them.
_TEMPLATES = {
    b"ima-ng": ("ima-ng", 2, False),
    b"ima-sig": ("ima-sig", 3, True),
    b"ima-buf": ("ima-buf", 3, False),
    b"ima-modsig": ("ima-modsig", 5, True),
    b"ima-ngv2": ("ima-ngv2", 2, False),
    b"ima-sigv2": ("ima-sigv2", 3, True),
}
_MAX_NAME = 32
_SHA1_BYTES = 20
_ZEROS = bytes(_SHA1_BYTES)
_sha1 = DIGESTERS["sha1"]


class ImaEntry(NamedTuple):
    """One entry; a tuple, for there may be a million and a dataclass takes twice as long."""

    pcr: int
    template: str
    template_digest: bytes
    """SHA-1; zeros for a violation."""
    template_data: bytes
    """What digests are made from."""
    end: int
    """Offset behind the entry in the bytes it was read from."""
    algorithm: str
    """Hash of the file digest, ``sha256`` for instance."""
    file_digest: bytes
    path: str
    """As the kernel wrote it; what is not UTF-8 is escaped."""
    signature: bytes
    """The file's signature (security.ima), empty if the template has none."""

    @property
    def violation(self) -> bool:
        """The file was not measured reliably."""
        return self.template_digest == _ZEROS


def parse_ima_log(data: bytes, first: int = 0) -> Iterator[ImaEntry]:
    """The entries, one after the other, so that a list of any length needs little memory.

    :param data: binary_runtime_measurements, or a part of it that begins at an entry.
    :param first: number of the first entry in the whole list, for messages.
    :raises FormatError: ``ima-log-truncated``, ``ima-log-template`` or ``ima-log-entry``, when the
        iteration comes to the entry.
    """
    offset, number = 0, first
    while offset < len(data):
        try:
            entry = _usual_entry(data, offset, number) or _entry(data, offset, number)
        except struct.error:
            raise _truncated(number) from None
        yield entry
        offset = entry.end
        number += 1


class ImaReplay:
    """PCR 10 as the entries lead it, in several banks at once.

    :param values: where it begins; zeros after a boot.
    :param padded: banks that are extended with the padded SHA-1 digest.
    :param alternatives: banks of which it is not known yet whether they are, and where PCR 10
        begins if so.
    """

    def __init__(
        self,
        values: Mapping[str, bytes],
        padded: frozenset[str] = frozenset(),
        alternatives: Mapping[str, bytes] | None = None,
    ) -> None:
        self.values = dict(values)
        self.alternatives = dict(alternatives or {})
        self._padded = padded
        # With what the SHA-1 digest is padded; None: the digest of the bank's own hash is extended.
        self._banks = [
            (bank, DIGESTERS[bank], _padding(bank) if bank in {"sha1", *padded} else None)
            for bank in values
        ]

    def extend(self, entry: ImaEntry, number: int) -> None:
        """Take one entry in.

        :raises FormatError: ``ima-log-digest``, the entry's digest is not that of its data.
        """
        data, sha1 = entry.template_data, entry.template_digest
        if _sha1(data) != sha1:
            if sha1 != _ZEROS:
                raise FormatError(
                    "ima-log-digest",
                    f"entry {number} of the IMA log, {entry.path!r}: its data does not have the "
                    "digest beside it",
                )
            self._extend_ones()
            return
        values = self.values
        for bank, digest, padding in self._banks:
            extended = digest(data) if padding is None else sha1 + padding
            values[bank] = digest(values[bank] + extended)
        if self.alternatives:
            for bank, value in self.alternatives.items():
                self.alternatives[bank] = DIGESTERS[bank](value + sha1 + _padding(bank))

    def _extend_ones(self) -> None:
        for led in (self.values, self.alternatives):
            for bank, value in led.items():
                led[bank] = DIGESTERS[bank](value + b"\xff" * digest_size(bank))

    def padded_at(self, quoted: Mapping[str, bytes]) -> frozenset[str] | None:
        """Whether the entries so far lead to these values.

        :returns: the banks that do so padded; None if a bank does not at all.
        """
        found = self._padded
        for bank, value in quoted.items():
            if self.values[bank] != value:
                if self.alternatives.get(bank) != value:
                    return None
                found |= {bank}
        return found


def _padding(bank: str) -> bytes:
    return bytes(digest_size(bank) - _SHA1_BYTES)


class _Usual(NamedTuple):
    """How nearly all entries begin: with one of two templates, and a file digest of SHA-256."""

    template: str
    name: bytes
    """Of the template, with its length before it."""
    signed: bool
    unpack_from: Callable[[bytes, int], tuple[Any, ...]]
    """PCR, digest, name, length of the data, and of these: how the field with the file digest
    begins, the digest, length of the path."""
    size: int
    """Bytes of these."""


def _usual(template: str, *, signed: bool) -> _Usual:
    name = _U32.pack(len(template)) + template.encode()
    layout = struct.Struct(f"<I20s{len(name)}sI{len(_SHA256_FIELD)}s{_SHA256_BYTES}sI")
    return _Usual(template, name, signed, layout.unpack_from, layout.size)


_SHA256_BYTES = 32
_SHA256_FIELD = _U32.pack(8 + _SHA256_BYTES) + b"sha256:\0"
_BEFORE_PATH = len(_SHA256_FIELD) + _SHA256_BYTES + _U32.size
#: By the length of the name.
_USUAL = {u.name[:4]: u for u in (_usual("ima-ng", signed=False), _usual("ima-sig", signed=True))}
_NAME_LENGTH = _HEAD.size - _U32.size


def _usual_entry(data: bytes, offset: int, number: int) -> ImaEntry | None:
    """What :func:`_entry` would make of it, in half the time.

    :returns: None: this is another entry, or something is wrong with it.
    """
    usual = _USUAL.get(data[offset + _NAME_LENGTH : offset + _NAME_LENGTH + 4])
    if usual is None:
        return None
    template, known, signed, unpack_from, size = usual
    try:
        pcr, digest, name, length, field, file_digest, path_length = unpack_from(data, offset)
        path = offset + size
        end = path_end = path + path_length
        if signed:
            (signature,) = _U32.unpack_from(data, path_end)
            end += 4 + signature
    except struct.error:
        return None
    start = path - _BEFORE_PATH
    if name != known or field != _SHA256_FIELD or start + length != end:
        return None
    if length > MAX_TEMPLATE_BYTES or end > len(data):
        return None
    # Not by the constructor, which takes twice as long.
    return ImaEntry._make(
        (
            pcr,
            template,
            digest,
            data[start:end],
            end,
            "sha256",
            file_digest,
            _path(data[path:path_end], number),
            data[path_end + 4 : end],
        )
    )


def _entry(data: bytes, offset: int, number: int) -> ImaEntry:
    pcr, digest, name_length = _HEAD.unpack_from(data, offset)
    offset += _HEAD.size
    if name_length > _MAX_NAME:
        raise FormatError(
            "ima-log-template",
            f"entry {number} of the IMA log has a template name of {name_length} bytes",
        )
    template = data[offset : offset + name_length]
    offset += name_length
    if offset > len(data):
        raise _truncated(number)
    if template == _LEGACY:
        return _legacy_entry(data, offset, number, pcr, digest)
    known = _TEMPLATES.get(template)
    if known is None:
        raise FormatError(
            "ima-log-template", f"entry {number} of the IMA log has the template {template!r}"
        )
    name, count, signed = known
    (length,) = _U32.unpack_from(data, offset)
    start, end = offset + 4, offset + 4 + length
    if length > MAX_TEMPLATE_BYTES:
        raise _malformed(number, f"it claims {length} bytes")
    if end > len(data):
        raise _truncated(number)
    body = data[start:end]
    values = _fields(body, count, number)
    algorithm, file_digest = _file_digest(values[0], number)
    return ImaEntry(
        pcr,
        name,
        digest,
        body,
        end,
        algorithm,
        file_digest,
        _path(values[1], number),
        values[2] if signed else b"",
    )


def _legacy_entry(data: bytes, offset: int, number: int, pcr: int, digest: bytes) -> ImaEntry:
    """Template "ima": no length of the whole, and the name is padded before it is hashed."""
    file_digest = data[offset : offset + 20]
    (length,) = _U32.unpack_from(data, offset + 20)
    end = offset + 24 + length
    if length >= _LEGACY_NAME_BYTES:
        raise _malformed(number, f"it claims a name of {length} bytes")
    if end > len(data):
        raise _truncated(number)
    name = data[offset + 24 : end]
    hashed = file_digest + name.ljust(_LEGACY_NAME_BYTES, b"\0")
    return ImaEntry(pcr, "ima", digest, hashed, end, "sha1", file_digest, _path(name, number), b"")


def _fields(body: bytes, count: int, number: int) -> list[bytes]:
    found = []
    position = 0
    for _ in range(count):
        if position + 4 > len(body):
            raise _malformed(number, "it lacks a field")
        (length,) = _U32.unpack_from(body, position)
        position += 4 + length
        if position > len(body):
            raise _malformed(number, "a field goes beyond its template")
        found.append(body[position - length : position])
    if position != len(body):
        raise _malformed(number, "bytes are left over behind its fields")
    return found


def _file_digest(field: bytes, number: int) -> tuple[str, bytes]:
    """``sha256:\\0`` and the digest; version 2 of the field begins with ``ima:`` or ``verity:``."""
    names, separator, digest = field.partition(b":\0")
    if not separator:
        raise _malformed(number, "its file digest names no algorithm")
    return _algorithm(names), digest


# Of a list nearly all entries have the same; a stranger's names only turn the cache over.
@functools.lru_cache(maxsize=64)
def _algorithm(names: bytes) -> str:
    return names.decode("ascii", "backslashreplace").rpartition(":")[2]


def _path(name: bytes, number: int) -> str:
    if len(name) > MAX_PATH_BYTES:
        raise _malformed(number, f"its path has {len(name)} bytes")
    return name.removesuffix(b"\0").decode("utf-8", "backslashreplace")


def _truncated(number: int) -> FormatError:
    return FormatError("ima-log-truncated", f"the IMA log ends inside entry {number}")


def _malformed(number: int, why: str) -> FormatError:
    return FormatError("ima-log-entry", f"entry {number} of the IMA log is malformed: {why}")
