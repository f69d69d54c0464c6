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
"""What a TPM signs: TPMS_ATTEST with a quote, or with the contents of an NV index, in it.

Source: TCG TPM 2.0 Library, Part 2 (Structures), sections 10.12.12 TPMS_ATTEST, 10.12.1
TPMS_QUOTE_INFO, 10.12 TPMS_NV_CERTIFY_INFO, 10.11.1 TPMS_CLOCK_INFO, 10.9.7 TPML_PCR_SELECTION,
10.6.2 TPMS_PCR_SELECTION. All integers are big-endian.
"""

import functools
import struct
from dataclasses import dataclass
from typing import NamedTuple

from oat_trusted_filter.tcg.algorithms import bank_name
from oat_trusted_filter.tcg.errors import FormatError

TPM_GENERATED_VALUE = 0xFF544347
TPM_ST_ATTEST_NV = 0x8014
TPM_ST_ATTEST_QUOTE = 0x8018

_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")
_HEAD = struct.Struct(">IH")
_CLOCK_AND_FIRMWARE = struct.Struct(">QIIBQ")
_SELECTION = struct.Struct(">HB")
# Banks of one TPM; the specification says HASH_COUNT, which no TPM has above this.
_MAX_SELECTIONS = 16
_MAX_SELECT_BYTES = 4


class ClockInfo(NamedTuple):
    """TPMS_CLOCK_INFO."""

    clock: int
    """Milliseconds the TPM has been powered since it was made or cleared."""
    reset_count: int
    """TPM resets (reboots) since TPM2_Clear."""
    restart_count: int
    """TPM restarts and resumes (suspend, hibernate) since the last reset."""
    safe: bool
    """No value of ``clock`` higher than this one was reported before."""


class PcrSelection(NamedTuple):
    """TPMS_PCR_SELECTION: which PCRs of one bank."""

    algorithm: int
    """TPM_ALG_ID of the bank."""
    mask: int
    """Bit n stands for PCR n."""

    @property
    def bank(self) -> str | None:
        """Name of the bank, None for an algorithm not known here."""
        return bank_name(self.algorithm)

    @property
    def pcrs(self) -> tuple[int, ...]:
        """The PCRs in ascending order."""
        return _pcrs(self.mask)


# All hosts are asked for the same PCRs; a stranger's selections only turn the caches over.
@functools.lru_cache(maxsize=256)
def _pcrs(mask: int) -> tuple[int, ...]:
    return tuple(pcr for pcr in range(mask.bit_length()) if mask >> pcr & 1)


_selection = functools.lru_cache(maxsize=256)(PcrSelection)


class Quote(NamedTuple):
    """TPMS_ATTEST of type TPM_ST_ATTEST_QUOTE."""

    raw: bytes
    """The signed bytes."""
    qualified_signer: bytes
    extra_data: bytes
    """The nonce the caller gave."""
    clock_info: ClockInfo
    firmware_version: int
    """Vendor specific; true only if the key is in the endorsement or platform hierarchy."""
    selections: tuple[PcrSelection, ...]
    pcr_digest: bytes


@dataclass(frozen=True, slots=True)
class NvCertification:
    """TPMS_ATTEST of type TPM_ST_ATTEST_NV."""

    raw: bytes
    """The signed bytes."""
    qualified_signer: bytes
    extra_data: bytes
    """The nonce the caller gave."""
    clock_info: ClockInfo
    firmware_version: int
    """Vendor specific; true only if the key is in the endorsement or platform hierarchy."""
    index_name: bytes
    """Name of the NV index, see :mod:`.nv`."""
    offset: int
    """Byte of the index at which ``contents`` begin."""
    contents: bytes


class _Head(NamedTuple):
    """What all attestations begin with."""

    qualified_signer: bytes
    extra_data: bytes
    clock_info: ClockInfo
    firmware_version: int
    end: int
    """Offset behind it."""


