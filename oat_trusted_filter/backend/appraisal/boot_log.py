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
"""A boot log with all that follows from its bytes alone, so that it can be kept by its digest."""

from collections.abc import Mapping
from dataclasses import dataclass

from oat_trusted_filter.tcg.bootlog import (
    EV_NO_ACTION,
    BootLog,
    Event,
    parse_boot_log,
    replay,
)
from oat_trusted_filter.tcg.facts import BootFacts, extract_facts

#: GRUB extends it with each file it reads, the EFI stub of Linux with the initrd.
BOOT_FILES_PCR = 9
#: Bank whose digests stand for events in reference sets and messages, the first a log has.
NAMING_BANKS = ("sha256", "sha384", "sha512", "sha1")


@dataclass(frozen=True, slots=True)
class ReadBootLog:
    """A parsed log."""

    log: BootLog
    facts: BootFacts
    replayed: Mapping[str, Mapping[int, bytes]]
    """Bank -> PCR -> the value the log leads to."""


def read_boot_log(data: bytes) -> ReadBootLog:
    """Parse a log, replay it in all its banks, check event data and extract the facts.

    :raises FormatError: the log is malformed, an event's data is not what was measured, or the
        state of Secure Boot is ambiguous.
    """
    log = parse_boot_log(data)
    return ReadBootLog(log, extract_facts(log), {bank: replay(log, bank) for bank in log.banks})


def boot_file_events(log: BootLog) -> list[Event]:
    """What a boot loader has loaded: GRUB and the kernel's EFI stub measure files as they are.

    An event is one whatever its type, which is not under the digest.
    """
    return [
        event
        for event in log.events
        if event.pcr == BOOT_FILES_PCR and event.type != EV_NO_ACTION
    ]


def event_digest(event: Event) -> str:
    """The digest that stands for an event, in hexadecimal; empty if it has none."""
    for bank in NAMING_BANKS:
        if bank in event.digests:
            return event.digests[bank].hex()
    return ""
