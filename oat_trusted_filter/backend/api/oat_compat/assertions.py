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
"""What OpenAttestation says of hosts with a signature: assertions of SAML 2.0.

An assertion is made from the verdict in force whenever it is asked for, so ``force_verify`` and
``timeout`` make no difference. It ends with the verdict, or with the tags it tells if they end
before; of a host that has proven nothing there is none.
"""

import falcon

from oat_trusted_filter.backend.api.exchange import answer
from oat_trusted_filter.backend.api.oat_compat.catalogue import Mle, catalogue
from oat_trusted_filter.backend.api.oat_compat.errors import OatError
from oat_trusted_filter.backend.api.oat_compat.oat_hosts import (
    asked_names,
    judged,
    matched,
    parts,
    public_key,
    tags_of,
)
from oat_trusted_filter.backend.api.service import Service
from oat_trusted_filter.backend.api.snapshots import TRUSTED
from oat_trusted_filter.backend.api.tag_records import TagRecord
from oat_trusted_filter.backend.settings import OatCompat
from oat_trusted_filter.backend.store.listing import ListedHost, ListedVerdict

CONTENT_TYPE = "application/samlassertion+xml"


def show(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """One signed assertion (SAML 2.0) about a host, or about all that are named."""
    answer(resp, _assertion(service, req, asked_names(req, "hostName")))
    resp.content_type = CONTENT_TYPE


def index(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """A signed assertion (SAML 2.0) about each host, one after the other."""
    from oat_trusted_filter.backend.api.oat_compat import saml  # noqa: PLC0415  see there

    written = []
    for name in asked_names(req, "hosts"):
        try:
            written.append(_assertion(service, req, [name]))
        except OatError as error:
            written.append(saml.refusal(name, error.code, error.detail))
    answer(resp, b"".join(written))
    resp.content_type = falcon.MEDIA_XML


def _assertion(service: Service, req: falcon.Request, names: list[str]) -> bytes:
    """A signed assertion about hosts.

    :raises OatError: ``AS_HOST_NOT_FOUND`` or ``AS_HOST_TRUST_ERROR``, about the first of them
        there is nothing to say about.
    """
    from oat_trusted_filter.backend.api.oat_compat import saml  # noqa: PLC0415  see there

    now = service.clock()
    statements = []
    for name in names:
        found, verdict, record = judged(service, req, name)
        statements.append(
            saml.Statement(
                found.host.host,
                found.host.region,
                _attributes(service, found, verdict, record),
                _end(name, verdict, record),
            )
        )
    compat = service.settings.oat_compat or OatCompat()
    issuer = compat.saml_issuer or service.settings.url
    return saml.assertion(issuer, statements, now, service.signing.keys)


def _attributes(
    service: Service, found: ListedHost, verdict: ListedVerdict, record: TagRecord | None
) -> list[tuple[str, str]]:
    """Names and order are those of OpenAttestation.

    There is no certificate of the attestation key and none of the tags, and no address of the host.
    """
    bios, vmm = parts(verdict)
    with service.store.read() as connection:
        bios_mle, vmm_mle = matched(catalogue(service, connection), verdict.reference_sets)
    said: list[tuple[str, str]] = [
        ("Host_Name", found.host.host),
        ("Host_Address", found.host.host),
        ("Trusted", _flag(yes=verdict.level == TRUSTED)),
        ("Trusted_BIOS", _flag(yes=bios)),
        *(_mle(bios_mle, "BIOS_Name", "BIOS_Version", "BIOS_OEM") if bios else ()),
        ("Trusted_VMM", _flag(yes=vmm)),
        *(_mle(vmm_mle, "VMM_Name", "VMM_Version", "VMM_OSName", "VMM_OSVersion") if vmm else ()),
    ]
    if record is not None:
        said.append(("Asset_Tag", _flag(yes=True)))
        said += [(f"TAG[{name}]", value) for name, value in sorted(tags_of(record).items())]
    key = public_key(found.host)
    if key is not None:
        said.append(("AIK_PublicKey", key))
    if found.host.software_tpm:
        # Not of OpenAttestation: the TPM is a program and proves nothing about a machine.
        said.append(("Software_TPM", _flag(yes=True)))
    return said


def _flag(*, yes: bool) -> str:
    return "true" if yes else "false"


def _mle(mle: Mle | None, *names: str) -> list[tuple[str, str]]:
    if mle is None:
        return []
    stored = mle.stored
    values = (stored.name, stored.version, stored.maker, stored.maker_version)
    return list(zip(names, values, strict=False))


def _end(name: str, verdict: ListedVerdict, record: TagRecord | None) -> int:
    if verdict.deadline is None:
        raise OatError("AS_HOST_TRUST_ERROR", f"The verdict about host '{name}' has no end.")
    if record is None or record.claims.exp is None:
        return verdict.deadline
    return min(verdict.deadline, record.claims.exp * 1000)
