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
"""Reports of OpenAttestation: what was thought of hosts, and what their PCRs are.

Those about PCRs are about the evidence a host has sent last. Of the banks it has quoted they show
one; a PCR counts as good if the value of that bank is in a reference set of the kind the policy
asks for, and nothing was found wrong with it in any bank.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element, SubElement, tostring  # noqa: S405  only written

import falcon
import msgspec

from oat_trusted_filter.backend.api.exchange import answer
from oat_trusted_filter.backend.api.fields import Pcrs, moment, pcr_values
from oat_trusted_filter.backend.api.oat_compat.asked import asked
from oat_trusted_filter.backend.api.oat_compat.catalogue import catalogue
from oat_trusted_filter.backend.api.oat_compat.errors import OatError
from oat_trusted_filter.backend.api.oat_compat.oat_hosts import (
    asked_name,
    asked_names,
    errors_of,
    matched,
    named,
)
from oat_trusted_filter.backend.api.rules import Rules
from oat_trusted_filter.backend.api.service import Service
from oat_trusted_filter.backend.api.snapshots import TRUSTED
from oat_trusted_filter.backend.appraisal.records import Finding
from oat_trusted_filter.backend.store import reports
from oat_trusted_filter.backend.store.listing import ListedHost, ListedVerdict

#: Verdicts about each host in a report of trust.
_LAST = 5
#: The bank that is shown is the first of these the host has.
_BANKS = ("sha256", "sha384", "sha512", "sha1")
#: What a dynamic launch (Intel TXT) extends; without one it is all zeros or all ones.
_LAUNCH_PCR = 17


class JudgedPcr(NamedTuple):
    """A PCR the policy asks for."""

    number: int
    value: str
    good: bool
    known: str
    """A value that is good; empty: there is none."""


def trust(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """The last verdicts about hosts, in XML."""
    root = Element("hosts_trust_report")
    for name in asked_names(req, "hostNames"):
        host = named(service, req, name)[0].host
        with service.store.read() as connection:
            known = catalogue(service, connection)
            found = reports.of_name(connection, host.region, host.host, limit=_LAST)
        for report in found:
            bios, vmm = matched(known, report.reference_sets)
            SubElement(
                root,
                "Host",
                Host_Name=host.host,
                MLE_Info=",".join(
                    (
                        f"BIOS:{bios.stored.name}-{bios.stored.version}" if bios else "BIOS:",
                        f"VMM:{vmm.stored.name}:{vmm.stored.version}" if vmm else "VMM:",
                    )
                ),
                Trust_Status=_flag(good=report.level == TRUSTED),
                Verified_On=moment(report.at) or "",
            )
    _answer_xml(resp, root)


def manifest(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """The PCRs a host was judged by last, in XML."""
    found, verdict, pcrs = _evidence(service, req)
    root = Element("host_manifest_report")
    host = SubElement(root, "Host", Name=found.host.host)
    for pcr in _judged(service, found, verdict, pcrs):
        SubElement(
            host,
            "Manifest",
            Name=str(pcr.number),
            Value=pcr.value,
            TrustStatus=_flag(good=pcr.good),
            Verified_On=moment(verdict.appraised_at) or "",
        )
    _answer_xml(resp, root)


def attestation(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """All PCRs a host has shown last, in XML."""
    found, verdict, pcrs = _evidence(service, req)
    values = pcrs[_bank(pcrs)]
    with service.store.read() as connection:
        _, vmm = matched(catalogue(service, connection), verdict.reference_sets)
    launched = len(set(values[_LAUNCH_PCR])) > 1
    root = Element(
        "Host_Attestation_Report",
        Host_Name=found.host.host,
        Host_VMM=vmm.stored.maker if vmm else "",
        TXT_Support="true" if launched else "false",
    )
    for number, value in sorted(values.items()):
        SubElement(root, "PCRInfo", ComponentName=str(number), DigestValue=value.hex().upper())
    _answer_xml(resp, root)


def attestation_log(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """The PCRs a host was judged by last, with what would be good."""
    failures_only = asked(req).get("failure_only", "").lower() == "true"
    found, verdict, pcrs = _evidence(service, req)
    log: list[dict[str, Any]] = [
        {
            "Name": pcr.number,
            "TrustStatus": int(pcr.good),
            "Value": pcr.value,
            "Verified_On": moment(verdict.appraised_at),
            "WhitelistValue": pcr.known,
            "ModuleLogs": [],
        }
        for pcr in _judged(service, found, verdict, pcrs)
        if not (failures_only and pcr.good)
    ]
    answer(resp, {"PcrLogReport": log})


def _evidence(
    service: Service, req: falcon.Request
) -> tuple[ListedHost, ListedVerdict, Pcrs]:
    """A host that has shown its PCRs.

    :raises OatError: ``AS_MISSING_INPUT``, ``AS_HOST_NOT_FOUND`` or ``AS_PCR_MANIFEST_MISSING``.
    """
    name = asked_name(req)
    found, _ = named(service, req, name)
    verdict = found.verdict
    if verdict is None or verdict.pcrs is None:
        raise OatError("AS_PCR_MANIFEST_MISSING", f"Host '{name}' has shown no PCRs.")
    return found, verdict, pcr_values(msgspec.Raw(verdict.pcrs.encode()))


def _judged(
    service: Service, found: ListedHost, verdict: ListedVerdict, pcrs: Pcrs
) -> list[JudgedPcr]:
    """The PCRs of the policy, each once; good if every demand for it is met."""
    with service.store.read() as connection:
        known = service.rules.now(connection)
    findings = errors_of(verdict)
    judged: dict[int, JudgedPcr] = {}
    for pcr in _demanded(known, found, findings, pcrs):
        before = judged.get(pcr.number)
        if before is None or before.good:
            judged[pcr.number] = pcr
    return [judged[number] for number in sorted(judged)]


def _demanded(
    known: Rules, found: ListedHost, findings: list[Finding], pcrs: Pcrs
) -> Iterator[JudgedPcr]:
    bank = _bank(pcrs)
    blamed = {finding.pcr for finding in findings}
    policy = known.policy_of(found.host.policy, found.host.labels)
    for requirement in policy.requirements:
        sets = [item for item in known.reference_sets if item.kind == requirement.kind]
        for number in requirement.pcrs:
            good = {value for item in sets for value in item.pcrs.get(bank, {}).get(number, ())}
            value = pcrs[bank][number]
            fits = value in good and number not in blamed
            shown = value if fits else min(good - {value}, default=b"")
            yield JudgedPcr(number, value.hex().upper(), fits, shown.hex().upper())


def _bank(pcrs: Pcrs) -> str:
    return next(bank for bank in _BANKS if bank in pcrs)


def _flag(*, good: bool) -> str:
    return "1" if good else "0"


def _answer_xml(resp: falcon.Response, root: Element) -> None:
    answer(resp, tostring(root, encoding="utf-8", xml_declaration=True))
    resp.content_type = falcon.MEDIA_XML
