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
2. A separator ends what the firmware says in PCR 7. It is known by its digest, whatever its type.
3. SecureBoot is read only if every event of PCR 7 before the separator is under its digest, so
   that the real one cannot be hidden by giving it another type; exactly one, before the separator,
   one byte long, 0 or 1.
4. UEFI's debug mode is known by the digest of its text, whatever the type of the event.
5. Kernel command lines are all strings that GRUB hands to a kernel, and also the arguments of all
   its ``linux`` commands: the prefix that tells the two apart is not under the digest, so a policy
   has to be content with each of them.

Source: TCG PC Client Platform Firmware Profile 1.06, sections 3.3.4.8 "PCR[7]" and 10.4.1.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from oat_trusted_filter.tcg.algorithms import BANKS, new_hash
from oat_trusted_filter.tcg.bootlog import EV_NO_ACTION, BootLog, Event
from oat_trusted_filter.tcg.errors import FormatError
from oat_trusted_filter.tcg.events import (
    EV_EFI_BOOT_SERVICES_APPLICATION,
    EV_EFI_VARIABLE_DRIVER_CONFIG,
    check_event_data,
    event_type_name,
    grub_command,
    image_path,
    variable,
)

T = TypeVar("T")


def _digests(*texts: bytes) -> frozenset[bytes]:
    """The digests of these texts in all banks."""
    return frozenset(new_hash(bank, text).digest() for bank in BANKS for text in texts)


SECURE_BOOT_PCR = 7
BOOT_LOADER_PCR = 4
_SEPARATORS = _digests(b"\0\0\0\0", b"\xff\xff\xff\xff")
_DEBUG_MODE = _digests(b"UEFI Debug Mode", b"UEFI Debug Mode\0")
_KERNEL_PREFIX = b"kernel_cmdline: "
_KERNEL_COMMANDS = frozenset({b"linux", b"linux16", b"linuxefi"})


@dataclass(frozen=True, slots=True)
class Fact(Generic[T]):
    """Something the log proves, and the number of the event it came from."""

    value: T
    event: int


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
    kernel_command_lines: tuple[Fact[str], ...]
    boot_applications: tuple[Fact[BootApplication], ...]
    uefi_debugger: Fact[bool] | None
    """Set if a firmware debugger was enabled."""


def extract_facts(log: BootLog) -> BootFacts:
    """Read the facts out of a log that replays to the PCRs.

    :raises FormatError: ``secure-boot-ambiguous`` (D3), or ``boot-log-event-data`` (D2) for any
        event whose data should be under its digest and is not.
    """
    vouched = {
        event.number: check_event_data(event) for event in log.events if event.type != EV_NO_ACTION
    }
    return BootFacts(
        secure_boot=_secure_boot(log, vouched),
        kernel_command_lines=tuple(_command_lines(log)),
        boot_applications=tuple(
            Fact(BootApplication(image_path(event), dict(event.digests)), event.number)
            for event in log.events
            if event.type == EV_EFI_BOOT_SERVICES_APPLICATION and event.pcr == BOOT_LOADER_PCR
        ),
        uefi_debugger=_debugger(log),
    )


def _of_pcr(log: BootLog, pcr: int) -> Iterator[Event]:
    return (event for event in log.events if event.pcr == pcr and event.type != EV_NO_ACTION)


def _secure_boot(log: BootLog, vouched: dict[int, bool]) -> Fact[bool] | None:
    events = list(_of_pcr(log, SECURE_BOOT_PCR))
    separators = [event for event in events if _SEPARATORS & set(event.digests.values())]
    states = [event for event in events if _is_secure_boot(event)]
    if not states:
        return None
    if len(separators) != 1:
        raise _ambiguous(events[0], f"PCR 7 has {len(separators)} separators, not one")
    if len(states) > 1:
        raise _ambiguous(states[1], "the SecureBoot variable was measured twice")
    (state,), (separator,) = states, separators
    if state.number > separator.number:
        raise _ambiguous(state, "the SecureBoot variable was measured after the separator")
    for event in events:
        if event.number < separator.number and not vouched[event.number]:
            raise _ambiguous(event, "its digest does not vouch for its data")
    _, value = variable(state)
    if value not in (b"\0", b"\1"):
        raise _ambiguous(state, f"the SecureBoot variable is {value[:8].hex() or 'empty'}")
    return Fact(value == b"\1", state.number)


def _is_secure_boot(event: Event) -> bool:
    if event.type != EV_EFI_VARIABLE_DRIVER_CONFIG:
        return False
    name, _ = variable(event)
    return name == "SecureBoot"


def _debugger(log: BootLog) -> Fact[bool] | None:
    for event in _of_pcr(log, SECURE_BOOT_PCR):
        if _DEBUG_MODE & set(event.digests.values()):
            return Fact(True, event.number)
    return None


def _command_lines(log: BootLog) -> Iterator[Fact[str]]:
    for event in log.events:
        text = grub_command(event)
        if text is None:
            continue
        command, _, arguments = text.partition(b" ")
        if event.data.startswith(_KERNEL_PREFIX):
            yield Fact(text.decode("utf-8", "backslashreplace"), event.number)
        elif command in _KERNEL_COMMANDS:
            yield Fact(arguments.decode("utf-8", "backslashreplace"), event.number)


def _ambiguous(event: Event, why: str) -> FormatError:
    return FormatError(
        "secure-boot-ambiguous",
        f"the state of Secure Boot cannot be told: event {event.number} "
        f"{event_type_name(event.type)} of PCR 7: {why}",
    )
