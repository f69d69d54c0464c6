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
"""``/v1/hosts/{name}/rebind`` and ``/rename``: another key for a name, another name for a key.

Only an operator may do either, and says exactly what: which endorsement key, or which name.
"""

import falcon
import msgspec
from sqlalchemy import Connection

from oat_trusted_filter.backend.api.exchange import decoded_strictly, read_body
from oat_trusted_filter.backend.api.fields import Digest, HostName, Region, checked_host
from oat_trusted_filter.backend.api.hosts import answer_with, chosen_approved, log_act
from oat_trusted_filter.backend.api.problems import Problem
from oat_trusted_filter.backend.api.queries import region_for
from oat_trusted_filter.backend.api.service import Service
from oat_trusted_filter.backend.store import hosts, rebinding
from oat_trusted_filter.backend.store.hosts import PENDING, Host


class RebindBody(msgspec.Struct, forbid_unknown_fields=True):
    """The endorsement key that takes over."""

    ek_fingerprint: Digest
    region: Region | None = None


class RenameBody(msgspec.Struct, forbid_unknown_fields=True):
    """The new name."""

    host: HostName
    new_region: Region | None = None
    region: Region | None = None


def rebind(service: Service, req: falcon.Request, resp: falcon.Response, name: str) -> None:
    """Put a key that waits in the place of the approved one, say after a new main board."""
    body = decoded_strictly(read_body(req), RebindBody)
    checked_host(name)
    region = region_for(req, body.region)
    now = service.clock()

    def transaction(connection: Connection) -> Host:
        approved = chosen_approved(connection, name, region)
        hosts.lock(connection, approved.region, approved.host)
        approved = chosen_approved(connection, name, region)
        if approved.has_key(body.ek_fingerprint):
            return approved
        known = hosts.named(connection, approved.region, approved.host)
        newcomer = hosts.same_key(known, body.ek_fingerprint)
        if newcomer is None:
            raise Problem("host-unknown", f"no such endorsement key has enrolled as {name}")
        if newcomer.state != PENDING:
            raise Problem(
                "host-not-enrolled",
                f"the key has not proven itself yet; rebind {name} when its agent has enrolled",
            )
        bound = rebinding.rebind(connection, approved, newcomer, now)
        details = {"former_ek_fingerprint": approved.ek_fingerprint}
        hosts.audit_act(connection, req.context.holder.name, "host.rebind", bound, details)
        return bound

    host = service.store.write(transaction)
    log_act(req, "rebound", host)
    answer_with(service, resp, host, 200)


def rename(service: Service, req: falcon.Request, resp: falcon.Response, name: str) -> None:
    """Let an approved host go on under another name."""
    body = decoded_strictly(read_body(req), RenameBody)
    checked_host(name)
    now = service.clock()

    def transaction(connection: Connection) -> Host:
        approved = chosen_approved(connection, name, body.region)
        region = approved.region if body.new_region is None else body.new_region
        if (region, body.host) == (approved.region, approved.host):
            return approved
        hosts.lock(connection, approved.region, approved.host)
        hosts.lock(connection, region, body.host)
        approved = chosen_approved(connection, name, body.region)
        renamed = rebinding.rename(connection, approved, region, body.host, now)
        # Under both names, so that whoever looks for either finds it.
        actor, former, new = req.context.holder.name, _named(approved), _named(renamed)
        hosts.audit_act(connection, actor, "host.rename", approved, {"new": new})
        hosts.audit_act(connection, actor, "host.rename", renamed, {"former": former})
        return renamed

    host = service.store.write(transaction)
    log_act(req, f"renamed {name} to", host)
    answer_with(service, resp, host, 200)


def _named(host: Host) -> dict[str, str]:
    return {"region": host.region, "host": host.host}
