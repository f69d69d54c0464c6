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
"""Enrolments under way: a secret was handed out and has not been shown yet."""

import re
from typing import NamedTuple

from sqlalchemy import Connection, delete, exists, func, select

from oat_trusted_filter.backend.store.errors import NotFound
from oat_trusted_filter.backend.store.tables import activations

#: Rows kept at most. A flood pushes out the oldest, which a TPM has long answered: making a
#: credential takes the service longer than a row needs to come to the end of this queue.
MOST = 10_000
_ID = re.compile("[0-9a-f]+")


class Activation(NamedTuple):
    """An enrolment that waits for its secret."""

    id: str
    secret_digest: str
    """SHA-256, hexadecimal."""
    expires_at: int
    candidate: str
    """JSON."""


def add(connection: Connection, activation: Activation, now: int) -> None:
    """Keep an enrolment; those that have expired make room, and else the oldest one."""
    connection.execute(delete(activations).where(activations.c.expires_at < now))
    count = connection.scalar(select(func.count()).select_from(activations)) or 0
    if count >= MOST:
        oldest = select(activations.c.id).order_by(activations.c.expires_at).limit(1)
        number = connection.scalar(oldest)
        connection.execute(delete(activations).where(activations.c.id == number))
    connection.execute(activations.insert(), activation._asdict())


def check(connection: Connection, number: str) -> None:
    """See that an enrolment waits, without writing: strangers ask for any.

    :raises NotFound: ``enrolment-unknown``.
    """
    # Not every database can be asked for every text.
    if _ID.fullmatch(number) is None or not connection.scalar(
        select(exists().where(activations.c.id == number))
    ):
        raise _unknown()


def take(connection: Connection, number: str, now: int) -> Activation:
    """Take an enrolment out, whatever comes of it: there is one attempt.

    :raises NotFound: ``enrolment-unknown``, it never was, has expired or was tried before.
    """
    row = connection.execute(select(activations).where(activations.c.id == number)).first()
    gone = connection.execute(delete(activations).where(activations.c.id == number))
    if row is None or gone.rowcount != 1 or row.expires_at < now:
        raise _unknown()
    return Activation._make(row)


def _unknown() -> NotFound:
    return NotFound("enrolment-unknown", "no enrolment waits under this id; it may have expired")
