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

The digest of a row is SHA-256 over its canonical JSON (RFC 8785) with the digest of the row before.
"""

import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from sqlalchemy import Connection, select, update

from oat_trusted_filter.backend.store.tables import audit, audit_head

#: Actor of what follows from evidence, rules or time.
VERIFIER = "verifier"
#: What the first row is chained to.
BEGINNING = "0" * 64

_CHUNK = 500
_COLUMNS = (
    "sequence", "at", "actor", "action", "region", "host", "details", "previous", "digest",
)  # fmt: skip
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


class Row(NamedTuple):
    """A row of the trail."""

    sequence: int
    """From 1 without gaps."""
    at: int
    """Milliseconds since 1970."""
    actor: str
    action: str
    region: str
    host: str
    details: str
    """Canonical JSON."""
    previous: str
    """Digest of the row before, hexadecimal."""
    digest: str


class Head(NamedTuple):
    """Where the trail ends."""

    sequence: int
    digest: str


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


def digest_of(row: Row) -> str:
    """The digest a row has to have, hexadecimal."""
    values = row._asdict()
    del values["digest"]
    values["details"] = json.loads(row.details)
    return hashlib.sha256(canonical(values).encode()).hexdigest()


def canonical(value: Any) -> str:
    """RFC 8785, for values without floating-point numbers and keys in ASCII."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )  # fmt: skip


def everything(connection: Connection, after: int = 0) -> Iterator[Row]:
    """The rows after a number, read in chunks."""
    columns = [audit.c[name] for name in _COLUMNS]
    while True:
        query = select(*columns).where(audit.c.sequence > after).order_by(audit.c.sequence)
        rows = [Row._make(row) for row in connection.execute(query.limit(_CHUNK))]
        yield from rows
        if len(rows) < _CHUNK:
            return
        after = rows[-1].sequence
