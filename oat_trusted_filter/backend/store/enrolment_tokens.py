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
"""Tokens that let one host each take part without an operator's approval.

A token is an operator's word for whoever shows it first: it is good once, until it expires, and may
be for one name only. It vouches for no TPM, so it helps only those whose maker does.
"""

import hashlib
from typing import NamedTuple

from sqlalchemy import Connection, delete, select, update

from oat_trusted_filter.backend.store.errors import NotFound
from oat_trusted_filter.backend.store.hosts import (
    ABSENT,
    APPROVED,
    REGISTERED,
    Host,
    approved_name,
    approved_names,
    named,
)
from oat_trusted_filter.backend.store.tables import enrolment_tokens as table

#: Milliseconds a token is still listed after it has expired.
LISTED_AFTER_MS = 30 * 24 * 3600 * 1000


class EnrolmentToken(NamedTuple):
    """A token as it is stored. Moments are milliseconds since 1970."""

    id: str
    digest: str
    """SHA-256, hexadecimal. Tokens are random, so it cannot be guessed back."""
    region: str | None
    """None: any."""
    host: str | None
    """The one name it is good for; None: any."""
    created_by: str
    created_at: int
    expires_at: int
    used_at: int | None = None
    used_by: str | None = None
    """Region and name of the host, with a slash in between."""


class Refusal(NamedTuple):
    """Why a token did not help."""

    code: str
    message: str


def digest_of(token: str) -> str:
    """What is stored of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def add(connection: Connection, token: EnrolmentToken) -> None:
    """Store a token, and forget those that have long expired."""
    long_ago = token.created_at - LISTED_AFTER_MS
    connection.execute(delete(table).where(table.c.expires_at < long_ago))
    connection.execute(table.insert(), token._asdict())


def everything(connection: Connection) -> list[EnrolmentToken]:
    """All tokens, the oldest first."""
    query = select(table).order_by(table.c.created_at, table.c.id)
    return [EnrolmentToken._make(row) for row in connection.execute(query)]


def revoke(connection: Connection, number: str) -> EnrolmentToken:
    """Forget a token.

    :raises NotFound: ``enrolment-token-unknown``.
    """
    row = connection.execute(select(table).where(table.c.id == number)).first()
    if row is None:
        raise NotFound("enrolment-token-unknown", f"there is no enrolment token {number}")
    connection.execute(delete(table).where(table.c.id == number))
    return EnrolmentToken._make(row)


def redeem(connection: Connection, digest: str, host: Host, now: int) -> EnrolmentToken | Refusal:
    """Use a token up for a host that waits.

    Of several hosts that show one token at once exactly one gets it: the row changes once.

    :returns: the token, or why it is not good for this host; then it is not used up.
    """
    row = connection.execute(select(table).where(table.c.digest == digest)).first()
    token = None if row is None else EnrolmentToken._make(row)
    refusal = _refusal(connection, token, host, now)
    if token is None or refusal is not None:
        return refusal or _UNKNOWN
    used = connection.execute(
        update(table)
        .where(table.c.id == token.id, table.c.used_at.is_(None))
        .values(used_at=now, used_by=approved_name(host.region, host.host))
    )
    return token if used.rowcount == 1 else _USED


_UNKNOWN = Refusal("enrolment-token-unknown", "the enrolment token is not one of this backend")
_USED = Refusal("enrolment-token-used", "the enrolment token has been used before")


def _refusal(
    connection: Connection, token: EnrolmentToken | None, host: Host, now: int
) -> Refusal | None:
    if token is None:
        return _UNKNOWN
    if token.used_at is not None:
        return _USED
    if token.expires_at <= now:
        return Refusal("enrolment-token-expired", "the enrolment token has expired")
    if token.host not in (None, host.host) or token.region not in (None, host.region):
        return Refusal("enrolment-token-other-host", "the enrolment token is for another host")
    if host.ek_certificate_status == ABSENT:
        return Refusal(
            "enrolment-token-no-certificate",
            "without a certificate of the TPM's maker an enrolment token is not enough",
        )
    others = (item for item in named(connection, host.region, host.host) if item.id != host.id)
    if any(item.state in (APPROVED, REGISTERED) for item in others):
        return Refusal(
            "enrolment-token-name-taken",
            "another endorsement key is approved or registered for this name",
        )
    if approved_names(connection, host.ek_fingerprint):
        return Refusal(
            "enrolment-token-key-taken", "this endorsement key is approved under another name"
        )
    return None
