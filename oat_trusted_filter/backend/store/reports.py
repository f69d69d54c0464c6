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
"""The history: a report for each change of a verdict, with the evidence it rests on.

A report stands until the next one of its host. Evidence that changes nothing adds none: it only
moves ``appraised_at`` of the verdict on, and the report after it says until when that was. Another
boot that is judged the same adds one, which may take the place of the one before. A change
of the rules or a lapse comes without evidence and rests on that of the report before.

Boot logs are stored once by digest, and so are policies and reference sets: a version of the rules
is a list of digests, kept when the first report refers to it.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, delete, exists, func, select
from sqlalchemy.exc import IntegrityError

from oat_trusted_filter.backend.store.errors import NotFound
from oat_trusted_filter.backend.store.rules import Documents, StoredRule
from oat_trusted_filter.backend.store.rules import load as load_rules
from oat_trusted_filter.backend.store.tables import (
    boot_logs,
    hosts,
    reports,
    rule_documents,
    rule_versions,
    verdicts,
)

EVIDENCE = "evidence"
RULES = "rules"
LAPSE = "lapse"
UPGRADE = "upgrade"

_IDS_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class NewReport:
    """A verdict as it has become. Moments are milliseconds since 1970, documents are JSON."""

    host_id: int
    region: str
    host: str
    at: int
    before_until: int | None
    """When the verdict before was confirmed last; None: never, or there was none."""
    cause: str
    level: str
    reason: str
    findings: str
    reference_sets: str
    policy: str
    circumstances: str
    rules: int
    boot_log_digest: str | None
    evidence: bytes | None
    """Packed; None: it rests on that of the report before."""


class Report(NamedTuple):
    """A report as it is stored, but for its evidence."""

    id: int
    host_id: int
    region: str
    host: str
    at: int
    before_until: int | None
    cause: str
    level: str
    reason: str
    findings: str
    reference_sets: str
    policy: str
    circumstances: str
    rules: int
    boot_log_digest: str | None


class Circumstances(msgspec.Struct):
    """What a verdict depends on beside evidence and rules."""

    labels: str | None = None
    """JSON."""
    override: str | None = None
    """JSON."""
    tpm_state: str | None = None
    """JSON."""
    challenged_at: int | None = None
    """Milliseconds since 1970."""
    tags: str | None = None
    """JSON."""

    def document(self) -> str:
        """As it is stored."""
        return msgspec.json.encode(self).decode()


class Basis(NamedTuple):
    """The evidence a report rests on."""

    report: int
    """The one it came with."""
    evidence: bytes
    boot_log_digest: str | None


_COLUMNS = tuple(reports.c[name] for name in Report._fields)


def add(connection: Connection, made: Iterable[NewReport]) -> None:
    """Store reports, and the rules they refer to."""
    rows = [{name: getattr(one, name) for name in NewReport.__slots__} for one in made]
    if not rows:
        return
    for version in {row["rules"] for row in rows}:
        _keep_rules(connection, version)
    connection.execute(reports.insert(), rows)


def by_id(connection: Connection, number: int) -> Report:
    """One report.

    :raises NotFound: ``report-unknown``.
    """
    row = connection.execute(select(*_COLUMNS).where(reports.c.id == number)).first()
    if row is None:
        raise NotFound("report-unknown", f"there is no report {number}; it may have been purged")
    return Report._make(row)


def of_name(
    connection: Connection,
    region: str | None,
    host: str,
    *,
    until: int | None = None,
    before: int | None = None,
    limit: int,
) -> list[Report]:
    """The reports of a name and those of the host that has it now, newest first.

    :param region: None for all regions.
    :param until: none that is later than this moment.
    :param before: only those older than the report of this number.
    """
    named, bound = reports.c.host == host, hosts.c.host == host
    if region is not None:
        named, bound = named & (reports.c.region == region), bound & (hosts.c.region == region)
    # A host that was renamed has reports under the name it had.
    renamed = reports.c.host_id.in_(select(hosts.c.id).where(bound))
    query = select(*_COLUMNS).where(named | renamed).order_by(reports.c.id.desc())
    if until is not None:
        query = query.where(reports.c.at <= until)
    if before is not None:
        query = query.where(reports.c.id < before)
    return [Report._make(row) for row in connection.execute(query.limit(limit))]


def latest(connection: Connection, host_id: int, limit: int) -> list[Report]:
    """The last reports of a binding, newest first."""
    query = select(*_COLUMNS).where(reports.c.host_id == host_id).order_by(reports.c.id.desc())
    return [Report._make(row) for row in connection.execute(query.limit(limit))]


def forget(connection: Connection, number: int) -> None:
    """Delete one report."""
    connection.execute(delete(reports).where(reports.c.id == number))


def confirmed(connection: Connection, found: Sequence[Report]) -> dict[int, int | None]:
    """Until when evidence confirmed these reports, by number."""
    until: dict[int, int | None] = {}
    for report in found:
        later = (
            select(reports.c.before_until)
            .where(reports.c.host_id == report.host_id, reports.c.id > report.id)
            .order_by(reports.c.id)
            .limit(1)
        )
        row = connection.execute(later).first()
        if row is None:
            current = select(verdicts.c.appraised_at).where(verdicts.c.host_id == report.host_id)
            row = connection.execute(current).first()
        until[report.id] = None if row is None else row[0]
    return until


def basis(connection: Connection, report: Report) -> Basis | None:
    """The evidence a report rests on; None: there is none."""
    query = (
        select(reports.c.id, reports.c.evidence, reports.c.boot_log_digest)
        .where(reports.c.host_id == report.host_id, reports.c.id <= report.id)
        .where(reports.c.evidence.is_not(None))
        .order_by(reports.c.id.desc())
        .limit(1)
    )
    row = connection.execute(query).first()
    return None if row is None else Basis._make(row)


def rules_of(connection: Connection, version: int) -> Documents | None:
    """The rules as they were; None: that version is not kept."""
    names = connection.scalar(
        select(rule_versions.c.names).where(rule_versions.c.version == version)
    )
    if names is None:
        return None
    digests = msgspec.json.decode(names, type=dict[str, dict[str, str]])
    query = select(rule_documents.c.digest, rule_documents.c.document)
    wanted = {digest for kind in digests.values() for digest in kind.values()}
    texts: dict[str, str] = {
        row.digest: row.document
        for row in connection.execute(query.where(rule_documents.c.digest.in_(wanted)))
    }
    policies, reference_sets = (
        {name: StoredRule(texts[digest], 0) for name, digest in digests[kind].items()}
        for kind in ("policies", "reference_sets")
    )
    return Documents(version, policies, reference_sets)


def with_too_many(connection: Connection, *, before: int, most: int) -> list[int]:
    """The bindings of which reports may be purged, as in :func:`purge_binding`."""
    query = (
        select(reports.c.host_id)
        .group_by(reports.c.host_id)
        .having((func.min(reports.c.at) < before) | (func.count() > most))
    )
    return list(connection.execute(query).scalars())


def purge_binding(connection: Connection, host_id: int, *, before: int, most: int) -> int:
    """Delete old reports of a binding.

    What a report that stays rests on stays too, and so does the last report if the host is there.

    :param before: moment; older ones go.
    :param most: reports that stay.
    :returns: how many reports were deleted.
    """
    mine = reports.c.host_id == host_id
    alive = connection.scalar(select(exists().where(verdicts.c.host_id == host_id)))
    newest = select(reports.c.id).where(mine).order_by(reports.c.id.desc())
    by_count = connection.scalar(newest.offset(most - 1).limit(1))
    by_age = connection.scalar(select(func.min(reports.c.id)).where(mine, reports.c.at >= before))
    if by_age is None:
        by_age = connection.scalar(newest.limit(1)) if alive else None
    if by_age is None:
        return int(connection.execute(delete(reports).where(mine)).rowcount)
    first = max(by_age, by_count or 0)
    rests_on = select(func.max(reports.c.id)).where(
        mine, reports.c.id <= first, reports.c.evidence.is_not(None)
    )
    first = connection.scalar(rests_on) or first
    return int(connection.execute(delete(reports).where(mine, reports.c.id < first)).rowcount)


def keep_most(connection: Connection, host_id: int, most: int) -> None:
    """Delete the oldest reports of a binding that has many too many, and what only they need.

    :param most: reports that stay; a tenth more are borne, for looking for what nobody needs takes
        a while.
    """
    mine = select(func.count()).select_from(reports).where(reports.c.host_id == host_id)
    if (connection.scalar(mine) or 0) > most + most // 10:
        purge_binding(connection, host_id, before=0, most=most)
        drop_unused(connection)


def drop_unused(connection: Connection) -> None:
    """Delete the boot logs and rules nothing refers to any more."""
    used = select(reports.c.rules)
    connection.execute(delete(rule_versions).where(rule_versions.c.version.not_in(used)))
    _drop_documents(connection)
    connection.execute(
        delete(boot_logs).where(
            ~exists().where(verdicts.c.boot_log_digest == boot_logs.c.digest),
            ~exists().where(reports.c.boot_log_digest == boot_logs.c.digest),
        )
    )


def _drop_documents(connection: Connection) -> None:
    used: set[str] = set()
    for names in connection.execute(select(rule_versions.c.names)).scalars():
        for kind in msgspec.json.decode(names, type=dict[str, dict[str, str]]).values():
            used |= set(kind.values())
    unused = set(connection.execute(select(rule_documents.c.digest)).scalars()) - used
    for start in range(0, len(unused), _IDS_AT_ONCE):
        some = sorted(unused)[start : start + _IDS_AT_ONCE]
        connection.execute(delete(rule_documents).where(rule_documents.c.digest.in_(some)))


def _keep_rules(connection: Connection, version: int) -> None:
    if connection.scalar(select(exists().where(rule_versions.c.version == version))):
        return
    documents = load_rules(connection)
    names: dict[str, dict[str, str]] = {"policies": {}, "reference_sets": {}}
    for kind, found in (
        ("policies", documents.policies), ("reference_sets", documents.reference_sets),
    ):  # fmt: skip
        for name, stored in found.items():
            digest = hashlib.sha256(stored.document.encode()).hexdigest()
            names[kind][name] = digest
            _insert_once(
                connection, rule_documents, digest=digest, document=stored.document
            )  # fmt: skip
    _insert_once(
        connection, rule_versions, version=version, names=msgspec.json.encode(names).decode()
    )


def _insert_once(connection: Connection, table: Any, **values: Any) -> None:
    key = next(iter(table.primary_key.columns))
    if connection.scalar(select(exists().where(key == values[key.name]))):
        return
    try:
        with connection.begin_nested():
            connection.execute(table.insert().values(**values))
    except IntegrityError:
        pass  # somebody else has just brought the same one
