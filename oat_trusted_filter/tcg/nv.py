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
"""NV indices of a TPM: their public area and their Name.

The Name is a digest over number, attributes, policy and size of an index, so whoever compares the
Name in a certification with one of his own knows all of these.

Source: TCG TPM 2.0 Library, Part 1 (Architecture), section 16 Names; Part 2 (Structures), sections
13.4 TPMA_NV and 13.5 TPMS_NV_PUBLIC; TCG Registry of Reserved TPM 2.0 Handles and Localities.
"""

import hashlib
import struct
from dataclasses import dataclass

from oat_trusted_filter.tcg.algorithms import BANKS

TPMA_NV_OWNERWRITE = 1 << 1
TPMA_NV_OWNERREAD = 1 << 17
TPMA_NV_AUTHREAD = 1 << 18
TPMA_NV_NO_DA = 1 << 25
TPMA_NV_WRITTEN = 1 << 29

_PUBLIC = struct.Struct(">IHIHH")


@dataclass(frozen=True, slots=True)
class NvPublic:
    """TPMS_NV_PUBLIC of an index with SHA-256 as its nameAlg and without a policy."""

    index: int
    attributes: int
    """TPMA_NV."""
    size: int
    """Bytes."""

    @property
    def name(self) -> bytes:
        """TPM2B_NAME without its size: nameAlg and the digest."""
        area = _PUBLIC.pack(self.index, BANKS["sha256"], self.attributes, 0, self.size)
        return struct.pack(">H", BANKS["sha256"]) + hashlib.sha256(area).digest()


#: The index for the tags of a host, once it was written: only the owner writes it, everybody reads
#: it. Of the numbers that are for owners this one is ours. Never change it: the agents that have
#: defined it would not be believed any more.
TAG_INDEX = NvPublic(
    index=0x01804F54,
    attributes=(
        TPMA_NV_OWNERWRITE | TPMA_NV_OWNERREAD | TPMA_NV_AUTHREAD | TPMA_NV_NO_DA | TPMA_NV_WRITTEN
    ),
    size=40,
)

_TAG_CONTENTS = struct.Struct(">Q32s")


def tag_contents(serial: int, digest: bytes) -> bytes:
    """What :data:`TAG_INDEX` has to hold for a record of tags.

    :param serial: its serial number.
    :param digest: SHA-256 of the record.
    """
    return _TAG_CONTENTS.pack(serial, digest)


def tag_serial(contents: bytes) -> int:
    """The serial number in contents of :data:`TAG_INDEX`."""
    serial: int = _TAG_CONTENTS.unpack(contents)[0]
    return serial
