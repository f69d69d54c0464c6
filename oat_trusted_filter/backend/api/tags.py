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
"""``/v1/tags`` and ``/v1/hosts/{name}/tags``: what is said of hosts, signed, and for how long."""

import datetime
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import falcon
import msgspec
from oslo_log import log as logging
from sqlalchemy import Connection

from oat_trusted_filter.backend.api import queries
from oat_trusted_filter.backend.api.exchange import answer, decoded_strictly, read_body
from oat_trusted_filter.backend.api.fields import Region, checked_host
from oat_trusted_filter.backend.api.hosts import chosen_approved
from oat_trusted_filter.backend.api.problems import Problem
from oat_trusted_filter.backend.api.queries import region_for
from oat_trusted_filter.backend.api.rules import Rules
from oat_trusted_filter.backend.api.service import Service
from oat_trusted_filter.backend.api.tag_records import Claims, shown, validity
from oat_trusted_filter.backend.store import audit, tags
from oat_trusted_filter.backend.store.hosts import Host
from oat_trusted_filter.backend.store.tags import Pair
from oat_trusted_filter.traits import check_tag

LOG = logging.getLogger(__name__)

_MOST_VALUES = 1000
#: Tags of one host; the record has to stay small.
_MOST_TAGS = 64

Moment = Annotated[datetime.datetime, msgspec.Meta(tz=True)]


class TagBody(msgspec.Struct, forbid_unknown_fields=True):
    """A name and the values it may have."""

    name: str
    values: Annotated[list[str], msgspec.Meta(min_length=1, max_length=_MOST_VALUES)]


class AssignBody(msgspec.Struct, forbid_unknown_fields=True):
    """All tags of a host."""

    tags: Annotated[dict[str, str], msgspec.Meta(min_length=1, max_length=_MOST_TAGS)]
    valid_from: Moment | None = None
    valid_until: Moment | None = None
    region: Region | None = None


def index(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """All tags that may be assigned."""
    with service.store.read() as connection:
        found = _by_name(tags.pairs(connection))
    page, links = queries.page_of(req, req.context.query, sorted(found))
    answer(resp, {"tags": [{"name": name, "values": found[name]} for name in page], **links})


def create(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """Let a name have these values, beside those it may have already."""
    body = decoded_strictly(read_body(req), TagBody)
    for value in body.values:
        check_tag(body.name, value)
    now = service.clock()

    def transaction(connection: Connection) -> list[Pair]:
        tags.add(connection, body.name, body.values, now)
        _audit(connection, req, "tag.create", name=body.name, values=body.values)
        return tags.pairs(connection, body.name)

    found = service.store.write(transaction)
    LOG.info("%s created tag %s", req.context.holder.name, body.name)
    answer(resp, {"name": body.name, "values": [pair.value for pair in found]}, 201)


def show(service: Service, req: falcon.Request, resp: falcon.Response, name: str) -> None:
    """One tag, and the hosts that have it."""
    service.snapshots.settle(service.clock())
    with service.store.read() as connection:
        found = tags.pairs(connection, name)
        stored = tags.records(connection)
    now, reader = service.clock(), service.tags.reader
    having = [
        {"region": item.region, "host": item.host, "value": record.claims.tags[name],
         **validity(record.claims)}
        for item in stored
        if (record := reader.in_force(item, now)) is not None and name in record.claims.tags
    ]  # fmt: skip
    if not found and not having:
        raise _unknown(name)
    answer(resp, {"name": name, "values": [pair.value for pair in found], "hosts": having})


def delete(service: Service, req: falcon.Request, resp: falcon.Response, name: str) -> None:
    """Let nobody assign a name any more; hosts that have it keep it."""

    def transaction(connection: Connection) -> None:
        if not tags.remove(connection, name):
            raise _unknown(name)
        _audit(connection, req, "tag.delete", name=name)

    service.store.write(transaction)
    LOG.info("%s deleted tag %s", req.context.holder.name, name)
    resp.status = 204


def assign(service: Service, req: falcon.Request, resp: falcon.Response, name: str) -> None:
    """Sign that a host has these tags and no others."""
    body = decoded_strictly(read_body(req), AssignBody)
    checked_host(name)
    region = region_for(req, body.region)
    for pair in body.tags.items():
        check_tag(*pair)
    now = service.clock()
    begins, ends = _seconds(body.valid_from), _seconds(body.valid_until)
    if begins is not None and begins * 1000 <= now:
        begins = None
    if ends is not None and ends * 1000 <= max(now, (begins or 0) * 1000):
        raise Problem("field-invalid", "valid_until is over, or is not after valid_from")

    def write(connection: Connection, host: Host) -> None:
        _check_created(connection, body.tags)

        def sign(serial: int) -> str:
            claims = Claims(
                serial, host.region, host.host, host.ek_fingerprint,
                dict(sorted(body.tags.items())), now // 1000, begins, ends,
            )  # fmt: skip
            return service.tags.sign(claims)

        tags.assign(connection, host.id, sign, _stored(begins), _stored(ends))
        _audit(connection, req, "tag.assign", host, tags=body.tags, valid_until=ends)

    host = _change(service, name, region, write)
    with service.store.read() as connection:
        stored = tags.record_of(connection, host.id)
    LOG.info("%s assigned tags to host %s", req.context.holder.name, name)
    answer(
        resp,
        {
            "region": host.region,
            "host": host.host,
            "ek_fingerprint": host.ek_fingerprint,
            **shown(stored, service.tags.reader, now),
        },
    )


def revoke(service: Service, req: falcon.Request, resp: falcon.Response, name: str) -> None:
    """Take all tags of a host away."""
    checked_host(name)
    region = req.context.query.region

    def write(connection: Connection, host: Host) -> None:
        if not tags.revoke(connection, host.id):
            raise Problem("host-without-tags", f"host {name} has no tags")
        _audit(connection, req, "tag.revoke", host)

    _change(service, name, region, write)
    LOG.info("%s revoked the tags of host %s", req.context.holder.name, name)
    resp.status = 204


def _change(
    service: Service,
    name: str,
    region: str | None,
    write: Callable[[Connection, Host], None],
) -> Host:
    """Change the tags of a host, and judge it anew, for its policy may ask for them."""
    with service.store.read() as connection:
        host = chosen_approved(connection, name, region)

    def transaction(connection: Connection, known: Rules) -> None:
        nonlocal host
        # Of what has changed since, only another record is in the way.
        current = chosen_approved(connection, name, region)
        if current.id != host.id:
            raise Problem("service-busy", f"host {name} was replaced at this moment; try again")
        host = current
        write(connection, host)

    service.rule_changer.change_host(host, transaction, service.clock())
    return host


def _check_created(connection: Connection, wanted: Mapping[str, str]) -> None:
    known = set(tags.pairs(connection))
    for name, value in wanted.items():
        if Pair(name, value) not in known:
            raise Problem("tag-not-created", f"there is no tag {name}={value}; create it first")


def _seconds(asked: datetime.datetime | None) -> int | None:
    return None if asked is None else int(asked.timestamp())


def _stored(seconds: int | None) -> int | None:
    return None if seconds is None else seconds * 1000


def _by_name(pairs: list[Pair]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return found


def _unknown(name: str) -> Problem:
    return Problem("tag-unknown", "there is no tag of this name")


def _audit(
    connection: Connection,
    req: falcon.Request,
    action: str,
    host: Host | None = None,
    **details: Any,
) -> None:
    audit.record(
        connection,
        actor=req.context.holder.name,
        action=action,
        region=host.region if host else "",
        host=host.host if host else "",
        details=details,
    )
