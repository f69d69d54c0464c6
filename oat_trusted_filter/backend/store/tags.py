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
"""Tags that may be assigned, and the signed records of those that were.

A host has one record at most. Its row says when it has to be looked at again; what counts is what
is signed, see :mod:`oat_trusted_filter.backend.api.tag_records`.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from sqlalchemy import Column, Connection, Select, delete, select, update

from oat_trusted_filter.backend.store import audit, verdicts
from oat_trusted_filter.backend.store.tables import hosts, tag_records, tags


class Pair(NamedTuple):
    """A tag there may be."""

    name: str
    value: str


class StoredRecord(NamedTuple):
    """A record and the binding it is stored with."""

    region: str
    host: str
    ek_fingerprint: str
    record: str
    """JWS."""
    expired: bool = False


class WithRecord(Protocol):
    """A row that shows a binding and, if it is not over, its record."""

    @property
    def region(self) -> str: ...  # noqa: D102
    @property
    def host(self) -> str: ...  # noqa: D102
    @property
    def ek_fingerprint(self) -> str: ...  # noqa: D102
    @property
    def tag_record(self) -> str | None: ...  # noqa: D102


def record_in(row: WithRecord) -> StoredRecord | None:
    """The record a row shows."""
    text = row.tag_record
    if text is None:
        return None
    return StoredRecord(row.region, row.host, row.ek_fingerprint, text)


_RECORDS = select(
    hosts.c.region,
    hosts.c.host,
    hosts.c.ek_fingerprint,
    tag_records.c.record,
    tag_records.c.expired,
).join_from(tag_records, hosts, tag_records.c.host_id == hosts.c.id)


def pairs(connection: Connection, name: str | None = None) -> list[Pair]:
    """The tags there may be.

    :param name: only those of this name.
    """
    query = select(tags.c.name, tags.c.value).order_by(tags.c.name, tags.c.value)
    if name is not None:
        query = query.where(tags.c.name == name)
    return [Pair._make(row) for row in connection.execute(query)]


def add(connection: Connection, name: str, values: Iterable[str], now: int) -> None:
    """Let a name have these values, beside those it may have already."""
    known = {pair.value for pair in pairs(connection, name)}
    rows = [
        {"name": name, "value": value, "created_at": now}
        for value in dict.fromkeys(values)
        if value not in known
    ]
    if rows:
        connection.execute(tags.insert(), rows)


def remove(connection: Connection, name: str) -> bool:
    """Let nobody assign this name any more; whether anybody could. Records stay."""
    return connection.execute(delete(tags).where(tags.c.name == name)).rowcount > 0


def record_of(connection: Connection, host_id: int) -> StoredRecord | None:
    """The record of a host."""
    row = connection.execute(_RECORDS.where(tag_records.c.host_id == host_id)).first()
    return None if row is None else StoredRecord._make(row)


def records(connection: Connection) -> list[StoredRecord]:
    """All records, by region and host."""
    query = _RECORDS.order_by(hosts.c.region, hosts.c.host)
    return [StoredRecord._make(row) for row in connection.execute(query)]


def assign(
    connection: Connection,
    host_id: int,
    sign: Callable[[int], str],
    starts_at: int | None,
    ends_at: int | None,
) -> None:
    """Put a record in the place of the one the host has.

    :param sign: makes the record from its serial number.
    :param starts_at: milliseconds since 1970; None: at once.
    :param ends_at: milliseconds since 1970; None: never.
    """
    _withdraw(connection, host_id)
    made = connection.execute(
        tag_records.insert().values(
            host_id=host_id, record="", starts_at=starts_at, ends_at=ends_at, expired=False
        )
    )
    key = made.inserted_primary_key
    assert key is not None  # noqa: S101  every insert of a single row has one
    serial = key[0]
    connection.execute(
        update(tag_records).where(tag_records.c.serial == serial).values(record=sign(serial))
    )
    verdicts.mark_changed(connection, [host_id])


def revoke(connection: Connection, host_id: int) -> bool:
    """Take the record of a host away; whether there was one."""
    if not _withdraw(connection, host_id):
        return False
    verdicts.mark_changed(connection, [host_id])
    return True


def _withdraw(connection: Connection, host_id: int) -> bool:
    # Verdicts before anything else, as everywhere, so that no two wait for each other.
    verdicts.overtake(connection, host_id)
    gone = connection.execute(delete(tag_records).where(tag_records.c.host_id == host_id))
    return gone.rowcount > 0


def turn(connection: Connection, now: int) -> None:
    """Let records begin and end whose moment has come; relying parties hear of it."""
    started = connection.execute(_due(tag_records.c.starts_at, now)).all()
    ended = connection.execute(_due(tag_records.c.ends_at, now)).all()
    if not started and not ended:
        return
    verdicts.mark_changed(connection, {row.host_id for row in (*started, *ended)})
    for column, values in (
        (tag_records.c.starts_at, {"starts_at": None}),
        # What is over stays so, whatever the clock does.
        (tag_records.c.ends_at, {"ends_at": None, "expired": True}),
    ):
        connection.execute(update(tag_records).where(column <= now).values(values))
    audit.record_all(
        connection,
        [
            audit.Entry(audit.VERIFIER, action, row.region, row.host, {"serial": row.serial})
            for action, rows in (("tag.start", started), ("tag.expire", ended))
            for row in rows
        ],
    )


def _due(column: Column[int], now: int) -> Select[tuple[int, int, str, str]]:
    return (
        select(tag_records.c.host_id, tag_records.c.serial, hosts.c.region, hosts.c.host)
        .join_from(tag_records, hosts, tag_records.c.host_id == hosts.c.id)
        .where(column <= now)
        .order_by(tag_records.c.host_id)
    )
