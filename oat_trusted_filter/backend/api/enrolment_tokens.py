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
"""``/v1/enrolment-tokens``: an operator's word, given beforehand, for one host each."""

import secrets
from typing import Annotated, Any

import falcon
import msgspec
from oslo_log import log as logging
from sqlalchemy import Connection

from oat_trusted_filter.backend.api import queries
from oat_trusted_filter.backend.api.exchange import answer, decoded_strictly, read_body
from oat_trusted_filter.backend.api.fields import HostName, Region, moment
from oat_trusted_filter.backend.api.service import Service
from oat_trusted_filter.backend.store import audit, enrolment_tokens
from oat_trusted_filter.backend.store.enrolment_tokens import EnrolmentToken

LOG = logging.getLogger(__name__)

_TOKEN_BYTES = 32
_ID_BYTES = 8
_DAY = 24 * 3600.0
_LONGEST = 365 * _DAY


class TokenBody(msgspec.Struct, forbid_unknown_fields=True):
    """What a new token is good for."""

    host: HostName | None = None
    region: Region | None = None
    lifetime: Annotated[float, msgspec.Meta(ge=1.0, le=_LONGEST)] = _DAY
    """Seconds."""


def index(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """All tokens, used or not; never the token itself."""
    with service.store.read() as connection:
        found = {token.id: token for token in enrolment_tokens.everything(connection)}
    page, links = queries.page_of(req, req.context.query, found)
    now = service.clock()
    shown = [_document(found[number], now) for number in page]
    answer(resp, {"enrolment_tokens": shown, **links})


def create(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """Make a token. This answer is the only place where it can be read."""
    body = decoded_strictly(read_body(req), TokenBody)
    secret = secrets.token_urlsafe(_TOKEN_BYTES)
    now = service.clock()
    token = EnrolmentToken(
        id=secrets.token_hex(_ID_BYTES),
        digest=enrolment_tokens.digest_of(secret),
        # A name is one of a region; without a name any region will do unless one is given.
        region=body.region if body.host is None else body.region or "",
        host=body.host,
        created_by=req.context.holder.name,
        created_at=now,
        expires_at=now + int(body.lifetime * 1000),
    )

    def transaction(connection: Connection) -> None:
        enrolment_tokens.add(connection, token)
        _audit(connection, req, "enrolment-token.create", token)

    service.store.write(transaction)
    LOG.info("%s created enrolment token %s", req.context.holder.name, token.id)
    answer(resp, {**_document(token, now), "token": secret}, 201)


def revoke(service: Service, req: falcon.Request, resp: falcon.Response, number: str) -> None:
    """Forget a token; hosts it has let in stay."""

    def transaction(connection: Connection) -> EnrolmentToken:
        token = enrolment_tokens.revoke(connection, number)
        _audit(connection, req, "enrolment-token.revoke", token)
        return token

    token = service.store.write(transaction)
    LOG.info("%s revoked enrolment token %s", req.context.holder.name, token.id)
    resp.status = 204


def _audit(
    connection: Connection, req: falcon.Request, action: str, token: EnrolmentToken
) -> None:
    audit.record(
        connection,
        actor=req.context.holder.name,
        action=action,
        region=token.region or "",
        host=token.host or "",
        details={"enrolment_token": token.id, "expires_at": moment(token.expires_at)},
    )


def _document(token: EnrolmentToken, now: int) -> dict[str, Any]:
    state = "unused" if token.expires_at > now else "expired"
    return {
        "id": token.id,
        "state": state if token.used_at is None else "used",
        "region": token.region,
        "host": token.host,
        "created_by": token.created_by,
        "created_at": moment(token.created_at),
        "expires_at": moment(token.expires_at),
        "used_at": moment(token.used_at),
        "used_by": token.used_by,
    }
