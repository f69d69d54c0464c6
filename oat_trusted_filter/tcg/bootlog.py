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
"""The boot log of UEFI firmware: parse it, and compute the PCRs it leads to.

Source: TCG PC Client Platform Firmware Profile (PFP) 1.06, section 10 "Event Logging" (10.2.1
TCG_PCClientPCREvent, 10.2.2 TCG_PCR_EVENT2, 10.4.5.1 Specification ID Version Event, 10.4.5.3
Startup Locality Event); TCG EFI Protocol Specification for the SHA-1 format. All integers are
little-endian.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from oat_trusted_filter.tcg.algorithms import DIGESTERS, bank_name, digest_size
from oat_trusted_filter.tcg.errors import FormatError
from oat_trusted_filter.tcg.pcr import PCR_COUNT

EV_NO_ACTION = 0x00000003
EV_EFI_HCRTM_EVENT = 0x80000010

#: Firmware reserves 64 to 256 KiB for its log and writes some hundred events at most.
MAX_LOG_BYTES = 4 * 1024 * 1024
MAX_EVENTS = 2_000

_SHA1_HEAD = struct.Struct("<II20sI")
_HEAD = struct.Struct("<III")
_U16 = struct.Struct("<H")
_U32 = struct.Struct("<I")
_SPEC_ID_HEAD = struct.Struct("<16sIBBBBI")
_ALGORITHM = struct.Struct("<HH")
_SPEC_ID = b"Spec ID Event"
_SPEC_ID_SIGNATURE = _SPEC_ID + b"03\0"
# Of conventional BIOS and of UEFI with TPM 1.2; the SHA-1 format follows.
_SHA1_SPEC_IDS = (_SPEC_ID + b"00\0", _SPEC_ID + b"02\0")
_STARTUP_LOCALITY = b"StartupLocality\0"
_H_CRTM_LOCALITY = 4
_MAX_ALGORITHMS = 16
_MAX_DIGEST = 128
# PCRs a dynamic launch resets; until there is one they hold ones (PFP 3.3.4).
_DYNAMIC_PCRS = range(17, 23)


class Event(NamedTuple):
    """One event of the log; a tuple, for there are hundreds and a dataclass takes twice as long."""

    number: int
    """Its place in the log; the specification ID event of a crypto-agile log is number 0."""
    pcr: int
    type: int
    digests: Mapping[str, bytes]
    """Digest by bank; banks whose algorithm is not known here are left out."""
    data: bytes


@dataclass(frozen=True, slots=True)
class BootLog:
    """A whole log."""

    events: tuple[Event, ...]
    banks: tuple[str, ...]
    """Banks that each extending event has a digest for."""
    startup_locality: int
    """Locality TPM2_Startup came from; the last byte of PCR 0 before the first event."""
    h_crtm: bool
    """A hardware root of trust measured before TPM2_Startup."""


def parse_boot_log(data: bytes) -> BootLog:
    """Parse a log in the crypto-agile or the SHA-1 format.

    :raises FormatError: ``boot-log-empty``, ``boot-log-too-large``, ``boot-log-truncated``,
        ``boot-log-spec-id``, ``boot-log-algorithm``, ``boot-log-event`` (PCR or digest count out of
        range, or padding), ``boot-log-event-size`` or ``boot-log-startup-locality``.
    """
    if not data:
        raise FormatError("boot-log-empty", "the boot log is empty")
    if len(data) > MAX_LOG_BYTES:
        raise FormatError(
            "boot-log-too-large", f"the boot log has {len(data)} bytes, at most {MAX_LOG_BYTES}"
        )
    first, offset = _sha1_event(data, 0, 0)
    if first.type == EV_NO_ACTION and first.data.startswith(_SPEC_ID_SIGNATURE):
        sizes = _algorithms(first.data)
        events = _crypto_agile_events(data, offset, first, sizes)
        banks = tuple(name for number in sizes if (name := bank_name(number)) is not None)
    elif first.data.startswith(_SPEC_ID) and not first.data.startswith(_SHA1_SPEC_IDS):
        raise FormatError("boot-log-spec-id", "the boot log has a format that is not known")
    else:
        events = _sha1_events(data)
        banks = ("sha1",)
    if not banks:
        raise FormatError("boot-log-algorithm", "the boot log has no digests of a known algorithm")
    h_crtm = any(event.type == EV_EFI_HCRTM_EVENT and event.pcr == 0 for event in events)
    return BootLog(tuple(events), banks, _startup_locality(events, h_crtm), h_crtm)


def replay(log: BootLog, bank: str) -> dict[int, bytes]:
    """The values of all 24 PCRs that the log leads to; reset values where it says nothing.

    :raises FormatError: ``boot-log-bank``, the log has no digests of this bank.
    """
    if bank not in log.banks:
        raise FormatError("boot-log-bank", f"the boot log has no digests of bank {bank}")
    size = digest_size(bank)
    values = dict.fromkeys(range(PCR_COUNT), bytes(size))
    values.update(dict.fromkeys(_DYNAMIC_PCRS, b"\xff" * size))
    values[0] = bytes(size - 1) + bytes([log.startup_locality])
    digest = DIGESTERS[bank]
    for _, pcr, kind, digests, _ in log.events:
        if kind != EV_NO_ACTION:
            values[pcr] = digest(values[pcr] + digests[bank])
    return values


def _sha1_event(data: bytes, offset: int, number: int) -> tuple[Event, int]:
    """TCG_PCClientPCREvent, which also is the first one of a crypto-agile log."""
    try:
        pcr, kind, digest, size = _SHA1_HEAD.unpack_from(data, offset)
    except struct.error:
        raise _truncated(number) from None
    start = offset + _SHA1_HEAD.size
    body = _event_data(data, start, size, number)
    _check_pcr(pcr, number)
    return Event(number, pcr, kind, {"sha1": digest}, body), start + size


def _sha1_events(data: bytes) -> list[Event]:
    events: list[Event] = []
    offset = 0
    while offset < len(data):
        event, offset = _sha1_event(data, offset, len(events))
        if event.type == 0 and event.pcr == 0 and not any(event.digests["sha1"]):
            raise _padding(event.number)
        events.append(event)
        _check_count(events)
    return events


def _algorithms(spec_id: bytes) -> dict[int, int]:
    """TPM_ALG_ID -> size in bytes, in the order of TCG_EfiSpecIDEvent."""
    try:
        _, _, _, _, _, _, count = _SPEC_ID_HEAD.unpack_from(spec_id, 0)
        offset = _SPEC_ID_HEAD.size
        if not 1 <= count <= _MAX_ALGORITHMS:
            raise FormatError("boot-log-spec-id", f"the boot log claims {count} algorithms")
        sizes: dict[int, int] = {}
        for _ in range(count):
            number, size = _ALGORITHM.unpack_from(spec_id, offset)
            offset += _ALGORITHM.size
            bank = bank_name(number)
            right = 0 < size <= _MAX_DIGEST if bank is None else size == digest_size(bank)
            if number in sizes or not right:
                raise FormatError(
                    "boot-log-spec-id",
                    f"the boot log gives algorithm {number:#06x} twice or a wrong size ({size})",
                )
            sizes[number] = size
        vendor_size = spec_id[offset]
    except (struct.error, IndexError):
        raise FormatError("boot-log-spec-id", "the first event of the log is cut off") from None
    if offset + 1 + vendor_size != len(spec_id):
        raise FormatError("boot-log-spec-id", "the first event of the boot log has a wrong size")
    return sizes


def _crypto_agile_events(
    data: bytes, offset: int, first: Event, sizes: Mapping[int, int]
) -> list[Event]:
    # Of the first event nothing is extended and its digest is zero.
    events = [Event(0, first.pcr, first.type, {}, first.data)]
    # Nearly all events have their digests in the order announced: those are read at once.
    layout = struct.Struct("<III" + "".join(f"H{size}s" for size in sizes.values()) + "I")
    announced = tuple(sizes)
    known = [
        (4 + 2 * index, name) for index, number in enumerate(sizes) if (name := bank_name(number))
    ]
    count, head, end = len(sizes), layout.size, len(data)
    while offset < end:
        number = len(events)
        fields = layout.unpack_from(data, offset) if offset + head <= end else None
        if fields is not None and fields[2] == count and fields[3:-1:2] == announced:
            pcr, kind, size = fields[0], fields[1], fields[-1]
            digests = {name: fields[index] for index, name in known}
            offset += head
        else:
            pcr, kind, digests, size, offset = _event_head(data, offset, number, sizes)
        _check_pcr(pcr, number)
        body = _event_data(data, offset, size, number)
        events.append(Event._make((number, pcr, kind, digests, body)))
        offset += size
        _check_count(events)
    return events


def _event_head(
    data: bytes, offset: int, number: int, sizes: Mapping[int, int]
) -> tuple[int, int, dict[str, bytes], int, int]:
    """All of an event but its data, with the digests in any order, and the offset of its data."""
    digests: dict[str, bytes] = {}
    seen = set()
    try:
        pcr, kind, count = _HEAD.unpack_from(data, offset)
        if count != len(sizes):
            raise _wrong_count(data, offset, number, count)
        offset += _HEAD.size
        for _ in range(count):
            (algorithm,) = _U16.unpack_from(data, offset)
            size = sizes[algorithm]
            seen.add(algorithm)
            name = bank_name(algorithm)
            if name is not None:
                digests[name] = data[offset + 2 : offset + 2 + size]
            offset += 2 + size
        (size,) = _U32.unpack_from(data, offset)
    except struct.error:
        raise _truncated(number) from None
    except KeyError:
        raise FormatError(
            "boot-log-algorithm",
            f"event {number} has a digest of unannounced algorithm {algorithm:#06x}",
        ) from None
    if len(seen) != count:
        raise FormatError("boot-log-algorithm", f"event {number} has two digests of one bank")
    return pcr, kind, digests, size, offset + _U32.size


def _event_data(data: bytes, start: int, size: int, number: int) -> bytes:
    if size > len(data) - start:
        raise FormatError(
            "boot-log-event-size",
            f"event {number} claims {size} bytes of data, the boot log ends before",
        )
    return data[start : start + size]


def _startup_locality(events: list[Event], h_crtm: bool) -> int:
    found = [
        event
        for event in events
        if event.type == EV_NO_ACTION and event.data.startswith(_STARTUP_LOCALITY)
    ]
    if not found:
        return _H_CRTM_LOCALITY if h_crtm else 0
    event = found[0]
    if len(found) > 1 or event.pcr != 0 or len(event.data) != len(_STARTUP_LOCALITY) + 1:
        raise FormatError(
            "boot-log-startup-locality",
            f"event {found[-1].number}: the startup locality is given twice, malformed, or not "
            "for PCR 0",
        )
    return event.data[-1]


def _check_pcr(pcr: int, number: int) -> None:
    if pcr >= PCR_COUNT:
        raise FormatError("boot-log-event", f"event {number} is for PCR {pcr}, there are 24")


def _check_count(events: list[Event]) -> None:
    if len(events) > MAX_EVENTS:
        raise FormatError("boot-log-too-large", f"the boot log has more than {MAX_EVENTS} events")


def _wrong_count(data: bytes, offset: int, number: int, count: int) -> FormatError:
    rest = len(data) - offset
    if rest in (data.count(0x00, offset), data.count(0xFF, offset)):
        return _padding(number)
    return FormatError(
        "boot-log-event", f"event {number} has {count} digests, another number than announced"
    )


def _padding(number: int) -> FormatError:
    return FormatError("boot-log-event", f"padding follows in place of event {number}")


def _truncated(number: int) -> FormatError:
    return FormatError("boot-log-truncated", f"the boot log ends inside event {number}")
