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
"""``/v1/audit``: the audit trail, and its signed head."""

from typing import Annotated, Any

import falcon
import msgspec
from sqlalchemy import Connection

from oat_trusted_filter.backend.api.exchange import answer
from oat_trusted_filter.backend.api.fields import HostName, Region
from oat_trusted_filter.backend.api.service import Service
from oat_trusted_filter.backend.signing import Signing
from oat_trusted_filter.backend.store import audit
from oat_trusted_filter.trail import HEAD_TYPE, Head, Row

MOST = 1000
_Number = Annotated[int, msgspec.Meta(ge=0, lt=2**62)]
_Word = Annotated[str, msgspec.Meta(max_length=255)]


class AuditQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Which rows."""

    marker: _Number = 0
    """Number of the last row that is known; 0: from the start."""
    limit: Annotated[int, msgspec.Meta(ge=1, le=MOST)] = 100
    newest_first: bool = False
    host: HostName | None = None
    region: Region | None = None
    actor: _Word | None = None
    action: _Word | None = None


class AuditRow(msgspec.Struct):
    """A row; its digest covers all of it."""

    sequence: int
    at: int
    """Milliseconds since 1970."""
    actor: str
    action: str
    region: str
    host: str
    details: dict[str, Any]
    previous: str
    digest: str


class AuditDocument(msgspec.Struct):
    """Rows of the trail, and where it ends."""

    rows: list[AuditRow]
    marker: int | None
    """To ask for those behind these; null: there are none."""
    head: str
    """Signed, as the one of ``/v1/audit/head``."""


class HeadDocument(msgspec.Struct):
    """Where the trail ends."""

    sequence: int
    digest: str
    head: str
    """The same with the time, as a compact JWS of type ``oat-audit-head+jws``."""


def index(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """Rows of the audit trail, oldest first unless asked otherwise."""
    query: AuditQuery = req.context.query
    with service.store.read() as connection:
        # Before the rows: what is written meanwhile is more than the head says, never less.
        head = audit.head(connection)
        found = audit.matching(
            connection,
            query.marker,
            query.limit + 1,
            newest_first=query.newest_first,
            host=query.host,
            region=query.region,
            actor=query.actor,
            action=query.action,
        )
    shown = found[: query.limit]
    marker = shown[-1].sequence if len(found) > query.limit else None
    signed = signed_head(service.signing, head, service.clock())
    document = AuditDocument([AuditRow(**row_document(row)) for row in shown], marker, signed)
    answer(resp, msgspec.json.encode(document))


def show_head(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """The number and digest of the last row, signed."""
    with service.store.read() as connection:
        head = audit.head(connection)
    signed = signed_head(service.signing, head, service.clock())
    answer(resp, msgspec.json.encode(HeadDocument(head.sequence, head.digest, signed)))


def row_document(row: Row) -> dict[str, Any]:
    """A row in JSON."""
    return {**row._asdict(), "details": msgspec.json.decode(row.details)}


def signed_head(signing: Signing, head: Head, now: int) -> str:
    """Proof that the trail had come this far at a moment.

    :param now: milliseconds since 1970.
    :returns: a compact JWS.
    """
    return signing.sign({**head._asdict(), "iat": now // 1000}, HEAD_TYPE)


def current_head(connection: Connection, signing: Signing, now: int) -> tuple[Head, str]:
    """The head as it is, and signed."""
    head = audit.head(connection)
    return head, signed_head(signing, head, now)
