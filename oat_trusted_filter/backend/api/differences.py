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
"""What two pieces of evidence have in common and what not: PCRs, events of the boot log, facts."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from oat_trusted_filter.backend.appraisal.boot_log import event_digest
from oat_trusted_filter.tcg.bootlog import BootLog, Event
from oat_trusted_filter.tcg.events import describe_event, event_type_name
from oat_trusted_filter.tcg.facts import BootFacts
from oat_trusted_filter.tcg.pcr import PcrValues


def pcr_differences(before: PcrValues, after: PcrValues) -> list[dict[str, Any]]:
    """The PCRs with other values; a bank only one of them has differs in all of them."""
    found = []
    for bank in sorted({*before, *after}):
        old, new = before.get(bank, {}), after.get(bank, {})
        for pcr in sorted({*old, *new}):
            if old.get(pcr) != new.get(pcr):
                values = {
                    "before": None if pcr not in old else old[pcr].hex(),
                    "after": None if pcr not in new else new[pcr].hex(),
                }
                found.append({"bank": bank, "pcr": pcr, **values})
    return found


def event_differences(before: BootLog, after: BootLog) -> dict[str, Any]:
    """The events only one log has, and the PCRs whose events come in another order."""
    old, new = list(map(_key, before.events)), list(map(_key, after.events))
    return {
        "removed": _surplus(before.events, Counter(old) - Counter(new)),
        "added": _surplus(after.events, Counter(new) - Counter(old)),
        "reordered": [
            pcr
            for pcr in sorted({key[0] for key in old})
            if (first := _of(pcr, old)) != (second := _of(pcr, new))
            and Counter(first) == Counter(second)
        ],
    }


def fact_differences(before: BootFacts, after: BootFacts) -> list[dict[str, Any]]:
    """The facts that are others."""
    old, new = _facts(before), _facts(after)
    return [
        {"fact": name, "before": old[name], "after": new[name]}
        for name in old
        if old[name] != new[name]
    ]


def _key(event: Event) -> tuple[int, int, str]:
    return event.pcr, event.type, event_digest(event)


def _of(pcr: int, keys: Iterable[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    return [key for key in keys if key[0] == pcr]


def _surplus(events: Iterable[Event], left: Counter[tuple[int, int, str]]) -> list[dict[str, Any]]:
    found = []
    for event in events:
        key = _key(event)
        if left[key] > 0:
            left[key] -= 1
            found.append(
                {
                    "number": event.number,
                    "pcr": event.pcr,
                    "type": event_type_name(event.type),
                    "description": describe_event(event),
                    "digest": key[2],
                }
            )
    return found


def _facts(facts: BootFacts) -> Mapping[str, Any]:
    """For people: names of certificates and digests instead of their bytes."""
    secure_boot, debugger, order = facts.secure_boot, facts.uefi_debugger, facts.boot_order
    return {
        "secure_boot": None if secure_boot is None else secure_boot.value,
        **{
            name: sorted(entry.fingerprint for entry in facts.databases[name].value)
            if name in facts.databases
            else None
            for name in ("PK", "KEK", "db", "dbx")
        },
        "authorities": sorted(fact.value.fingerprint for fact in facts.authorities),
        "uefi_debugger": None if debugger is None else debugger.value,
        "boot_order": None if order is None else list(order.value),
        "boot_applications": [_strongest(fact.value.digests) for fact in facts.boot_applications],
        "kernel_command_lines": [fact.value for fact in facts.kernel_command_lines],
    }


def _strongest(digests: Mapping[str, bytes]) -> str:
    bank = next((b for b in ("sha256", "sha384", "sha512", "sha1") if b in digests), None)
    return "" if bank is None else f"{bank}:{digests[bank].hex()}"
