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
"""Who may ask what: tokens of programs and passwords of people."""

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, delete, or_, select, update

from oat_trusted_filter.backend.store.tables import tokens, users

SERVICE = "service"
READER = "reader"
ADMIN = "admin"
#: From the least to the most.
ROLES = (SERVICE, READER, ADMIN)


class User(NamedTuple):
    """A person."""

    name: str
    password_hash: str
    role: str


class Holder(NamedTuple):
    """Whoever has shown a credential."""

    name: str
    roles: frozenset[str]
    region: str | None = None
    """The only region of the cloud he may ask about; None: all."""
    values: Mapping[str, Any] = {}
    """What else access rules may look at."""


class Token(NamedTuple):
    """A token as it is stored. Moments are milliseconds since 1970, digests SHA-256."""

    name: str
    digest: str
    role: str
    region: str | None
    created_at: int
    expires_at: int | None
    """None: never."""
    old_digest: str | None
    """The token it has replaced."""
    old_expires_at: int | None


_COLUMNS = tuple(tokens.c[name] for name in Token._fields)
_SHOWN = select(*_COLUMNS).where(
    or_(tokens.c.digest == bindparam("digest"), tokens.c.old_digest == bindparam("digest"))
)


def token_digest(token: str) -> str:
    """What is stored of a token. Tokens are random, so a plain hash cannot be guessed back."""
    return hashlib.sha256(token.encode()).hexdigest()


def holder_of(connection: Connection, shown: str, now: int) -> Holder | None:
    """Whose token this is; None if it is none, or not valid any more."""
    digest = token_digest(shown)
    row = connection.execute(_SHOWN, {"digest": digest}).first()
    if row is None:
        return None
    known = Token._make(row)
    ends = known.expires_at if known.digest == digest else known.old_expires_at
    if ends is not None and ends <= now:
        return None
    return Holder(known.name, frozenset({known.role}), known.region)


def token(connection: Connection, name: str, *, locked: bool = False) -> Token | None:
    """The token of this name.

    :param locked: nobody else may change it before this transaction ends.
    """
    query = select(*_COLUMNS).where(tokens.c.name == name)
    row = connection.execute(query.with_for_update() if locked else query).first()
    return None if row is None else Token._make(row)


def all_tokens(connection: Connection) -> list[Token]:
    """All of them, by name."""
    return [Token._make(row) for row in connection.execute(select(*_COLUMNS).order_by("name"))]


def put_token(connection: Connection, new: Token) -> None:
    """Store a token in place of the one of its name, if there is one."""
    replaced = connection.execute(
        update(tokens).where(tokens.c.name == new.name).values(new._asdict())
    )
    if replaced.rowcount == 0:
        connection.execute(tokens.insert(), new._asdict())


def remove_token(connection: Connection, name: str) -> bool:
    """Let a token, and the one it has replaced, be valid no longer; whether there was one."""
    return connection.execute(delete(tokens).where(tokens.c.name == name)).rowcount > 0


def user(connection: Connection, name: str) -> User | None:
    """A person by name."""
    row = connection.execute(
        select(users.c.name, users.c.password_hash, users.c.role).where(users.c.name == name)
    ).first()
    return None if row is None else User._make(row)


def put_user(connection: Connection, person: User, now: int) -> None:
    """Store a person; one of the same name is replaced."""
    values = {"password_hash": person.password_hash, "role": person.role, "created_at": now}
    replaced = connection.execute(update(users).where(users.c.name == person.name).values(values))
    if replaced.rowcount == 0:
        connection.execute(users.insert().values(name=person.name, **values))
