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
"""Writing to ``/AttestationService/resources/hosts``: which MLEs a host is judged by.

A host is not added here: it enrols, for its TPM has to prove itself. What OpenAttestation calls
adding it is binding a host that is approved to a policy that asks for the PCRs of its two MLEs.
"""

from dataclasses import replace

import falcon
import msgspec
from oslo_log import log as logging
from sqlalchemy import Connection

from oat_trusted_filter.backend.api.exchange import decoded, read_body
from oat_trusted_filter.backend.api.oat_compat.asked import done
from oat_trusted_filter.backend.api.oat_compat.catalogue import Mle, catalogue
from oat_trusted_filter.backend.api.oat_compat.errors import OatError
from oat_trusted_filter.backend.api.oat_compat.mle_bodies import identified
from oat_trusted_filter.backend.api.oat_compat.mles import found_in
from oat_trusted_filter.backend.api.oat_compat.oat_hosts import asked_name, named
from oat_trusted_filter.backend.api.rules import Rules
from oat_trusted_filter.backend.api.service import Service
from oat_trusted_filter.backend.appraisal import policy as policies
from oat_trusted_filter.backend.appraisal.rule_records import Policy, Requirement
from oat_trusted_filter.backend.store import audit, hosts, rules
from oat_trusted_filter.backend.store.hosts import Host
from oat_trusted_filter.backend.store.oat_mles import PREFIX

LOG = logging.getLogger(__name__)

_KEY_DIGITS = 12


class HostBody(msgspec.Struct):
    """A TxtHostRecord; what it says of addresses, ports and people is not kept."""

    host_name: str | None = msgspec.field(default=None, name="HostName")
    bios_name: str | None = msgspec.field(default=None, name="BIOS_Name")
    bios_version: str | None = msgspec.field(default=None, name="BIOS_Version")
    bios_oem: str | None = msgspec.field(default=None, name="BIOS_Oem")
    vmm_name: str | None = msgspec.field(default=None, name="VMM_Name")
    vmm_version: str | None = msgspec.field(default=None, name="VMM_Version")
    vmm_os_name: str | None = msgspec.field(default=None, name="VMM_OSName")
    vmm_os_version: str | None = msgspec.field(default=None, name="VMM_OSVersion")


def create(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """Judge a host that has none yet by two MLEs, at once."""
    _bind(service, req, new=True)
    done(resp, json=True)


def change(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """Judge a host by two other MLEs, at once."""
    _bind(service, req, new=False)
    done(resp, json=True)


def delete(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """Forget a host; to come back it has to enrol anew."""
    host = named(service, req, asked_name(req))[0].host

    def transaction(connection: Connection) -> None:
        hosts.remove(connection, host)
        hosts.audit_act(connection, req.context.holder.name, "host.delete", host)

    service.store.write(transaction)
    LOG.info("%s deleted host %s", req.context.holder.name, host.host)
    done(resp, json=True)


def _bind(service: Service, req: falcon.Request, *, new: bool) -> None:
    body = decoded(read_body(req), HostBody)
    if not body.host_name:
        raise OatError("AS_MISSING_INPUT", "Missing or invalid input 'HostName'.")
    host = named(service, req, body.host_name)[0].host
    if new and host.policy.startswith(PREFIX):
        raise OatError("AS_HOST_EXISTS", f"Host '{body.host_name}' already exists.")
    policy = _policy(service, body)
    now, by = service.clock(), req.context.holder.name
    text = msgspec.json.encode(policies.to_document(policy)).decode()

    def edit(before: Rules) -> Rules:
        return replace(before, policies={**before.policies, policy.name: policy})

    def write(connection: Connection, generation: int) -> None:
        rules.put_policy(connection, policy.name, text, generation, now)
        audit.record(
            connection,
            actor=by,
            action="policy.set",
            details={"policy": policy.name, "sha256": audit.document_digest(text)},
        )

    def bind(connection: Connection, known: Rules) -> None:
        hosts.change(connection, host.id, policy=policy.name)
        _audit(connection, by, host, policy)

    service.rule_changer.change(edit, write, now)
    service.rule_changer.change_host(host, bind, now)
    LOG.info("%s bound host %s to policy %s", by, host.host, policy.name)


def _audit(connection: Connection, by: str, host: Host, policy: Policy) -> None:
    audit.record(
        connection,
        actor=by,
        action="host.change",
        region=host.region,
        host=host.host,
        details={"ek_fingerprint": host.ek_fingerprint, "changed": {"policy": policy.name}},
    )


def _policy(service: Service, body: HostBody) -> Policy:
    """The policy that asks for the PCRs of both MLEs."""
    bios = identified(body.bios_name, body.bios_version, body.bios_oem, None, None)
    vmm = identified(
        body.vmm_name, body.vmm_version, None, body.vmm_os_name, body.vmm_os_version
    )  # fmt: skip
    with service.store.read() as connection:
        known = catalogue(service, connection)
    demands = tuple(_requirement(found_in(known, mle)) for mle in (bios, vmm))
    name = f"{PREFIX}{bios.key[:_KEY_DIGITS]}-{vmm.key[:_KEY_DIGITS]}"
    return Policy(name, "optional", demands)


def _requirement(mle: Mle) -> Requirement:
    if mle.reference is None:
        raise OatError(
            "AS_MISSING_MANIFEST", f"The white list of MLE '{mle.stored.name}' is empty."
        )
    return Requirement(mle.reference.kind, mle.pcrs)
