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
"""Hosts as OpenAttestation shows them, and its word about one of them."""

from collections.abc import Mapping
from typing import Any

import falcon
import msgspec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from oat_trusted_filter.backend.api.exchange import answer
from oat_trusted_filter.backend.api.oat_compat.asked import asked
from oat_trusted_filter.backend.api.oat_compat.catalogue import (
    FIRMWARE_PCRS,
    Catalogue,
    Mle,
    catalogue,
)
from oat_trusted_filter.backend.api.oat_compat.errors import OatError
from oat_trusted_filter.backend.api.oat_compat.locations import place_of
from oat_trusted_filter.backend.api.service import Service
from oat_trusted_filter.backend.api.snapshots import TRUSTED
from oat_trusted_filter.backend.api.tag_records import TagRecord
from oat_trusted_filter.backend.appraisal.records import Finding
from oat_trusted_filter.backend.store import hosts, listing, tags
from oat_trusted_filter.backend.store.hosts import APPROVED, Host
from oat_trusted_filter.backend.store.listing import ListedHost, ListedVerdict, Wanted
from oat_trusted_filter.backend.store.oat_mles import BIOS, VMM
from oat_trusted_filter.backend.store.tags import StoredRecord
from oat_trusted_filter.tcg.public import parse_public

#: The tag that says where a host is.
LOCATION_TAG = "location"
_UNKNOWN = "unknown"
_MOST_NAMES = 1000


