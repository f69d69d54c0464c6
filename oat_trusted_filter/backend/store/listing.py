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

from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, Select, select

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


def everything(connection: Connection, region: str | None) -> list[ListedHost]:
    """All bindings, without their PCR values.

    :param region: None for all regions.
    """
    query = _joined() if region is None else _joined().where(hosts.c.region == region)
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
