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
"""Facts a boot log proves, beyond the bare PCR values.

A log is written by firmware and boot loader and read by the operating system, so whoever controls
that can rewrite it, as long as the digests still lead to the PCRs. Neither types, nor the order of
events of different PCRs, nor data that is not under a digest can be believed. He can also extend
PCRs further and add the events. What follows from this, by number:

 1. Only data that its digests vouch for makes a fact.
 2. A separator ends what the firmware says in a PCR. It is known by its digest, whatever its type.
 3. SecureBoot, PK, KEK, db and dbx are read only if every event of PCR 7 before the separator is
    under its digest, so that the real one cannot be hidden by giving it another type; each at most
    once and before the separator.
 4. SecureBoot is one byte long, 0 or 1.
 5. The certificates images were checked with (authorities) come after the separator. More can be
    added later, none can be taken away.
 6. UEFI's debug mode is known by the digest of its text, whatever the type of the event.
 7. Kernel command lines are all strings that GRUB hands to a kernel, and also the arguments of all
    its ``linux`` commands: the prefix that tells the two apart is not under the digest, so a policy
    has to be content with each of them. The same goes for what systemd-stub measures into PCR 12,
    which counts only if the log leads to that PCR.
 8. The digests of boot applications (Authenticode) are facts, their paths are not.

Source: TCG PC Client Platform Firmware Profile 1.06, sections 3.3.4.8 "PCR[7]" and 10.4.1.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from oat_trusted_filter.tcg.algorithms import BANKS, new_hash
from oat_trusted_filter.tcg.bootlog import EV_NO_ACTION, BootLog, Event
from oat_trusted_filter.tcg.errors import FormatError
from oat_trusted_filter.tcg.events import (
    EV_EFI_BOOT_SERVICES_APPLICATION,
    EV_EFI_PLATFORM_FIRMWARE_BLOB,
    EV_EFI_PLATFORM_FIRMWARE_BLOB2,
    EV_EFI_VARIABLE_AUTHORITY,
    EV_EFI_VARIABLE_BOOT,
    EV_EFI_VARIABLE_BOOT2,
    EV_EFI_VARIABLE_DRIVER_CONFIG,
    EV_IPL,
    STUB_PCR,
    check_event_data,
    event_type_name,
    grub_command,
    image_path,
    variable,
)
from oat_trusted_filter.tcg.signature_database import (
    SignatureEntry,
    parse_signature_data,
    parse_signature_database,
)

T = TypeVar("T")


def _digests(*texts: bytes) -> frozenset[bytes]:
    """The digests of these texts in all banks."""
    return frozenset(new_hash(bank, text).digest() for bank in BANKS for text in texts)


SECURE_BOOT_PCR = 7
BOOT_LOADER_PCR = 4
#: The databases of UEFI Secure Boot.
DATABASES = ("PK", "KEK", "db", "dbx")
_SEPARATED_PCRS = range(8)
_SECURE_BOOT = "SecureBoot"
_SEPARATORS = _digests(b"\0\0\0\0", b"\xff\xff\xff\xff")
_DEBUG_MODE = _digests(b"UEFI Debug Mode", b"UEFI Debug Mode\0")
_KERNEL_PREFIX = b"kernel_cmdline: "
_KERNEL_COMMANDS = frozenset({b"linux", b"linux16", b"linuxefi"})


@dataclass(frozen=True, slots=True)
class Fact(Generic[T]):
    """Something the log proves, and the event it came from."""

    value: T
    event: int
    """Number of the event."""
    pcr: int


@dataclass(frozen=True, slots=True)
class BootApplication:
    """An EFI application the firmware or shim started: boot loader, kernel."""

    path: str
    """For people; it is not under the digest."""
    digests: dict[str, bytes]
    """Authenticode digest by bank."""


@dataclass(frozen=True, slots=True)
class BootFacts:
    """What the log proves."""

    secure_boot: Fact[bool] | None
    """None if the log says nothing about it."""
    databases: Mapping[str, Fact[tuple[SignatureEntry, ...]]]
    """PK, KEK, db and dbx, as far as they were measured."""
    authorities: tuple[Fact[SignatureEntry], ...]
    """Certificates of db that vouched for an image that was started."""
    uefi_debugger: Fact[bool] | None
    """Set if a firmware debugger was enabled."""
    separators: tuple[int, ...]
    """PCRs 0 to 7 that have exactly one separator."""
    firmware_blobs: tuple[Fact[dict[str, bytes]], ...]
    """Digests of pieces of firmware."""
    boot_order: Fact[tuple[int, ...]] | None
    boot_applications: tuple[Fact[BootApplication], ...]
    kernel_command_lines: tuple[Fact[str], ...]


def extract_facts(log: BootLog) -> BootFacts:
    """Read the facts out of a log that replays to the PCRs.

    :raises FormatError: ``secure-boot-ambiguous`` (D3); ``boot-log-event-data`` (D2) for any event
        whose data should be under its digest and is not; ``signature-database``.
    """
    events = [event for event in log.events if event.type != EV_NO_ACTION]
    vouched = {event.number for event in events if check_event_data(event)}  # 1
    variables = _firmware_variables(events, vouched)
    return BootFacts(
        secure_boot=_secure_boot(variables.pop(_SECURE_BOOT, None)),
        databases={
            name: Fact(parse_signature_database(fact.value), fact.event, fact.pcr)
            for name, fact in variables.items()
        },
        authorities=tuple(_authorities(events)),
        uefi_debugger=_debugger(events),
        separators=tuple(pcr for pcr in _SEPARATED_PCRS if len(_separators(events, pcr)) == 1),
        firmware_blobs=tuple(
            _fact(dict(event.digests), event)
            for event in events
            if event.type in (EV_EFI_PLATFORM_FIRMWARE_BLOB, EV_EFI_PLATFORM_FIRMWARE_BLOB2)
        ),
        boot_order=_boot_order(events),
        boot_applications=tuple(  # 8
            _fact(BootApplication(image_path(event), dict(event.digests)), event)
            for event in events
            if event.type == EV_EFI_BOOT_SERVICES_APPLICATION and event.pcr == BOOT_LOADER_PCR
        ),
        kernel_command_lines=tuple(_command_lines(events)),
    )


def _fact(value: T, event: Event) -> Fact[T]:
    return Fact(value, event.number, event.pcr)


def _separators(events: list[Event], pcr: int) -> list[Event]:
    """Property 2."""
    return [
        event
        for event in events
        if event.pcr == pcr and not _SEPARATORS.isdisjoint(event.digests.values())
    ]


def _firmware_variables(events: list[Event], vouched: set[int]) -> dict[str, Fact[bytes]]:
    """SecureBoot and the databases, by name (property 3)."""
    found: dict[str, Fact[bytes]] = {}
    of_pcr = [event for event in events if event.pcr == SECURE_BOOT_PCR]
    for event in of_pcr:
        if event.type != EV_EFI_VARIABLE_DRIVER_CONFIG:
            continue
        name, value = variable(event)
        if name not in (_SECURE_BOOT, *DATABASES):
            continue
        if name in found:
            raise _ambiguous(event, f"the variable {name} was measured twice")
        found[name] = _fact(value, event)
    if not found:
        return found
    separators = _separators(events, SECURE_BOOT_PCR)
    if len(separators) != 1:
        raise _ambiguous(of_pcr[0], f"PCR 7 has {len(separators)} separators, not one")
    end = separators[0].number
    for event in of_pcr:
        if event.number < end and event.number not in vouched:
            raise _ambiguous(event, "its digest does not vouch for its data")
        if event.number > end and event.number in {fact.event for fact in found.values()}:
            raise _ambiguous(event, "the variable was measured after the separator")
    return found


def _secure_boot(state: Fact[bytes] | None) -> Fact[bool] | None:
    """Property 4."""
    if state is None:
        return None
    if state.value not in (b"\0", b"\1"):
        raise FormatError(
            "secure-boot-ambiguous",
            f"the state of Secure Boot cannot be told: event {state.event} of PCR 7: the variable "
            f"SecureBoot is {state.value[:8].hex() or 'empty'}",
        )
    return Fact(state.value == b"\1", state.event, state.pcr)


def _authorities(events: list[Event]) -> Iterator[Fact[SignatureEntry]]:
    """Property 5. shim uses the same type for variables of its own."""
    for event in events:
        if event.type == EV_EFI_VARIABLE_AUTHORITY and event.pcr == SECURE_BOOT_PCR:
            name, value = variable(event)
            if name == "db":
                yield _fact(parse_signature_data(value), event)


def _debugger(events: list[Event]) -> Fact[bool] | None:
    """Property 6."""
    for event in events:
        if event.pcr == SECURE_BOOT_PCR and not _DEBUG_MODE.isdisjoint(event.digests.values()):
            return _fact(True, event)
    return None


def _boot_order(events: list[Event]) -> Fact[tuple[int, ...]] | None:
    for event in events:
        if event.type in (EV_EFI_VARIABLE_BOOT, EV_EFI_VARIABLE_BOOT2):
            name, value = variable(event)
            if name == "BootOrder" and len(value) % 2 == 0:
                return _fact(struct.unpack(f"<{len(value) // 2}H", value), event)
    return None


def _command_lines(events: list[Event]) -> Iterator[Fact[str]]:
    """Property 7."""
    for event in events:
        if event.type == EV_IPL and event.pcr == STUB_PCR:
            yield _fact(event.data.decode("utf-16-le", "replace").rstrip("\0"), event)
        text = grub_command(event)
        if text is None:
            continue
        command, _, arguments = text.partition(b" ")
        if event.data.startswith(_KERNEL_PREFIX):
            yield _fact(text.decode("utf-8", "backslashreplace"), event)
        elif command in _KERNEL_COMMANDS:
            yield _fact(arguments.decode("utf-8", "backslashreplace"), event)


def _ambiguous(event: Event, why: str) -> FormatError:
    return FormatError(
        "secure-boot-ambiguous",
        f"the state of Secure Boot cannot be told: event {event.number} "
        f"{event_type_name(event.type)} of PCR 7: {why}",
    )
