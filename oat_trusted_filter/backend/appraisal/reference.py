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
"""Reference sets: taking them from hosts, and as documents (JSON, YAML) and back."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from oat_trusted_filter.backend.appraisal.allow_list import IMA_KIND, files_of
from oat_trusted_filter.backend.appraisal.boot_log import event_digest
from oat_trusted_filter.backend.appraisal.document import (
    DocumentError,
    check_keys,
    check_name,
    pcr_number,
)
from oat_trusted_filter.backend.appraisal.records import ReferenceEvent, ReferenceSet
from oat_trusted_filter.tcg.algorithms import BANKS, digest_size
from oat_trusted_filter.tcg.bootlog import EV_NO_ACTION, BootLog, Event
from oat_trusted_filter.tcg.events import (
    EV_EFI_BOOT_SERVICES_APPLICATION,
    describe_event,
    event_type_name,
)
from oat_trusted_filter.tcg.facts import BOOT_LOADER_PCR
from oat_trusted_filter.tcg.pcr import PcrValues

#: PCRs that firmware and boot loader extend, so that the boot log explains them.
BOOT_PCRS: tuple[int, ...] = (*range(10), 14)
DEFAULT_KIND = "platform"
_MAX_EVENTS = 2_000
_FIELDS = {"kind", "pcrs", "images", "events", "files", "valid_from", "valid_until"}


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
    name: str, kind: str, pcrs: Iterable[int], boots: Sequence[GoodBoot]
) -> tuple[ReferenceSet, tuple[DifferingPcr, ...]]:
    """Take reference values from good boots.

    1. The banks are those that all hosts have allocated.
    2. A PCR that has the same value on all hosts is taken, with the events that led to it.
    3. A PCR that has not is left out, and the events that differ are named.
    4. Images that all hosts have started are taken.

    :param pcrs: which PCRs to look at.
    :raises DocumentError: ``reference-empty``, the hosts have no bank or no PCR in common.
    """
    check_name(name, "name")
    check_name(kind, "kind")
    banks = [
        bank for bank in BANKS if boots and all(boot.pcrs.get(bank) for boot in boots)
    ]  # 1
    if not banks:
        raise DocumentError("reference-empty", "the hosts have no PCR bank in common")
    same, differing = [], []
    for pcr in sorted(set(pcrs)):
        values = {tuple(boot.pcrs[bank].get(pcr) for bank in banks) for boot in boots}
        if len(values) == 1 and None not in next(iter(values)):
            same.append(pcr)  # 2
        else:
            differing.append(_differing(pcr, boots))  # 3
    if not same:
        raise DocumentError("reference-empty", "no PCR is the same on all these hosts")
    first = boots[0]
    return (
        ReferenceSet(
            name=name,
            kind=kind,
            pcrs={
                bank: {pcr: frozenset([first.pcrs[bank][pcr]]) for pcr in same} for bank in banks
            },
            images={bank: _common_images(boots, bank) for bank in banks},  # 4
            events=tuple(
                ReferenceEvent(
                    event.pcr,
                    event_type_name(event.type),
                    event_digest(event),
                    describe_event(event),
                )
                for event in first.log.events
                if event.pcr in same and event.type != EV_NO_ACTION
            ),
        ),
        tuple(differing),
    )


def _common_images(boots: Sequence[GoodBoot], bank: str) -> frozenset[bytes]:
    return frozenset.intersection(
        *(
            frozenset(
                event.digests[bank]
                for event in _events_of(boot.log, BOOT_LOADER_PCR)
                if event.type == EV_EFI_BOOT_SERVICES_APPLICATION
            )
            for boot in boots
        )
    )


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


def to_document(reference: ReferenceSet) -> dict[str, Any]:
    """The set as plain data."""
    return {
        "name": reference.name,
        "kind": reference.kind,
        "pcrs": {
            bank: {
                str(pcr): sorted(value.hex() for value in values)
                for pcr, values in sorted(of_bank.items())
            }
            for bank, of_bank in reference.pcrs.items()
        },
        "images": {
            bank: sorted(digest.hex() for digest in digests)
            for bank, digests in reference.images.items()
            if digests
        },
        "events": [
            {
                "pcr": event.pcr,
                "type": event.type,
                "digest": event.digest,
                "description": event.description,
            }
            for event in reference.events
        ],
        **({"files": _files_document(reference)} if reference.files else {}),
        "valid_from": _moment_text(reference.valid_from),
        "valid_until": _moment_text(reference.valid_until),
    }


def _files_document(reference: ReferenceSet) -> dict[str, list[str]]:
    return {digest: list(paths) for digest, paths in reference.files.items()}


def from_document(document: Any) -> ReferenceSet:
    """The set a document describes.

    :raises DocumentError: it describes none; the message names the field.
    """
    check_keys(document, "reference set", {"name"}, _FIELDS)
    valid_from = _moment(document.get("valid_from"), "valid_from")
    valid_until = _moment(document.get("valid_until"), "valid_until")
    if valid_from and valid_until and valid_until <= valid_from:
        raise DocumentError("reference-invalid", "valid_until is not after valid_from")
    events = document.get("events") or []
    if not isinstance(events, list) or len(events) > _MAX_EVENTS:
        raise DocumentError("reference-invalid", f"events is not a list of up to {_MAX_EVENTS}")
    kind = check_name(document.get("kind", DEFAULT_KIND), "kind")
    pcrs, images = _pcrs(document.get("pcrs", {})), _images(document.get("images", {}))
    if ("files" in document) != (kind == IMA_KIND):
        raise DocumentError("reference-invalid", f"files go with kind {IMA_KIND}, and only with it")
    files = files_of(document["files"]) if kind == IMA_KIND else {}
    if not pcrs and not images and not files:
        raise DocumentError("reference-invalid", "the set has neither pcrs nor images")
    return ReferenceSet(
        name=check_name(document["name"], "name"),
        kind=kind,
        pcrs=pcrs,
        images=images,
        files=files,
        events=tuple(_event(item, f"events[{number}]") for number, item in enumerate(events)),
        valid_from=valid_from,
        valid_until=valid_until,
    )


def _pcrs(value: Any) -> dict[str, dict[int, frozenset[bytes]]]:
    check_keys(value, "pcrs", set(), set(BANKS))
    found: dict[str, dict[int, frozenset[bytes]]] = {}
    for bank, of_bank in value.items():
        if not isinstance(of_bank, dict) or not of_bank:
            raise DocumentError("reference-invalid", f"pcrs.{bank} is not an object of PCRs")
        found[bank] = {
            pcr_number(pcr, f"pcrs.{bank}"): _values(values, bank, f"pcrs.{bank}.{pcr}")
            for pcr, values in of_bank.items()
        }
    return found


def _images(value: Any) -> dict[str, frozenset[bytes]]:
    check_keys(value, "images", set(), set(BANKS))
    return {bank: _values(digests, bank, f"images.{bank}") for bank, digests in value.items()}


def _values(values: Any, bank: str, where: str) -> frozenset[bytes]:
    if isinstance(values, str):
        values = [values]
    if not isinstance(values, list) or not values:
        raise DocumentError("reference-invalid", f"{where} is not a list of values")
    return frozenset(_digest(value, digest_size(bank), where) for value in values)


def _digest(value: Any, size: int, where: str) -> bytes:
    try:
        digest = bytes.fromhex(value)
    except (TypeError, ValueError):
        digest = b""
    if len(digest) != size or digest.hex() != value.lower():
        raise DocumentError("reference-invalid", f"{where} has a value that is not {size} bytes")
    return digest


def _event(item: Any, where: str) -> ReferenceEvent:
    check_keys(item, where, {"pcr", "type", "digest"}, {"description"})
    texts = {name: item.get(name, "") for name in ("type", "digest", "description")}
    for name, text in texts.items():
        if not isinstance(text, str) or len(text) > 300 or not text.isascii():
            raise DocumentError("reference-invalid", f"{where}.{name} is not a short ASCII text")
    return ReferenceEvent(pcr_number(item["pcr"], f"{where}.pcr"), **texts)


def _moment_text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _moment(value: Any, where: str) -> datetime | None:
    if value is None:
        return None
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise DocumentError("reference-invalid", f"{where} is not a time (RFC 3339)") from None
    if moment.tzinfo is None:
        raise DocumentError("reference-invalid", f"{where} has no time zone")
    return moment


def known_events(reference: ReferenceSet) -> Mapping[int, tuple[ReferenceEvent, ...]]:
    """The events of a set by PCR, in their order."""
    found: dict[int, list[ReferenceEvent]] = {}
    for event in reference.events:
        found.setdefault(event.pcr, []).append(event)
    return {pcr: tuple(events) for pcr, events in found.items()}
