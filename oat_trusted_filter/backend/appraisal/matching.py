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
"""Comparing a host with reference sets, and naming what is to blame if none matches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from oat_trusted_filter.backend.appraisal.boot_log import ReadBootLog, event_digest
from oat_trusted_filter.backend.appraisal.records import Finding
from oat_trusted_filter.backend.appraisal.reference import known_events
from oat_trusted_filter.backend.appraisal.rule_records import (
    ReferenceEvent,
    ReferenceSet,
    Requirement,
)
from oat_trusted_filter.tcg.bootlog import EV_NO_ACTION, Event
from oat_trusted_filter.tcg.events import describe_event, event_type_name
from oat_trusted_filter.tcg.pcr import PcrValues

_SHOWN_DIGITS = 16
_SHOWN_KNOWN = 3


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A PCR of a bank that is not as a set has it."""

    bank: str
    pcr: int


def match(
    requirement: Requirement,
    references: Sequence[ReferenceSet],
    pcrs: PcrValues,
    read_log: ReadBootLog,
    now: datetime,
) -> ReferenceSet | tuple[Finding, ...]:
    """The set that matches in every bank and PCR, or why none does.

    Of several that match it is the one that is valid for the longest time.
    """
    candidates = [
        reference
        for reference in references
        if reference.kind == requirement.kind and reference.valid_at(now)
    ]
    if not candidates:
        return (
            Finding(
                "no-reference",
                f"there is no valid reference set of kind {requirement.kind} to compare with",
            ),
        )
    mismatches = {
        reference.name: _mismatches(requirement, reference, pcrs) for reference in candidates
    }
    matching = [reference for reference in candidates if not mismatches[reference.name]]
    if matching:
        return max(matching, key=_end)
    nearest = min(
        candidates,
        key=lambda reference: (
            len({mismatch.pcr for mismatch in mismatches[reference.name]}),
            _unknown_events(reference, requirement, read_log),
            reference.name,
        ),
    )
    tried = tuple(sorted(mismatches))
    return tuple(
        replace(finding, tried=tried)
        for finding in _explain(nearest, mismatches[nearest.name], pcrs, read_log)
    )


def _end(reference: ReferenceSet) -> tuple[bool, datetime | int]:
    until = reference.valid_until
    return (True, 0) if until is None else (False, until)


def _mismatches(
    requirement: Requirement, reference: ReferenceSet, pcrs: PcrValues
) -> list[Mismatch]:
    found = []
    for bank, values in pcrs.items():
        good = reference.pcrs.get(bank, {})
        for pcr in requirement.pcrs:
            if values[pcr] not in good.get(pcr, ()):
                found.append(Mismatch(bank, pcr))
    return found


def _unknown_events(
    reference: ReferenceSet, requirement: Requirement, read_log: ReadBootLog
) -> int:
    known = {(event.pcr, event.digest) for event in reference.events}
    return sum(
        (event.pcr, event_digest(event)) not in known
        for event in read_log.log.events
        if event.pcr in requirement.pcrs and event.type != EV_NO_ACTION
    )


def _explain(
    reference: ReferenceSet,
    mismatches: Sequence[Mismatch],
    pcrs: PcrValues,
    read_log: ReadBootLog,
) -> Iterator[Finding]:
    """One finding for each PCR."""
    known = known_events(reference)
    explained = set()
    for mismatch in mismatches:
        if mismatch.pcr not in explained:
            explained.add(mismatch.pcr)
            yield _finding(reference, mismatch, pcrs, known.get(mismatch.pcr, ()), read_log)


def _finding(
    reference: ReferenceSet,
    mismatch: Mismatch,
    pcrs: PcrValues,
    known: Sequence[ReferenceEvent],
    read_log: ReadBootLog,
) -> Finding:
    pcr, bank = mismatch.pcr, mismatch.bank
    good = reference.pcrs.get(bank, {}).get(pcr)
    if good is None:
        return Finding(
            "reference-incomplete",
            f"PCR {pcr} cannot be judged: set {reference.name} has no {bank} value for it",
            pcr=pcr,
            bank=bank,
            quoted=pcrs[bank][pcr].hex(),
            reference_set=reference.name,
        )
    values = tuple(sorted(value.hex() for value in good))
    events = [
        event
        for event in read_log.log.events
        if event.pcr == pcr and event.type != EV_NO_ACTION
    ]
    blamed = _blamed(events, known)
    if blamed is None:
        return Finding(
            "pcr-mismatch",
            f"PCR {pcr} differs: {_without_new_event(events, known)} (set {reference.name})",
            pcr=pcr,
            bank=bank,
            actual=pcrs[bank][pcr].hex(),
            expected=values,
            quoted=pcrs[bank][pcr].hex(),
            reference_values=values,
            reference_set=reference.name,
        )
    index, event = blamed
    expected = _expected(index, event, known)
    description = describe_event(event)
    digest = event_digest(event)
    title = f"event {event.number} {event_type_name(event.type)} {description}".rstrip()
    return Finding(
        "pcr-mismatch",
        f"PCR {pcr} differs: {title} has digest {short(digest)}, known: "
        f"{', '.join(map(short, expected[:_SHOWN_KNOWN])) or 'no such event'} "
        f"(set {reference.name})",
        pcr=pcr,
        bank=bank,
        event=event.number,
        event_type=event_type_name(event.type),
        description=description,
        actual=digest,
        expected=expected,
        quoted=pcrs[bank][pcr].hex(),
        reference_values=values,
        reference_set=reference.name,
    )


def _blamed(events: Sequence[Event], known: Sequence[ReferenceEvent]) -> tuple[int, Event] | None:
    """The first event that no good boot had, and its place among those of the PCR."""
    digests = {event.digest for event in known}
    for index, event in enumerate(events):
        if event_digest(event) not in digests:
            return index, event
    return None


def _expected(index: int, event: Event, known: Sequence[ReferenceEvent]) -> tuple[str, ...]:
    """Digests of the known events that stand where this one does."""
    kind, description = event_type_name(event.type), describe_event(event)
    same_type = [reference for reference in known if reference.type == kind]
    named_alike = [r.digest for r in same_type if description and r.description == description]
    if named_alike:
        return tuple(dict.fromkeys(named_alike))
    if index < len(known) and known[index].type == kind:
        return (known[index].digest,)
    return tuple(dict.fromkeys(reference.digest for reference in same_type))


def _without_new_event(events: Sequence[Event], known: Sequence[ReferenceEvent]) -> str:
    """Why the value differs although each event is known."""
    found = {event_digest(event) for event in events}
    for reference in known:
        if reference.digest not in found:
            title = f"{reference.type} {reference.description}".rstrip()
            return f"{title} with digest {short(reference.digest)} is missing"
    return "known events come in another order or number"


def short(digest: str) -> str:
    """The digest as far as people need it to tell it from others."""
    return digest if len(digest) <= _SHOWN_DIGITS else f"{digest[:_SHOWN_DIGITS]}…"
