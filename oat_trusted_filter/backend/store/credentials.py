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
from typing import NamedTuple

from sqlalchemy import Connection, select, update

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
    role: str


def token_digest(token: str) -> str:
    """What is stored of a token. Tokens are random, so a plain hash cannot be guessed back."""
    return hashlib.sha256(token.encode()).hexdigest()


def holder_of(connection: Connection, token: str) -> Holder | None:
    """Whose token this is."""
    row = connection.execute(
        select(tokens.c.name, tokens.c.role).where(tokens.c.digest == token_digest(token))
    ).first()
    return None if row is None else Holder._make(row)


def has_token(connection: Connection, name: str) -> bool:
    """Whether there is a token of this name."""
    query = select(tokens.c.name).where(tokens.c.name == name)
    return connection.execute(query).first() is not None


def put_token(connection: Connection, name: str, token: str, role: str, now: int) -> None:
    """Store a token; one of the same name is replaced and no longer valid."""
    values = {"digest": token_digest(token), "role": role, "created_at": now}
    replaced = connection.execute(update(tokens).where(tokens.c.name == name).values(values))
    if replaced.rowcount == 0:
        connection.execute(tokens.insert().values(name=name, **values))


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