def parse_quote(data: bytes) -> Quote:
    """Take a quote apart.

    :param data: the bytes of TPMS_ATTEST, without the size of TPM2B_ATTEST.
    :raises FormatError: ``quote-truncated``, ``quote-trailing-bytes``, ``quote-magic``,
        ``quote-type``, ``quote-clock`` or ``quote-selection``.
    """
    try:
        head = _head(data, TPM_ST_ATTEST_QUOTE, "quote")
        selections, offset = _selections(data, head.end)
        pcr_digest, offset = _sized(data, offset, "quote")
    except struct.error:
        raise FormatError("quote-truncated", "the quote ends in the middle of a field") from None
    _check_end(data, offset, "quote")
    return Quote(data, *head[:-1], selections=selections, pcr_digest=pcr_digest)


def parse_nv_certification(data: bytes) -> NvCertification:
    """Take apart what TPM2_NV_Certify has signed.

    :param data: the bytes of TPMS_ATTEST, without the size of TPM2B_ATTEST.
    :raises FormatError: ``certification-truncated``, ``certification-trailing-bytes``,
        ``certification-magic``, ``certification-type`` or ``certification-clock``.
    """
    try:
        head = _head(data, TPM_ST_ATTEST_NV, "certification")
        index_name, offset = _sized(data, head.end, "certification")
        (nv_offset,) = _U16.unpack_from(data, offset)
        contents, offset = _sized(data, offset + _U16.size, "certification")
    except struct.error:
        raise FormatError(
            "certification-truncated", "the certification ends in the middle of a field"
        ) from None
    _check_end(data, offset, "certification")
    return NvCertification(
        data, *head[:-1], index_name=index_name, offset=nv_offset, contents=contents
    )


def _head(data: bytes, wanted: int, what: str) -> _Head:
    """The head of an attestation of this type.

    :param what: names it, in codes and for people.
    """
    magic, kind = _HEAD.unpack_from(data, 0)
    if magic != TPM_GENERATED_VALUE:
        raise FormatError(
            f"{what}-magic", f"the {what} begins with {magic:#010x}, not with TPM magic"
        )
    if kind != wanted:
        raise FormatError(
            f"{what}-type", f"the attestation has type {kind:#06x}, it is not a {what}"
        )
    qualified_signer, offset = _sized(data, _HEAD.size, what)
    extra_data, offset = _sized(data, offset, what)
    clock, resets, restarts, safe, firmware = _CLOCK_AND_FIRMWARE.unpack_from(data, offset)
    if safe > 1:
        raise FormatError(f"{what}-clock", f"the clock's safe flag is {safe}, it must be 0 or 1")
    return _Head(
        qualified_signer,
        extra_data,
        ClockInfo(clock, resets, restarts, bool(safe)),
        firmware,
        offset + _CLOCK_AND_FIRMWARE.size,
    )


def _check_end(data: bytes, offset: int, what: str) -> None:
    if offset != len(data):
        raise FormatError(
            f"{what}-trailing-bytes",
            f"{len(data) - offset} bytes are left over after the {what}",
        )


def _sized(data: bytes, offset: int, what: str) -> tuple[bytes, int]:
    """The bytes of a TPM2B at this offset, and the offset behind it."""
    (size,) = _U16.unpack_from(data, offset)
    end = offset + 2 + size
    if end > len(data):
        raise FormatError(
            f"{what}-truncated", f"a field of {size} bytes at {offset} goes beyond the {what}"
        )
    return data[offset + 2 : end], end


def _selections(data: bytes, offset: int) -> tuple[tuple[PcrSelection, ...], int]:
    (count,) = _U32.unpack_from(data, offset)
    offset += 4
    if count > _MAX_SELECTIONS:
        raise FormatError("quote-selection", f"the quote claims to select from {count} PCR banks")
    found = []
    for _ in range(count):
        algorithm, size = _SELECTION.unpack_from(data, offset)
        start = offset + _SELECTION.size
        offset = start + size
        if size > _MAX_SELECT_BYTES:
            raise FormatError("quote-selection", f"a PCR selection has {size} bytes, at most 4")
        if offset > len(data):
            raise FormatError("quote-truncated", "the PCR selection goes beyond the quote")
        found.append(_selection(algorithm, int.from_bytes(data[start:offset], "little")))
    return tuple(found), offset
