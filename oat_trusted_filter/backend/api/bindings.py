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
"""What an operator says about one host: its policy, its labels, an override.

Each takes effect at once, and on this host alone.
"""

import datetime
from typing import Annotated, Any, Literal

import falcon
import msgspec
from oslo_log import log as logging
from sqlalchemy import Connection

from oat_trusted_filter.backend.api.exchange import decoded_strictly, read_body
from oat_trusted_filter.backend.api.fields import Region, checked_host
from oat_trusted_filter.backend.api.hosts import answer_with, chosen, chosen_approved, log_act
from oat_trusted_filter.backend.api.problems import Problem
from oat_trusted_filter.backend.api.queries import region_for
from oat_trusted_filter.backend.api.rules import Rules, moment_of
from oat_trusted_filter.backend.api.service import Service
from oat_trusted_filter.backend.appraisal.document import check_labels
from oat_trusted_filter.backend.appraisal.records import Override
from oat_trusted_filter.backend.store import audit, hosts
from oat_trusted_filter.backend.store.errors import NotFound
from oat_trusted_filter.backend.store.hosts import APPROVED, Host

LOG = logging.getLogger(__name__)

#: An exception that lasts longer is a policy.
LONGEST_OVERRIDE = datetime.timedelta(days=30)


class ChangeBody(msgspec.Struct, forbid_unknown_fields=True):
    """What changes; what is not there stays."""

    region: Region | None = None
    policy: str | None | msgspec.UnsetType = msgspec.UNSET
    """None: let the labels decide."""
    labels: dict[str, str | None] = {}
    """None takes a label away."""


class OverrideBody(msgspec.Struct, forbid_unknown_fields=True):
    """An override, until a moment or for a time."""

    level: Literal["trusted", "untrusted"]
    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
    until: datetime.datetime | None = None
    seconds: Annotated[float, msgspec.Meta(gt=0, le=LONGEST_OVERRIDE.total_seconds())] | None = None
    region: Region | None = None


def change(service: Service, req: falcon.Request, resp: falcon.Response, name: str) -> None:
    """Bind a host to a policy, or change its labels."""
    body = decoded_strictly(read_body(req), ChangeBody)
    with service.store.read() as connection:
        host = chosen(connection, checked_host(name), region_for(req, body.region))

    def write(connection: Connection, known: Rules) -> None:
        values: dict[str, str | None] = {}
        if body.policy is not msgspec.UNSET:
            values["policy"] = body.policy or hosts.UNBOUND
        if body.labels:
            values["labels"] = _merged(_existing(connection, host).labels, body.labels)
        if values:
            hosts.change(connection, host.id, **values)
            _audit(connection, req, "host.change", host, changed=values)

    service.rule_changer.change_host(host, write, service.clock())
    log_act(req, "changed policy or labels of", host)
    answer_with(service, resp, host, 200)


def override(service: Service, req: falcon.Request, resp: falcon.Response, name: str) -> None:
    """Let a host count as something for a while, whatever is found."""
    body = decoded_strictly(read_body(req), OverrideBody)
    if not body.reason.isprintable() or not body.reason.strip():
        raise Problem("override-invalid", "the reason is not one line of printable text")
    now = service.clock()
    said = Override(
        body.level, body.reason, req.context.holder.name, moment_of(now), _end(body, moment_of(now))
    )
    with service.store.read() as connection:
        host = chosen_approved(connection, checked_host(name), region_for(req, body.region))
    _set_override(service, req, host, said, now)
    log_act(req, f"until {said.until} declared {said.level} ({said.reason}):", host)
    answer_with(service, resp, host, 200)


def clear_override(service: Service, req: falcon.Request, resp: falcon.Response, name: str) -> None:
    """Let what is found count again."""
    with service.store.read() as connection:
        host = chosen(connection, checked_host(name), req.context.query.region)
    _set_override(service, req, host, None, service.clock())
    log_act(req, "took back the override of", host)
    resp.status = 204


def _set_override(
    service: Service, req: falcon.Request, host: Host, said: Override | None, now: int
) -> None:
    text = None if said is None else msgspec.json.encode(said).decode()

    def write(connection: Connection, known: Rules) -> None:
        if said is not None and _existing(connection, host).state != APPROVED:
            raise Problem("host-pending", f"host {host.host} is not approved")
        hosts.change(connection, host.id, override=text)
        action = "host.clear-override" if said is None else "host.override"
        _audit(connection, req, action, host, override=text)

    service.rule_changer.change_host(host, write, now)


def _audit(
    connection: Connection, req: falcon.Request, action: str, host: Host, **details: Any
) -> None:
    audit.record(
        connection,
        actor=req.context.holder.name,
        action=action,
        region=host.region,
        host=host.host,
        details={"ek_fingerprint": host.ek_fingerprint, **details},
    )


def _existing(connection: Connection, host: Host) -> Host:
    found = hosts.by_id(connection, host.id)
    if found is None:
        raise NotFound("host-unknown", "the host was deleted at this moment")
    return found


def _merged(before: str | None, changes: dict[str, str | None]) -> str | None:
    labels = {**({} if before is None else msgspec.json.decode(before)), **changes}
    left = {name: text for name, text in labels.items() if text is not None}
    return msgspec.json.encode(check_labels(left, "labels")).decode() if left else None


def _end(body: OverrideBody, now: datetime.datetime) -> datetime.datetime:
    if (body.until is None) == (body.seconds is None):
        raise Problem("override-invalid", "either until or seconds has to be given")
    if body.seconds is not None:
        return now + datetime.timedelta(seconds=body.seconds)
    until = body.until
    if until is None or until.tzinfo is None:
        raise Problem("override-invalid", "until has no time zone")
    if not now < until <= now + LONGEST_OVERRIDE:
        raise Problem(
            "override-invalid",
            f"until is not a moment in the next {LONGEST_OVERRIDE.days} days",
        )
    return until
