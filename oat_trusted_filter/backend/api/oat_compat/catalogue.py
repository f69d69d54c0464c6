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
"""Reference sets as OpenAttestation knows white lists: MLEs, each of an OEM or an operating system.

What was written through its interface has one set for each MLE. Any other set is shown as well:
what it says of the PCRs of the firmware is a BIOS MLE, and what it says of all others a VMM MLE.
Its kind is the OEM or the operating system, and its generation the version.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from oat_trusted_filter.backend.api.rules import Rules
from oat_trusted_filter.backend.api.service import Service
from oat_trusted_filter.backend.appraisal.rule_records import ReferenceSet
from oat_trusted_filter.backend.store import oat_mles
from oat_trusted_filter.backend.store.oat_mles import BIOS, OEM, VMM, StoredMle

#: What firmware extends until it hands over; the others are those of the system.
FIRMWARE_PCRS = range(8)
#: The source of an MLE that no host has.
_TYPED = "Manually configured white list"


@dataclass(frozen=True, slots=True)
class Mle:
    """An MLE and where its PCRs are."""

    stored: StoredMle
    reference: ReferenceSet | None
    """None: it has no PCRs yet."""
    whole: bool = True
    """All PCRs of the set are its own; otherwise those of its type."""

    @property
    def source(self) -> str:
        """The host, or hosts, its values are from."""
        provenance = None if self.reference is None else self.reference.provenance
        hosts = () if provenance is None else provenance.hosts
        return self.stored.source or ",".join(hosts) or _TYPED

    def document(self, *, complete: bool) -> dict[str, Any]:
        """As it is on the wire.

        :param complete: with its PCRs.
        """
        stored, bios = self.stored, self.stored.type == BIOS
        return {
            "Name": stored.name,
            "Version": stored.version,
            "Attestation_Type": stored.attestation_type,
            "MLE_Type": stored.type,
            "Description": stored.description,
            "OsName": None if bios else stored.maker,
            "OsVersion": None if bios else stored.maker_version,
            "OemName": stored.maker if bios else None,
            "MLE_Manifests": self._manifests() if complete else None,
        }

    @property
    def pcrs(self) -> tuple[int, ...]:
        """Those it has values for."""
        of_banks = () if self.reference is None else self.reference.pcrs.values()
        return tuple(
            pcr
            for pcr in sorted({pcr for of_bank in of_banks for pcr in of_bank})
            if self.whole or (pcr in FIRMWARE_PCRS) == (self.stored.type == BIOS)
        )

    def _manifests(self) -> list[dict[str, str]]:
        """The values of each PCR; several if there are more banks, or more than one is good."""
        of_banks = () if self.reference is None else self.reference.pcrs.values()
        found = [
            (pcr, len(value), value.hex().upper())
            for pcr in self.pcrs
            for of_bank in of_banks
            for value in of_bank.get(pcr, ())
        ]
        found.sort()
        return [{"Name": str(pcr), "Value": value} for pcr, _, value in found]


class Catalogue:
    """All MLEs at one moment."""

    def __init__(self, known: Rules, stored: Iterable[StoredMle]) -> None:
        self.known = known
        self._stored = {mle.reference_set: mle for mle in stored}

    def of_set(self, name: str) -> Iterator[Mle]:
        """The MLEs a reference set is shown as."""
        stored, reference = self._stored.get(name), self.known.references.get(name)
        if stored is not None:
            yield Mle(stored, reference)
        elif reference is not None:
            pcrs = {pcr for of_bank in reference.pcrs.values() for pcr in of_bank}
            version = str(self.known.generation("reference_sets", name))
            for kind, of_kind in (
                (BIOS, pcrs.intersection(FIRMWARE_PCRS)),
                (VMM, pcrs.difference(FIRMWARE_PCRS)),
            ):
                if of_kind:
                    shown = StoredMle(kind, reference.kind, "", name, version)
                    yield Mle(shown, reference, whole=False)

    def mles(self) -> list[Mle]:
        """Those of all sets, and those that have none yet, by name."""
        sets = {*self.known.references, *self._stored}
        found = [mle for name in sets for mle in self.of_set(name)]
        return sorted(
            found, key=lambda mle: (mle.stored.name, mle.stored.version, mle.stored.type)
        )

    def find(self, wanted: StoredMle) -> Mle | None:
        """The MLE of this identity."""
        return next((mle for mle in self.mles() if mle.stored.key == wanted.key), None)

    def makers(self, kind: str) -> set[tuple[str, str]]:
        """Name and version of the OEMs, or the operating systems, that sets stand for."""
        wanted = BIOS if kind == OEM else VMM
        return {
            (mle.stored.maker, mle.stored.maker_version)
            for mle in self.mles()
            if mle.stored.type == wanted
        }


def catalogue(service: Service, connection: Connection) -> Catalogue:
    """The MLEs there are."""
    return Catalogue(service.rules.now(connection), oat_mles.all_mles(connection))
