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
"""Small EFI images."""

import struct
from collections.abc import Mapping

_PE = 64
_OPTIONAL = _PE + 24
_DIRECTORIES = 16
_ALIGNMENT = 16


def efi_image(
    sections: Mapping[str, bytes], *, plus: bool = True, signature: bytes = b"", checksum: int = 0
) -> bytes:
    """An image with these sections.

    :param plus: PE32+, as on 64-bit machines.
    :param signature: appended, and named in the headers.
    """
    optional_size = (112 if plus else 96) + 8 * _DIRECTORIES
    headers = _OPTIONAL + optional_size + 40 * len(sections)
    headers += -headers % _ALIGNMENT
    table, body = b"", b""
    for name, data in sections.items():
        padded = data + bytes(-len(data) % _ALIGNMENT)
        where = headers + len(body)
        table += struct.pack(
            "<8sIIIIIIHHI", name.encode(), len(data), 0, len(padded), where, 0, 0, 0, 0, 0
        )
        body += padded
    optional = bytearray(optional_size)
    struct.pack_into("<H", optional, 0, 0x20B if plus else 0x10B)
    struct.pack_into("<II", optional, 60, headers, checksum)
    struct.pack_into("<I", optional, 108 if plus else 92, _DIRECTORIES)
    if signature:
        entry = (112 if plus else 96) + 8 * 4
        struct.pack_into("<II", optional, entry, headers + len(body), len(signature))
    head = b"MZ" + bytes(58) + struct.pack("<I", _PE) + b"PE\0\0"
    head += struct.pack("<HHIIIHH", 0x8664, len(sections), 0, 0, 0, optional_size, 0)
    head += bytes(optional) + table
    return head.ljust(headers, b"\0") + body + signature
