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
"""IMA lists as a running kernel writes them."""

import hashlib
import struct
from collections.abc import Iterable

from oat_trusted_filter.tcg.algorithms import DIGESTERS, digest_size

_ZEROS = bytes(20)


def _sized(data: bytes) -> bytes:
    return struct.pack("<I", len(data)) + data


class Kernel:
    """A kernel that measures files.

    :param log: what it has measured so far, ``binary_runtime_measurements``.
    :param padded: banks it extends with the SHA-1 digest and zeros.
    """

    def __init__(self, log: bytes = b"", padded: frozenset[str] = frozenset({"sha384"})) -> None:
        self.log = bytearray(log)
        self._padded = padded

    def run(self, path: str, content: bytes = b"program", signature: bytes = b"") -> bytes:
        """Measure a file; the template data of the entry, for :meth:`extends`."""
        return self._add(b"ima-sig", (_digest(content), _name(path), signature))

    def violate(self, path: str) -> bytes:
        """A file was open for writing while it was measured."""
        return self._add(b"ima-sig", (_digest(None), _name(path), b""), violation=True)

    def kexec(self, command_line: bytes = b"root=/dev/sda1") -> bytes:
        """Another kernel is loaded."""
        fields = (_digest(command_line), _name("kexec-cmdline"), command_line)
        return self._add(b"ima-buf", fields)

    def extends(self, data: bytes, banks: Iterable[str]) -> dict[str, bytes]:
        """What goes into PCR 10 of each bank for an entry; empty data is a violation."""
        if not data:
            return {bank: b"\xff" * digest_size(bank) for bank in banks}
        sha1 = hashlib.sha1(data).digest()
        return {
            bank: sha1.ljust(digest_size(bank), b"\0")
            if bank in self._padded
            else DIGESTERS[bank](data)
            for bank in banks
        }

    def _add(self, template: bytes, fields: tuple[bytes, ...], *, violation: bool = False) -> bytes:
        data = b"".join(map(_sized, fields))
        digest = _ZEROS if violation else hashlib.sha1(data).digest()
        self.log += struct.pack("<I", 10) + digest + _sized(template) + _sized(data)
        return b"" if violation else data


def _digest(content: bytes | None) -> bytes:
    return b"sha256:\0" + (bytes(32) if content is None else hashlib.sha256(content).digest())


def _name(path: str) -> bytes:
    return path.encode() + b"\0"
