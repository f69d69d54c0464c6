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
"""The digest firmware measures an EFI image by.

It is the Authenticode digest: over the whole image but for its checksum and its signatures, so a
signed image and the same one unsigned have one digest, and the digest of the file is another one.
Source: TCG PC Client Platform Firmware Profile 1.06, section 3.3.4.5 "PCR[4]"; Microsoft, "Windows
Authenticode Portable Executable Signature Format", "Calculating the PE Image Hash"; PE/COFF, "COFF
File Header", "Optional Header", "Section Table". All integers are little-endian.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from oat_trusted_filter.tcg.algorithms import new_hash
from oat_trusted_filter.tcg.errors import FormatError

_DOS_MAGIC = b"MZ"
_PE_MAGIC = b"PE\0\0"
_PE_OFFSET = 0x3C
_U32 = struct.Struct("<I")
_U16 = struct.Struct("<H")
_COFF = struct.Struct("<HHIIIHH")
_SECTION = struct.Struct("<8sIIIIIIHHI")
_DIRECTORY = struct.Struct("<II")
_SIZE_OF_HEADERS = 60
_CHECKSUM = 64
#: Magic of the optional header -> where its number of directories stands.
_DIRECTORIES = {0x10B: 92, 0x20B: 108}
_SIGNATURES = 4
#: The kernel in a unified kernel image, which systemd-stub starts as an image of its own.
_KERNEL_SECTION = b".linux"


@dataclass(frozen=True, slots=True)
class EfiImage:
    """What of an image is measured."""

    parts: tuple[tuple[int, int], ...]
    """First byte, and the one after the last, of each part that is."""
    kernel: tuple[int, int] | None
    """The kernel in it, if it is a unified kernel image."""


def is_image(data: bytes) -> bool:
    """Whether this claims to be an EFI image."""
    if len(data) < _PE_OFFSET + _U32.size or not data.startswith(_DOS_MAGIC):
        return False
    (start,) = _U32.unpack_from(data, _PE_OFFSET)
    return data[start : start + len(_PE_MAGIC)] == _PE_MAGIC


def image_digests(data: bytes, bank: str) -> tuple[bytes, ...]:
    """The digests starting an image leaves in PCR 4: its own, and that of a kernel in it.

    :param data: the file.
    :raises FormatError: ``image-invalid``.
    """
    image = parse_image(data)
    hashed = new_hash(bank)
    for start, end in image.parts:
        hashed.update(data[start:end])
    inner: tuple[bytes, ...] = ()
    if image.kernel is not None:
        kernel = data[slice(*image.kernel)]
        # A unified kernel image in another one would be no kernel.
        if is_image(kernel) and parse_image(kernel).kernel is None:
            inner = image_digests(kernel, bank)
    return (hashed.digest(), *inner)


def parse_image(data: bytes) -> EfiImage:
    """Find the parts of an image that are measured.

    :raises FormatError: ``image-invalid``.
    """
    if not is_image(data):
        raise FormatError("image-invalid", "this is no EFI image (PE/COFF)")
    try:
        return _parse(data)
    except struct.error:
        raise FormatError("image-invalid", "the EFI image ends in the middle of a header") from None


def _parse(data: bytes) -> EfiImage:
    (start,) = _U32.unpack_from(data, _PE_OFFSET)
    coff = start + len(_PE_MAGIC)
    _, section_count, _, _, _, optional_size, _ = _COFF.unpack_from(data, coff)
    optional = coff + _COFF.size
    (magic,) = _U16.unpack_from(data, optional)
    if magic not in _DIRECTORIES:
        raise FormatError("image-invalid", f"the EFI image has an unknown header {magic:#06x}")
    (headers,) = _U32.unpack_from(data, optional + _SIZE_OF_HEADERS)
    directories = optional + _DIRECTORIES[magic]
    (directory_count,) = _U32.unpack_from(data, directories)
    checksum = optional + _CHECKSUM
    skipped = [(checksum, checksum + _U32.size)]
    signatures = 0
    if directory_count > _SIGNATURES:
        entry = directories + _U32.size + _SIGNATURES * _DIRECTORY.size
        _, signatures = _DIRECTORY.unpack_from(data, entry)
        skipped.append((entry, entry + _DIRECTORY.size))
    if not skipped[-1][1] <= headers <= len(data):
        raise FormatError("image-invalid", "the headers of the EFI image have an impossible size")
    sections = [
        _SECTION.unpack_from(data, optional + optional_size + number * _SECTION.size)
        for number in range(section_count)
    ]
    filled = [(where, where + size) for _, _, _, size, where, *_ in sections if size]
    if any(end > len(data) for _, end in filled):
        raise FormatError("image-invalid", "a section of the EFI image goes past its end")
    filled.sort()
    hashed = headers + sum(end - begin for begin, end in filled)
    rest = [(hashed, len(data) - signatures)] if hashed < len(data) - signatures else []
    kernels = [
        (where, where + min(used, size))
        for name, used, _, size, where, *_ in sections
        if name.rstrip(b"\0") == _KERNEL_SECTION
    ]
    return EfiImage(
        (*_without(headers, skipped), *filled, *rest), kernels[0] if kernels else None
    )


def _without(end: int, skipped: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The parts of the headers."""
    begin = 0
    for start, stop in skipped:
        yield begin, start
        begin = stop
    yield begin, end
