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
"""White lists as OpenAttestation shows them: OEMs, operating systems, and their MLEs.

They are another view of the reference sets, which are kept nowhere else. What a set says of the
PCRs of the firmware is a BIOS MLE, and what it says of all others a VMM MLE. Its kind is the OEM or
the operating system, and its generation the version.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import falcon

from oat_trusted_filter.backend.api.exchange import answer
from oat_trusted_filter.backend.api.oat_compat.asked import Asked, asked
from oat_trusted_filter.backend.api.oat_compat.errors import OatError
from oat_trusted_filter.backend.api.rules import Rules
from oat_trusted_filter.backend.api.service import Service
from oat_trusted_filter.backend.appraisal.records import ReferenceSet

BIOS = "BIOS"
VMM = "VMM"
#: What firmware extends until it hands over; the others are those of the system.
FIRMWARE_PCRS = range(8)
#: The source of an MLE that no host has.
_TYPED = "Manually configured white list"


@dataclass(frozen=True, slots=True)
class Mle:
    """One of the two parts of a reference set."""

    type: str
    version: str
    reference: ReferenceSet

    def document(self, *, complete: bool) -> dict[str, Any]:
        """As it is on the wire.

        :param complete: with its PCRs.
        """
        kind, bios = self.reference.kind, self.type == BIOS
        return {
            "Name": self.reference.name,
            "Version": self.version,
            "Attestation_Type": "PCR",
            "MLE_Type": self.type,
            "Description": "",
            "OsName": None if bios else kind,
            "OsVersion": None if bios else "",
            "OemName": kind if bios else None,
            "MLE_Manifests": _manifests(self) if complete else None,
        }


def mles_named(known: Rules, name: str) -> Iterator[Mle]:
    """The parts of a set that have PCRs; none if there is no set of this name."""
    reference = known.references.get(name)
    if reference is None:
        return
    pcrs = {pcr for of_bank in reference.pcrs.values() for pcr in of_bank}
    version = str(known.generation("reference_sets", name))
    if pcrs.intersection(FIRMWARE_PCRS):
        yield Mle(BIOS, version, reference)
    if pcrs.difference(FIRMWARE_PCRS):
        yield Mle(VMM, version, reference)


def index_oems(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """The OEMs (kinds of reference sets with PCRs of the firmware)."""
    kinds = sorted({mle.reference.kind for mle in _known(service) if mle.type == BIOS})
    answer(resp, [{"Name": kind, "Description": ""} for kind in kinds])


def index_systems(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """The operating systems (kinds of reference sets with other PCRs)."""
    kinds = sorted({mle.reference.kind for mle in _known(service) if mle.type == VMM})
    answer(resp, [{"Name": kind, "Version": "", "Description": ""} for kind in kinds])


def index(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """The MLEs with a text in their name, without their PCRs."""
    text = asked(req).get("searchCriteria", "")
    found = [mle for mle in _known(service) if text in mle.reference.name]
    answer(resp, [mle.document(complete=False) for mle in found])


def show(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """One MLE with its white list."""
    answer(resp, _chosen(service, req).document(complete=True))


def show_source(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """The hosts whose boot the values of an MLE were taken from."""
    provenance = _chosen(service, req).reference.provenance
    hosts = () if provenance is None else provenance.hosts
    answer(resp, ",".join(hosts).encode() or _TYPED.encode())
    resp.content_type = falcon.MEDIA_TEXT


def _known(service: Service) -> list[Mle]:
    with service.store.read() as connection:
        known = service.rules.now(connection)
    return [mle for name in sorted(known.references) for mle in mles_named(known, name)]


def _chosen(service: Service, req: falcon.Request) -> Mle:
    query = asked(req)
    kind = _type(query)
    name, version = (_needed(query, field) for field in ("mleName", "mleVersion"))
    maker = query.get("oemName") if kind == BIOS else query.get("osName")
    for mle in _known(service):
        if (mle.type, mle.reference.name, mle.version) == (kind, name, version) and (
            mle.reference.kind == maker
        ):
            return mle
    raise OatError(
        "WS_MLE_DOES_NOT_EXIST", f"MLE '{name}' version '{version}' of '{maker}' does not exist."
    )


def _type(query: Asked) -> str:
    """Whether a BIOS or a VMM is meant."""
    of_oem = bool(query.get("oemName"))
    of_system = bool(query.get("osName") or query.get("osVersion"))
    if of_oem and of_system:
        raise OatError(
            "WS_OEM_OS_DATA_CANNOT_COEXIST", "OEM and OS information cannot be given together."
        )
    if not of_oem and not query.get("osName"):
        raise OatError("WS_MLE_DATA_MISSING", "Data required for MLE is missing: OEM/OS.")
    return BIOS if of_oem else VMM


def _needed(query: Asked, field: str) -> str:
    value = query.get(field)
    if not value:
        raise OatError("WS_MLE_DATA_MISSING", f"Data required for MLE is missing: {field}.")
    return value


def _manifests(mle: Mle) -> list[dict[str, str]]:
    """The values of each PCR; more than one if there are more banks, or more than one is good."""
    found: list[tuple[int, str, str]] = []
    pcrs: Mapping[str, Mapping[int, frozenset[bytes]]] = mle.reference.pcrs
    for bank, of_bank in pcrs.items():
        for pcr, values in of_bank.items():
            if (pcr in FIRMWARE_PCRS) == (mle.type == BIOS):
                found += [(pcr, bank, value.hex().upper()) for value in values]
    found.sort(key=lambda item: (item[0], len(item[2]), item[2]))
    return [{"Name": str(pcr), "Value": value} for pcr, _, value in found]
