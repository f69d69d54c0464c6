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
"""Reference values out of boots that are known to be good."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from oat_trusted_filter.backend.appraisal.boot_log import (
    BOOT_FILES_PCR,
    boot_file_events,
    event_digest,
)
from oat_trusted_filter.backend.appraisal.document import DocumentError, check_name
from oat_trusted_filter.backend.appraisal.reference import LAUNCH_PCRS
from oat_trusted_filter.backend.appraisal.rule_records import ReferenceEvent, ReferenceSet
from oat_trusted_filter.tcg.algorithms import BANKS
from oat_trusted_filter.tcg.bootlog import EV_NO_ACTION, BootLog, Event
from oat_trusted_filter.tcg.events import (
    EV_EFI_BOOT_SERVICES_APPLICATION,
    describe_event,
    event_type_name,
)
from oat_trusted_filter.tcg.facts import BOOT_LOADER_PCR
from oat_trusted_filter.tcg.pcr import PcrValues


@dataclass(frozen=True, slots=True)
class GoodBoot:
    """A host whose last boot is taken as good."""

    host: str
    log: BootLog
    pcrs: PcrValues


@dataclass(frozen=True, slots=True)
class DifferingEvent:
    """An event that not all hosts have."""

    host: str
    number: int
    type: str
    description: str
    digest: str


@dataclass(frozen=True, slots=True)
class DifferingPcr:
    """A PCR that is not the same on all hosts, and why."""

    pcr: int
    hosts: tuple[str, ...]
    events: tuple[DifferingEvent, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "pcr": self.pcr,
            "hosts": list(self.hosts),
            "events": [
                {
                    "number": event.number,
                    "type": event.type,
                    "description": f"{event.host}: {event.description}".removesuffix(": "),
                    "digest": event.digest,
                }
                for event in self.events
            ],
        }


def derive_reference(
    name: str,
    kind: str,
    pcrs: Iterable[int],
    boots: Sequence[GoodBoot],
    take: Collection[int] = (),
) -> tuple[ReferenceSet, tuple[DifferingPcr, ...]]:
    """Take reference values from good boots.

    1. The banks are those that all hosts have allocated.
    2. A PCR that has the same value on all hosts is taken, with the events that led to it.
    3. A PCR that has not is left out, and the events that differ are named; unless it is one to
       take all values of.
    4. Images that all hosts have started, and files that all boot loaders have loaded, are taken;
       those of any host if all values of their PCR are.

    :param pcrs: which PCRs to look at.
    :param take: PCRs of which each host's value is as good as the other's.
    :raises DocumentError: ``reference-empty``, the hosts have no bank or no PCR in common.
    """
    check_name(name, "name")
    check_name(kind, "kind")
    banks = [
        bank for bank in BANKS if boots and all(boot.pcrs.get(bank) for boot in boots)
    ]  # 1
    if not banks:
        raise DocumentError("reference-empty", "the hosts have no PCR bank in common", "")
    same, differing = [], []
    for pcr in sorted(set(pcrs)):
        values = {tuple(boot.pcrs[bank].get(pcr) for bank in banks) for boot in boots}
        known = all(None not in of_boot for of_boot in values)
        if pcr in LAUNCH_PCRS and any(not (value or b"").strip(b"\xff") for (value, *_) in values):
            raise DocumentError(
                "reference-empty",
                f"not all hosts have made a dynamic launch: PCR {pcr} still holds ones",
                "",
            )
        if not known or len(values) > 1:
            differing.append(_differing(pcr, boots))  # 3
        if known and (len(values) == 1 or pcr in take):
            same.append(pcr)  # 2
    if not same:
        raise DocumentError("reference-empty", "no PCR is the same on all these hosts", "")
    of_any = BOOT_LOADER_PCR in take, BOOT_FILES_PCR in take
    return (
        ReferenceSet(
            name=name,
            kind=kind,
            pcrs={
                bank: {pcr: frozenset(boot.pcrs[bank][pcr] for boot in boots) for pcr in same}
                for bank in banks
            },
            images={bank: _measured(boots, bank, _images_of, of_any[0]) for bank in banks},  # 4
            boot_files={
                bank: _measured(boots, bank, boot_file_events, of_any[1]) for bank in banks
            },
            events=_known_events(boots, same),
        ),
        tuple(differing),
    )


def _measured(
    boots: Sequence[GoodBoot],
    bank: str,
    events: Callable[[BootLog], Iterable[Event]],
    of_any: bool,
) -> frozenset[bytes]:
    """Digests of the events of all boots, or of any of them."""
    found = [frozenset(event.digests[bank] for event in events(boot.log)) for boot in boots]
    return frozenset.union(*found) if of_any else frozenset.intersection(*found)


def _images_of(log: BootLog) -> list[Event]:
    return [
        event
        for event in _events_of(log, BOOT_LOADER_PCR)
        if event.type == EV_EFI_BOOT_SERVICES_APPLICATION
    ]


def _known_events(boots: Sequence[GoodBoot], pcrs: Collection[int]) -> tuple[ReferenceEvent, ...]:
    """The events of the first boot, and those of the others that it has not."""
    of_boots = [
        [
            ReferenceEvent(
                event.pcr, event_type_name(event.type), event_digest(event), describe_event(event)
            )
            for event in boot.log.events
            if event.pcr in pcrs and event.type != EV_NO_ACTION
        ]
        for boot in boots
    ]
    first, seen = of_boots[0], set(of_boots[0])
    others = dict.fromkeys(event for events in of_boots[1:] for event in events)
    return (*first, *(event for event in others if event not in seen))


def _differing(pcr: int, boots: Sequence[GoodBoot]) -> DifferingPcr:
    of_hosts = {boot.host: _events_of(boot.log, pcr) for boot in boots}
    common = set.intersection(
        *({event_digest(event) for event in events} for events in of_hosts.values())
    )
    return DifferingPcr(
        pcr,
        tuple(of_hosts),
        tuple(
            DifferingEvent(
                host,
                event.number,
                event_type_name(event.type),
                describe_event(event),
                event_digest(event),
            )
            for host, events in of_hosts.items()
            for event in events
            if event_digest(event) not in common
        ),
    )


def _events_of(log: BootLog, pcr: int) -> list[Event]:
    return [event for event in log.events if event.pcr == pcr and event.type != EV_NO_ACTION]
