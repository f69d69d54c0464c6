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
"""``/v1/hosts``: the compute hosts, and an operator's word about which are his."""

import falcon
import msgspec
from oslo_log import log as logging
from sqlalchemy import Connection

from oat_trusted_filter.backend.api import ima, queries
from oat_trusted_filter.backend.api.exchange import answer, decoded_strictly, read_body
from oat_trusted_filter.backend.api.fields import (
    Digest,
    HostName,
    Region,
    checked_host,
)
from oat_trusted_filter.backend.api.hosts_view import host_document
from oat_trusted_filter.backend.api.problems import Problem
from oat_trusted_filter.backend.api.queries import region_for
from oat_trusted_filter.backend.api.service import Service
from oat_trusted_filter.backend.api.tag_records import shown
from oat_trusted_filter.backend.appraisal.boot_log import read_boot_log
from oat_trusted_filter.backend.store import hosts, listing, proven_boot_logs
from oat_trusted_filter.backend.store import ima as ima_store
from oat_trusted_filter.backend.store import tags as tags_store
from oat_trusted_filter.backend.store.hosts import APPROVED, PENDING, REGISTERED, Host
from oat_trusted_filter.tcg.events import describe_event, event_type_name

LOG = logging.getLogger(__name__)


class RegisterBody(msgspec.Struct, forbid_unknown_fields=True):
    """An endorsement key that is expected under a name."""

    host: HostName
    ek_fingerprint: Digest
    region: Region = ""
    accept_expired: bool = False
    """Accept its certificate past its end."""


class ApproveBody(msgspec.Struct, forbid_unknown_fields=True):
    """The endorsement key that is approved."""

    ek_fingerprint: Digest
    region: Region | None = None


