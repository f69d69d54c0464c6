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
    once, of the vendor the specification names, and before the separator, which reports no error.
 4. SecureBoot is one byte long, 0 or 1.
 5. The certificates images were checked with (authorities) come after the separator. More can be
    added later, none can be taken away.
 6. UEFI's debug mode is known by the digest of its text, whatever the type of the event.
 7. Kernel command lines are all strings that GRUB hands to a kernel, and also the arguments of all
    its ``linux`` commands: the prefix that tells the two apart is not under the digest, so a policy
    has to be content with each of them. The same goes for what systemd-stub measures into PCR 12,
    which counts only if the log leads to that PCR. There are none if an event of these PCRs does
    not show what was measured, for it may hide another line behind one that was added later. And
    lines say something only of a boot loader that measures them, which PCR 4 has to tell: after
    any other these PCRs are empty, and whoever controls the host fills them as he likes.
 8. The digests of boot applications (Authenticode) are facts, their paths are not. An event of
    PCR 4 is one whatever its type, unless its data shows that something else was measured; an
    image itself, which begins with MZ, is not something else.

Source: TCG PC Client Platform Firmware Profile 1.06, sections 3.3.4.8 "PCR[7]" and 10.4.1.
"""

import struct
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from oat_trusted_filter.tcg.algorithms import BANKS, DIGESTERS
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
    GRUB_PCR,
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
    return frozenset(DIGESTERS[bank](text) for bank in BANKS for text in texts)


SECURE_BOOT_PCR = 7
BOOT_LOADER_PCR = 4
#: The databases of UEFI Secure Boot.
DATABASES = ("PK", "KEK", "db", "dbx")
_SEPARATED_PCRS = range(8)
_SECURE_BOOT = "SecureBoot"
_SEPARATORS = _digests(b"\0\0\0\0", b"\xff\xff\xff\xff")
# What firmware ends a PCR with when it failed to measure (PFP 10.4.1, EV_SEPARATOR).
_ERRORS = _digests(b"\1\0\0\0")
_ENDS = _SEPARATORS | _ERRORS
_GLOBAL = uuid.UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c").bytes_le
_IMAGE_SECURITY = uuid.UUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f").bytes_le
_VENDORS = {
    _SECURE_BOOT: _GLOBAL,
    "PK": _GLOBAL,
    "KEK": _GLOBAL,
    "db": _IMAGE_SECURITY,
    "dbx": _IMAGE_SECURITY,
}
_DEBUG_MODE = _digests(b"UEFI Debug Mode", b"UEFI Debug Mode\0")
_KERNEL_PREFIX = b"kernel_cmdline: "
_KERNEL_COMMANDS = frozenset({b"linux", b"linux16", b"linuxefi"})
# A string of GRUB that begins with a file is what it hands to a kernel or module; no command does.
_FILE_STARTS = (b"/", b"(")
# Linux takes 2048 bytes on most architectures; regular expressions are run over these.
_LONGEST_LINE = 8192
_IMAGE_START = b"MZ"


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
    separators: Mapping[int, Fact[bytes]]
    """By PCR, of 0 to 7 those with exactly one separator, which reports no error; its digest."""
    firmware_blobs: tuple[Fact[dict[str, bytes]], ...]
    """Digests of pieces of firmware."""
    boot_order: Fact[tuple[int, ...]] | None
    boot_applications: tuple[Fact[BootApplication], ...]
    kernel_command_lines: tuple[Fact[str], ...]
    command_line_hidden_by: int | None
    """Number of an event that may hide a kernel command line; there are no lines then."""


def extract_facts(log: BootLog) -> BootFacts:
    """Read the facts out of a log that replays to the PCRs.

    :raises FormatError: ``secure-boot-ambiguous`` (D3); ``boot-log-event-data`` (D2) for any event
        whose data should be under its digest and is not; ``signature-database``.
    """
    events = [event for event in log.events if event.type != EV_NO_ACTION]
    vouched = {event.number for event in events if check_event_data(event)}  # 1
    separators = _separators(events)  # 2
    variables = _firmware_variables(events, vouched, separators[SECURE_BOOT_PCR])
    command_lines, hidden_by = _command_lines(events, vouched)
    return BootFacts(
        secure_boot=_secure_boot(variables.pop(_SECURE_BOOT, None)),
        databases={
            name: Fact(parse_signature_database(fact.value), fact.event, fact.pcr)
            for name, fact in variables.items()
        },
        authorities=tuple(_authorities(events)),
        uefi_debugger=_debugger(events),
        separators={
            pcr: _fact(next(iter(found[0].digests.values())), found[0])
            for pcr, found in separators.items()
            if len(found) == 1 and not _is_error(found[0])
        },
        firmware_blobs=tuple(
            _fact(dict(event.digests), event)
            for event in events
            if event.type in (EV_EFI_PLATFORM_FIRMWARE_BLOB, EV_EFI_PLATFORM_FIRMWARE_BLOB2)
        ),
        boot_order=_boot_order(events),
        boot_applications=tuple(_boot_applications(events, vouched)),
        kernel_command_lines=command_lines,
        command_line_hidden_by=hidden_by,
    )


def _fact(value: T, event: Event) -> Fact[T]:
    return Fact(value, event.number, event.pcr)


def _separators(events: list[Event]) -> dict[int, list[Event]]:
    """Property 2, of each PCR, also those that report an error."""
    found: dict[int, list[Event]] = {pcr: [] for pcr in _SEPARATED_PCRS}
    for event in events:
        if event.pcr in found and not _ENDS.isdisjoint(event.digests.values()):
            found[event.pcr].append(event)
    return found


def _is_error(separator: Event) -> bool:
    return not _ERRORS.isdisjoint(separator.digests.values())


def _firmware_variables(
    events: list[Event], vouched: set[int], separators: list[Event]
) -> dict[str, Fact[bytes]]:
    """SecureBoot and the databases, by name (property 3)."""
    found: dict[str, Fact[bytes]] = {}
    of_pcr = [event for event in events if event.pcr == SECURE_BOOT_PCR]
    for event in of_pcr:
        if event.type != EV_EFI_VARIABLE_DRIVER_CONFIG:
            continue
        name, value = variable(event)
        if name not in _VENDORS:
            continue
        if not event.data.startswith(_VENDORS[name]):
            raise _ambiguous(event, f"the variable {name} is of another vendor")
        if name in found:
            raise _ambiguous(event, f"the variable {name} was measured twice")
        found[name] = _fact(value, event)
    if not found:
        return found
    if len(separators) != 1:
        raise _ambiguous(of_pcr[0], f"PCR 7 has {len(separators)} separators, not one")
    if _is_error(separators[0]):
        raise _ambiguous(separators[0], "the firmware reports an error")
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


def _boot_applications(events: list[Event], vouched: set[int]) -> Iterator[Fact[BootApplication]]:
    """Property 8."""
    for event in events:
        if event.pcr != BOOT_LOADER_PCR:
            continue
        if event.number not in vouched or event.data.startswith(_IMAGE_START):
            named = event.type == EV_EFI_BOOT_SERVICES_APPLICATION
            path = image_path(event) if named else ""
            yield _fact(BootApplication(path, dict(event.digests)), event)


def _command_lines(
    events: list[Event], vouched: set[int]
) -> tuple[tuple[Fact[str], ...], int | None]:
    """Property 7: the lines, or none and the event that may hide one."""
    found = []
    for event in events:
        if event.pcr == STUB_PCR:
            shown = event.type == EV_IPL and event.number in vouched
            line: str | None = event.data.decode("utf-16-le", "replace").rstrip("\0")
        elif event.pcr == GRUB_PCR:
            text = grub_command(event)
            shown = text is not None
            line = None if text is None else _grub_line(event, text)
        else:
            continue
        if not shown or (line is not None and len(line) > _LONGEST_LINE):
            return (), event.number
        if line is not None:
            found.append(_fact(line, event))
    return tuple(found), None


def _grub_line(event: Event, text: bytes) -> str | None:
    """What GRUB told a kernel, None if the string says something else."""
    command, _, arguments = text.partition(b" ")
    if event.data.startswith(_KERNEL_PREFIX) or text.startswith(_FILE_STARTS):
        return text.decode("utf-8", "backslashreplace")
    if command in _KERNEL_COMMANDS:
        return arguments.decode("utf-8", "backslashreplace")
    return None


def _ambiguous(event: Event, why: str) -> FormatError:
    return FormatError(
        "secure-boot-ambiguous",
        f"the state of Secure Boot cannot be told: event {event.number} "
        f"{event_type_name(event.type)} of PCR 7: {why}",
    )
