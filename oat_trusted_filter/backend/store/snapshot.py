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
"""What relying parties are told, as it is stored."""

from typing import NamedTuple, cast

from sqlalchemy import (
    BindParameter,
    Column,
    Connection,
    ScalarSelect,
    bindparam,
    func,
    literal,
    select,
    union_all,
)

from oat_trusted_filter.backend.store.tables import (
    deletions,
    hosts,
    state,
    tag_records,
    verdicts,
)
from oat_trusted_filter.backend.store.verdicts import HAS_RECORD


class Outlook(NamedTuple):
    """Where the count stands and what comes next (moments: milliseconds since 1970)."""

    epoch: str
    cursor: int
    first_deadline: int | None
    last_deadline: int | None
    first_tags_start: int | None
    first_tags_end: int | None


class Told(NamedTuple):
    """The verdict about one host."""

    region: str
    host: str
    service_host: str | None
    resource_provider: str | None
    level: str
    reason: str
    ek_fingerprint: str
    tag_record: str | None
    """JWS; see :mod:`oat_trusted_filter.backend.api.tag_records`."""
    software_tpm: bool | None


class Level(NamedTuple):
    """The least there is to say of a host."""

    region: str
    host: str
    level: str


class Lapsing(NamedTuple):
    """A host whose verdict, or whose tags, end soon."""

    region: str
    host: str
    deadline: int
    tags_only: bool
    """It is the tags that end."""


def _first(moment: Column[int]) -> ScalarSelect[int]:
    # NULLs are the first in an index: without the condition SQLite reads through all of them.
    return select(func.min(moment)).where(moment.is_not(None)).scalar_subquery()


_OUTLOOK = select(
    state.c.epoch,
    state.c.cursor,
    _first(verdicts.c.deadline),
    select(func.max(verdicts.c.deadline)).scalar_subquery(),
    _first(tag_records.c.starts_at),
    _first(tag_records.c.ends_at),
)
_TOLD = (
    select(
        hosts.c.region,
        hosts.c.host,
        hosts.c.service_host,
        hosts.c.resource_provider,
        verdicts.c.level,
        verdicts.c.reason,
        hosts.c.ek_fingerprint,
        tag_records.c.record.label("tag_record"),
        hosts.c.software_tpm,
    )
    .join_from(verdicts, hosts, verdicts.c.host_id == hosts.c.id)
    .outerjoin(tag_records, HAS_RECORD)
)
_TOLD_SINCE = _TOLD.where(verdicts.c.changed > bindparam("since"))
_LEVELS = select(hosts.c.region, hosts.c.host, verdicts.c.level).join_from(
    verdicts, hosts, verdicts.c.host_id == hosts.c.id
)
_BEFORE: BindParameter[int] = bindparam("before")
_LAPSING = union_all(
    select(
        hosts.c.region, hosts.c.host, verdicts.c.deadline, literal(value=False).label("tags_only")
    )
    .join_from(verdicts, hosts, verdicts.c.host_id == hosts.c.id)
    .where(verdicts.c.deadline < _BEFORE),
    select(hosts.c.region, hosts.c.host, tag_records.c.ends_at, literal(value=True))
    .join_from(tag_records, hosts, tag_records.c.host_id == hosts.c.id)
    .where(tag_records.c.ends_at < _BEFORE),
).order_by("tags_only", "deadline")


def outlook(connection: Connection) -> Outlook:
    """To be read before anything else of a reply: what is read later may only be newer."""
    return Outlook._make(connection.execute(_OUTLOOK).one())


def told(
    connection: Connection, since: int | None = None, region: str | None = None
) -> list[Told]:
    """The verdicts.

    :param since: only those that changed after this cursor.
    :param region: only those of this region.
    """
    query, values = (_TOLD, {}) if since is None else (_TOLD_SINCE, {"since": since})
    if region is not None:
        query = query.where(hosts.c.region == region)
    # Rows have the fields of the record; copying ten thousand of them takes as long as the rest.
    return cast(list[Told], connection.execute(query, values).fetchall())


def levels(connection: Connection) -> list[Level]:
    """The levels of all hosts."""
    return [Level._make(row) for row in connection.execute(_LEVELS)]


def deleted(connection: Connection, since: int) -> list[tuple[str, str]]:
    """Region and host of the names that were given up after a cursor."""
    query = select(deletions.c.region, deletions.c.host).where(deletions.c.changed > since)
    return [(row.region, row.host) for row in connection.execute(query)]


def lapsing(connection: Connection, before: int) -> list[Lapsing]:
    """The hosts whose verdict, or whose tags, end before a moment; tags come last."""
    return [Lapsing._make(row) for row in connection.execute(_LAPSING, {"before": before})]