def index(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """All hosts, in whatever state."""
    query = req.context.query
    service.snapshots.settle(service.clock())
    with service.store.read() as connection:
        found = listing.everything(connection, query.wanted())
        known = service.rules.now(connection)
    now = service.clock()
    shown = [host_document(item, known, now) for item in found]
    last = str(found[-1].host.id) if found else None
    answer(resp, {"hosts": shown, **queries.next_page(req, query, len(found), last)})


def show(service: Service, req: falcon.Request, resp: falcon.Response, name: str) -> None:
    """One host with all that is known about it."""
    service.snapshots.settle(service.clock())
    with service.store.read() as connection:
        host = chosen(connection, checked_host(name), req.context.query.region)
        found = listing.one(connection, host.id)
        measured = ima_store.load(connection, host.id)
        record = tags_store.record_of(connection, host.id)
        known = service.rules.now(connection)
    if found is None:
        raise _unknown(name)
    now = service.clock()
    answer(
        resp,
        {
            **host_document(found, known, now, complete=True),
            "ima": ima.shown(measured),
            **shown(record, service.tags.reader, now),
        },
    )


def register(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """Expect an endorsement key: it is approved as soon as it has proven itself."""
    body = decoded_strictly(read_body(req), RegisterBody)
    region_for(req, body.region)
    now = service.clock()

    def transaction(connection: Connection) -> Host:
        host = hosts.register(
            connection,
            body.region,
            body.host,
            body.ek_fingerprint,
            now,
            accept_expired=body.accept_expired,
        )
        details = {"accept_expired": True} if body.accept_expired else {}
        hosts.audit_act(connection, req.context.holder.name, "host.register", host, details)
        return host

    host = service.store.write(transaction)
    log_act(req, "registered", host)
    answer_with(service, resp, host, 201)


def approve(service: Service, req: falcon.Request, resp: falcon.Response, name: str) -> None:
    """Let a host take part whose endorsement key has proven itself."""
    body = decoded_strictly(read_body(req), ApproveBody)
    region = region_for(req, body.region)
    checked_host(name)

    def transaction(connection: Connection) -> Host:
        found = [
            item
            for item in hosts.named(connection, region, name)
            if item.ek_fingerprint == body.ek_fingerprint
        ]
        if not found:
            raise Problem("host-unknown", f"no such endorsement key has enrolled as {name}")
        host = _only(name, found)
        if host.state == REGISTERED:
            raise Problem(
                "host-not-enrolled",
                f"{name} is registered with this key; it is approved when its agent enrols",
            )
        host = hosts.approve(connection, host)
        hosts.audit_act(connection, req.context.holder.name, "host.approve", host)
        return host

    host = service.store.write(transaction)
    log_act(req, "approved", host)
    answer_with(service, resp, host, 200)


def delete(service: Service, req: falcon.Request, resp: falcon.Response, name: str) -> None:
    """Forget all enrolments of a name, or that of one endorsement key."""
    checked_host(name)
    region = req.context.query.region
    fingerprint = req.context.query.ek_fingerprint

    def transaction(connection: Connection) -> list[Host]:
        found = [
            item
            for item in hosts.named(connection, region, name)
            if fingerprint in (None, item.ek_fingerprint)
        ]
        if not found:
            raise _unknown(name)
        _one_region(name, found)
        for item in found:
            hosts.remove(connection, item)
        for item in found:
            hosts.audit_act(connection, req.context.holder.name, "host.delete", item)
        return found

    for host in service.store.write(transaction):
        log_act(req, "deleted", host)
    resp.status = 204


def boot_log(service: Service, req: falcon.Request, resp: falcon.Response, name: str) -> None:
    """The events of the boot log a host has proven last."""
    with service.store.read() as connection:
        host = chosen(connection, checked_host(name), req.context.query.region)
        found = listing.one(connection, host.id)
        digest = None if found is None or found.verdict is None else found.verdict.boot_log_digest
        data = None if digest is None else proven_boot_logs.data_of(connection, digest)
    if data is None:
        raise Problem("host-without-evidence", f"host {name} has proven no boot log")
    events = [
        {
            "number": event.number,
            "pcr": event.pcr,
            "type": event_type_name(event.type),
            "description": describe_event(event),
            "digests": {bank: digest.hex() for bank, digest in event.digests.items()},
        }
        for event in read_boot_log(data).log.events
    ]
    answer(resp, {"events": events})


def chosen_approved(connection: Connection, name: str, region: str | None) -> Host:
    """The approved binding of a name.

    :raises Problem: ``host-unknown``, ``host-pending`` or ``host-ambiguous``.
    """
    host = chosen(connection, name, region)
    if host.state != APPROVED:
        raise Problem("host-pending", f"host {name} is not approved")
    return host


def chosen(connection: Connection, name: str, region: str | None) -> Host:
    """The binding a name stands for: the approved one, or else the only one.

    :raises Problem: ``host-unknown`` or ``host-ambiguous``.
    """
    found = hosts.named(connection, region, name)
    if not found and name.isdigit() and len(name) < 19:
        by_number = hosts.by_id(connection, int(name))
        found = [item for item in (by_number,) if item and region in (None, item.region)]
    if not found:
        raise _unknown(name)
    _one_region(name, found)
    for wanted in (APPROVED, PENDING, REGISTERED):
        of_state = [item for item in found if item.state == wanted]
        if of_state:
            return _only(name, of_state)
    raise _unknown(name)


def _only(name: str, found: list[Host]) -> Host:
    if len(found) > 1:
        keys = ", ".join(item.ek_fingerprint for item in found)
        raise Problem("host-ambiguous", f"several keys wait under the name {name}: {keys}")
    return found[0]


def _one_region(name: str, found: list[Host]) -> None:
    regions = sorted({item.region for item in found})
    if len(regions) > 1:
        listed = ", ".join(region or "(none)" for region in regions)
        raise Problem("host-ambiguous", f"{name} is in several regions, say which: {listed}")


def _unknown(name: str) -> Problem:
    return Problem("host-unknown", f"there is no host {name}")


def answer_with(service: Service, resp: falcon.Response, host: Host, status: int) -> None:
    """Answer with a host as it is now."""
    with service.store.read() as connection:
        found = listing.one(connection, host.id)
        known = service.rules.now(connection)
    if found is None:
        raise _unknown(host.host)
    answer(resp, host_document(found, known, service.clock()), status)


def log_act(req: falcon.Request, what: str, host: Host) -> None:
    """Write to the log who did what to a host."""
    LOG.info(
        "%s %s host %s%s with endorsement key %s", req.context.holder.name, what, host.host,
        f" in region {host.region}" if host.region else "", host.ek_fingerprint,
    )  # fmt: skip
