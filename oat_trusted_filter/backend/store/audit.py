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
"""The audit trail: what operators did and how verdicts changed, each row chained to the one before.

A row is written in the transaction of what it tells of, so neither is there without the other. One
row of ``audit_head`` holds number and digest of the last one; it is locked until the end of the
transaction, so numbers have no gaps and are committed in their order. Whoever counts a change as
well (:mod:`.changes`) does so first: then no two transactions wait for each other.

:mod:`oat_trusted_filter.trail` says what the chain is made of, and checks it.
"""

import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from sqlalchemy import Connection, delete, func, select, update

from oat_trusted_filter.backend.store.tables import audit, audit_head
from oat_trusted_filter.trail import PURGE, Head, Row, canonical, digest_of

#: Actor of what follows from evidence, rules or time.
VERIFIER = "verifier"

_CHUNK = 500
_COLUMNS = tuple(audit.c[name] for name in Row._fields)
_NO_DETAILS: Mapping[str, Any] = MappingProxyType({})


class Entry(NamedTuple):
    """What is to be recorded."""

    actor: str
    action: str
    """``noun.verb``, kebab-case."""
    region: str = ""
    host: str = ""
    details: Mapping[str, Any] = _NO_DETAILS
    """JSON without floating-point numbers."""


def record(
    connection: Connection,
    *,
    actor: str,
    action: str,
    region: str = "",
    host: str = "",
    details: Mapping[str, Any] = _NO_DETAILS,
) -> None:
    """Add a row in the caller's transaction, after it has counted its change."""
    record_all(connection, [Entry(actor, action, region, host, details)])


def record_all(connection: Connection, entries: Iterable[Entry]) -> None:
    """Add rows in the caller's transaction; without effect if there are none."""
    found = list(entries)
    if not found:
        return
    # Writing before reading is what locks the row.
    connection.execute(update(audit_head).values(sequence=audit_head.c.sequence + len(found)))
    last, digest = head(connection)
    now = time.time_ns() // 1_000_000
    rows = []
    for sequence, entry in enumerate(found, last - len(found) + 1):
        unsigned = Row(
            sequence, now, *entry[:4], canonical(dict(entry.details)), digest, ""
        )  # fmt: skip
        digest = digest_of(unsigned)
        rows.append(unsigned._replace(digest=digest)._asdict())
    connection.execute(audit.insert(), rows)
    connection.execute(update(audit_head).values(digest=digest))


def document_digest(document: str) -> str:
    """By what a row names a document, hexadecimal SHA-256."""
    return hashlib.sha256(document.encode()).hexdigest()


def head(connection: Connection) -> Head:
    """Where the trail ends."""
    query = select(audit_head.c.sequence, audit_head.c.digest)
    return Head._make(connection.execute(query).one())


def everything(connection: Connection, after: int = 0) -> Iterator[Row]:
    """The rows after a number, read in chunks."""
    while True:
        query = select(*_COLUMNS).where(audit.c.sequence > after).order_by(audit.c.sequence)
        rows = [Row._make(row) for row in connection.execute(query.limit(_CHUNK))]
        yield from rows
        if len(rows) < _CHUNK:
            return
        after = rows[-1].sequence


def matching(
    connection: Connection, after: int, limit: int, *, newest_first: bool, **wanted: str | None
) -> list[Row]:
    """Rows with these values.

    :param after: number behind which to begin, in the direction asked for; 0: at its start.
    :param wanted: column -> value; None: any.
    """
    order = audit.c.sequence.desc() if newest_first else audit.c.sequence
    query = select(*_COLUMNS).order_by(order).limit(limit)
    if after:
        query = query.where(
            audit.c.sequence < after if newest_first else audit.c.sequence > after
        )  # fmt: skip
    for name, value in wanted.items():
        if value is not None:
            query = query.where(audit.c[name] == value)
    return [Row._make(row) for row in connection.execute(query)]


def purge(connection: Connection, before: int, actor: str) -> int:
    """Delete rows older than a moment; a new row tells which.

    :param before: milliseconds since 1970.
    :returns: how many were deleted.
    """
    # Locks the head: nobody adds a row in between.
    connection.execute(update(audit_head).values(sequence=audit_head.c.sequence))
    kept = connection.scalar(select(func.min(audit.c.sequence)).where(audit.c.at >= before))
    through = (head(connection).sequence if kept is None else kept - 1)
    row = next(iter(everything(connection, through - 1)), None) if through > 0 else None
    if row is None or row.sequence != through:
        return 0
    record(
        connection,
        actor=actor,
        action=PURGE,
        details={"through": through, "digest": row.digest},
    )
    gone = connection.execute(delete(audit).where(audit.c.sequence <= through))
    return int(gone.rowcount)
