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
"""Boot logs written anew with something changed, as whoever controls the host could."""

import hashlib
import struct
from collections.abc import Iterable, Mapping

from oat_trusted_filter.tcg.algorithms import BANKS
from oat_trusted_filter.tcg.bootlog import BootLog, Event, parse_boot_log
from tests.lab.boots import Boot

EV_NO_ACTION = 3


def spec_id(banks: Mapping[str, int]) -> bytes:
    """The data of the first event; ``banks`` is name or number -> digest size."""
    data = struct.pack("<16sIBBBBI", b"Spec ID Event03\0", 0, 0, 2, 0, 2, len(banks))
    for bank, size in banks.items():
        data += struct.pack("<HH", BANKS.get(bank, bank), size)
    return data + b"\0"


def first_event(data: bytes) -> bytes:
    """The first event of a crypto-agile log."""
    return struct.pack("<II20sI", 0, EV_NO_ACTION, bytes(20), len(data)) + data


def encode_event(event: Event) -> bytes:
    """TCG_PCR_EVENT2."""
    data = struct.pack("<III", event.pcr, event.type, len(event.digests))
    for bank, digest in event.digests.items():
        data += struct.pack("<H", BANKS[bank]) + digest
    return data + struct.pack("<I", len(event.data)) + event.data


def encode(events: Iterable[Event], banks=("sha1", "sha256", "sha384")) -> bytes:
    """A crypto-agile log."""
    sizes = {bank: hashlib.new(bank).digest_size for bank in banks}
    return first_event(spec_id(sizes)) + b"".join(encode_event(event) for event in events)


def encode_sha1(events: Iterable[Event]) -> bytes:
    """A log in the SHA-1 format."""
    return b"".join(
        struct.pack("<II", event.pcr, event.type)
        + event.digests["sha1"]
        + struct.pack("<I", len(event.data))
        + event.data
        for event in events
    )


def recorded(name: str = "machine-a") -> list[Event]:
    """The events of a recording, without the first."""
    return list(parse_boot_log(Boot(name).boot_log).events[1:])


def measured(pcr: int, kind: int, data: bytes, over: bytes | None = None) -> Event:
    """An event with the right digests, of its data unless told otherwise."""
    over = data if over is None else over
    digests = {bank: hashlib.new(bank, over).digest() for bank in ("sha1", "sha256", "sha384")}
    return Event(0, pcr, kind, digests, data)


def changed(events: list[Event], number: int, **fields: object) -> list[Event]:
    """The events with one of them changed; numbers are those of the whole log."""
    index = number - 1
    return [*events[:index], events[index]._replace(**fields), *events[index + 1 :]]


def parsed(events: Iterable[Event]) -> BootLog:
    """The log of these events."""
    events = list(events)
    return parse_boot_log(encode(events, tuple(events[0].digests)) if events else encode([]))
