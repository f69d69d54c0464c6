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
"""Hosts with their verdicts, for operators."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, Select, func, select, tuple_

from oat_trusted_filter.backend.store.errors import NotFound
from oat_trusted_filter.backend.store.hosts import Host, from_row, select_columns
from oat_trusted_filter.backend.store.tables import hosts, verdicts


class ListedVerdict(NamedTuple):
    """A verdict as it is stored. Moments are milliseconds since 1970, documents are JSON."""

    level: str
    findings: str
    reference_sets: str
    appraised_at: int | None
    deadline: int | None
    boot_log_digest: str | None
    pcrs: str | None


class ListedHost(NamedTuple):
    """A binding and, if it is approved, the verdict about it."""

    host: Host
    verdict: ListedVerdict | None


_VERDICT = (
    verdicts.c.level,
    verdicts.c.findings,
    verdicts.c.reference_sets,
    verdicts.c.appraised_at,
    verdicts.c.deadline,
    verdicts.c.boot_log_digest,
)


def _joined(*more: Any) -> Select[Any]:
    return (
        select(*select_columns(), *_VERDICT, *more)
        .join_from(hosts, verdicts, verdicts.c.host_id == hosts.c.id, isouter=True)
        .order_by(hosts.c.region, hosts.c.host, hosts.c.id)
    )


_LEVEL = func.coalesce(verdicts.c.level, "unknown")
#: What a list may be sorted by; ties are in the order of enrolment.
SORTS: Mapping[str, tuple[Any, ...]] = {
    "host": (hosts.c.region, hosts.c.host),
    "state": (hosts.c.state,),
    "level": (_LEVEL,),
    "created_at": (hosts.c.created_at,),
}


class Wanted(NamedTuple):
    """Which bindings, and in what order; None: whatever it is."""

    region: str | None = None
    state: str | None = None
    level: str | None = None
    sort: str = "host"
    """A name of :data:`SORTS`, with a minus sign for the other direction."""
    limit: int | None = None
    marker: int | None = None
    """The binding after which the list begins."""


def everything(connection: Connection, wanted: Wanted) -> list[ListedHost]:
    """The bindings that are wanted, without their PCR values.

    :raises NotFound: ``marker-unknown``.
    """
    filters = (
        (hosts.c.region, wanted.region),
        (hosts.c.state, wanted.state),
        (_LEVEL, wanted.level),
    )
    keys = (*SORTS[wanted.sort.removeprefix("-")], hosts.c.id)
    backwards = wanted.sort.startswith("-")
    query = _joined().order_by(None).order_by(*(key.desc() if backwards else key for key in keys))
    for column, value in filters:
        if value is not None:
            query = query.where(column == value)
    if wanted.marker is not None:
        place = _joined(*keys).where(hosts.c.id == wanted.marker)
        row = connection.execute(place.with_only_columns(*keys)).first()
        if row is None:
            raise NotFound("marker-unknown", "the list has nothing under the marker any more")
        here, there = tuple_(*keys), tuple_(*row)
        query = query.where(here < there if backwards else here > there)
    if wanted.limit is not None:
        query = query.limit(wanted.limit)
    return [_listed(row, None) for row in connection.execute(query)]


def one(connection: Connection, number: int) -> ListedHost | None:
    """One binding."""
    query = _joined(verdicts.c.pcrs).where(hosts.c.id == number)
    row = connection.execute(query).first()
    return None if row is None else _listed(row, row.pcrs)


def _listed(row: Row[Any], pcrs: str | None) -> ListedHost:
    verdict = None
    if row.level is not None:
        verdict = ListedVerdict(
            row.level,
            row.findings,
            row.reference_sets,
            row.appraised_at,
            row.deadline,
            row.boot_log_digest,
            pcrs,
        )
    return ListedHost(from_row(row._mapping), verdict)