def index(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """The hosts that take part, with a text in their name."""
    text = asked(req).get("searchCriteria", "")
    service.snapshots.settle(service.clock())
    wanted = Wanted(region=req.context.holder.region, state=APPROVED)
    with service.store.read() as connection:
        known = catalogue(service, connection)
        records = {(item.region, item.host): item for item in tags.records(connection)}
        found = [item for item in listing.everything(connection, wanted) if text in item.host.host]
    shown = []
    for item in found:
        record = records.get((item.host.region, item.host.host))
        location = tags_of(_in_force(service, item, record)).get(LOCATION_TAG)
        shown.append(_document(known, item, location))
    answer(resp, shown)


def show_trust(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """Whether firmware and system of a host are as they should be."""
    name = asked_name(req)
    found, verdict, record = judged(service, req, name)
    bios, vmm = parts(verdict)
    trust = {
        "bios": bios,
        "vmm": vmm,
        "location": _location(service, found, record) is not None,
        "asset_tag": record is not None,
    }
    answer(resp, {"hostname": name, "trust": trust})


def show_location(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """Where a host is, by its tag of that name or by its PCR 22."""
    found, record = named(service, req, asked_name(req))
    answer(resp, {"location": _location(service, found, record), "white_list_value": ""})


def asked_name(req: falcon.Request) -> str:
    """The host that is asked about.

    :raises OatError: ``AS_MISSING_INPUT``.
    """
    name = asked(req).get("hostName")
    if not name:
        raise OatError("AS_MISSING_INPUT", "Missing or invalid input 'hostName'.")
    return name


def asked_names(req: falcon.Request, field: str) -> list[str]:
    """The hosts that are asked about, with commas between them.

    :raises OatError: ``AS_MISSING_INPUT``.
    """
    names = [name.strip() for name in asked(req).get(field, "").split(",") if name.strip()]
    if not names or len(names) > _MOST_NAMES:
        raise OatError("AS_MISSING_INPUT", f"Missing or invalid input '{field}'.")
    return names


def named(
    service: Service, req: falcon.Request, name: str
) -> tuple[ListedHost, TagRecord | None]:
    """The host of a name, and the record of the tags that count for it.

    :raises OatError: ``AS_HOST_NOT_FOUND``.
    """
    names = service.names.current(service.snapshots.settle(service.clock()))
    meant = names.find(name, req.context.holder.region)
    with service.store.read() as connection:
        of_name = [] if meant is None else hosts.named(connection, meant.region, meant.host)
        approved = next((host for host in of_name if host.state == APPROVED), None)
        found = None if approved is None else listing.one(connection, approved.id)
        if found is None:
            raise OatError("AS_HOST_NOT_FOUND", f"Host '{name}' not found.")
        record = tags.record_of(connection, found.host.id)
    return found, _in_force(service, found, record)


def judged(
    service: Service, req: falcon.Request, name: str
) -> tuple[ListedHost, ListedVerdict, TagRecord | None]:
    """The same of a host that has proven something.

    :raises OatError: ``AS_HOST_NOT_FOUND`` or ``AS_HOST_TRUST_ERROR``.
    """
    found, record = named(service, req, name)
    verdict = found.verdict
    if verdict is None or verdict.level == _UNKNOWN:
        raise OatError(
            "AS_HOST_TRUST_ERROR", f"The trust of host '{name}' is not known: {_why(verdict)}"
        )
    return found, verdict, record


def tags_of(record: TagRecord | None) -> Mapping[str, str]:
    """The tags of a record."""
    return {} if record is None else record.claims.tags


def _in_force(
    service: Service, found: ListedHost, stored: StoredRecord | None
) -> TagRecord | None:
    """The tags of a trusted host; of any other nobody vouches for the machine."""
    if found.verdict is None or found.verdict.level != TRUSTED:
        return None
    return service.tags.reader.in_force(stored, service.clock())


def _location(service: Service, found: ListedHost, record: TagRecord | None) -> str | None:
    """Where a trusted host is; what an operator has said of this one comes first."""
    tag = tags_of(record).get(LOCATION_TAG)
    if tag is not None or found.verdict is None or found.verdict.level != TRUSTED:
        return tag
    with service.store.read() as connection:
        return place_of(connection, found.verdict.pcrs)


def errors_of(verdict: ListedVerdict) -> list[Finding]:
    """The findings that cost a host its trust."""
    found = msgspec.json.decode(verdict.findings, type=list[Finding])
    return [finding for finding in found if finding.severity == "error"]


def _why(verdict: ListedVerdict | None) -> str:
    messages = [] if verdict is None else [finding.message for finding in errors_of(verdict)]
    return messages[0] if messages else "it has proven nothing"


def parts(verdict: ListedVerdict) -> tuple[bool, bool]:
    """Whether firmware and system are good; a finding that is about no PCR is about both."""
    if verdict.level == TRUSTED:
        return True, True
    blamed = [finding.pcr for finding in errors_of(verdict)]
    bios = bool(blamed) and all(pcr is not None and pcr not in FIRMWARE_PCRS for pcr in blamed)
    vmm = bool(blamed) and all(pcr is not None and pcr in FIRMWARE_PCRS for pcr in blamed)
    return bios, vmm


def _document(known: Catalogue, found: ListedHost, location: str | None) -> dict[str, Any]:
    """A TxtHostRecord. Agents dial in, so there is no address and no port to tell."""
    names = "[]" if found.verdict is None else found.verdict.reference_sets
    bios, vmm = matched(known, names)
    return {
        "HostName": found.host.host,
        "IPAddress": None,
        "Port": None,
        "BIOS_Name": bios and bios.stored.name,
        "BIOS_Version": bios and bios.stored.version,
        "BIOS_Oem": bios and bios.stored.maker,
        "VMM_Name": vmm and vmm.stored.name,
        "VMM_Version": vmm and vmm.stored.version,
        "VMM_OSName": vmm and vmm.stored.maker,
        "VMM_OSVersion": vmm and vmm.stored.maker_version,
        "AddOn_Connection_String": None,
        "Description": None,
        "Email": None,
        "Location": location,
        "AIK_Certificate": None,
        "AIK_PublicKey": public_key(found.host),
        "AIK_SHA1": None,
    }


def matched(known: Catalogue, reference_sets: str) -> tuple[Mle | None, Mle | None]:
    """The MLEs that firmware and system of a host were found to be; None: none that is known.

    :param reference_sets: names, JSON.
    """
    found: dict[str, Mle] = {}
    for name in msgspec.json.decode(reference_sets, type=list[str]):
        for mle in known.of_set(name):
            found.setdefault(mle.stored.type, mle)
    return found.get(BIOS), found.get(VMM)


def public_key(host: Host) -> str | None:
    """The attestation key, PEM."""
    if host.ak_public is None:
        return None
    key = parse_public(host.ak_public).key
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
