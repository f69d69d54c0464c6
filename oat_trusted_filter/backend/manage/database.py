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
"""``oat-manage db check`` and ``restored``: whether a database is whole, and what a backup brought.

The checks, each a line:

1. The schema is that of this release, table by table.
2. No row refers to one that is not there.
3. What has to hold between tables does: an approved binding for a name, a verdict for each of them
   and for no other, a boot log for each verdict and report that names one.
4. Every document can be read.
5. The audit trail is whole, see :mod:`oat_trusted_filter.trail`.
6. It does not end before it had ended once: the database was not put back from a backup, or an
   operator has said so.
"""

import hashlib
import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, and_, exists, func, select

from oat_trusted_filter import trail
from oat_trusted_filter.backend.api.audit import current_head
from oat_trusted_filter.backend.api.rules import parsed
from oat_trusted_filter.backend.api.upkeep import (
    RESTORE,
    ROLLED_BACK,
    remember_head,
    rolled_back,
)
from oat_trusted_filter.backend.manage.credentials import now_ms, record_act
from oat_trusted_filter.backend.settings import Settings
from oat_trusted_filter.backend.signing import Signing
from oat_trusted_filter.backend.store import audit, changes, rules
from oat_trusted_filter.backend.store.engine import Store
from oat_trusted_filter.backend.store.hosts import APPROVED, approved_name
from oat_trusted_filter.backend.store.tables import (
    boot_logs,
    hosts,
    metadata,
    reports,
    rule_versions,
    state,
    verdicts,
)
from oat_trusted_filter.cmd.check import Line


def check_database(settings: Settings, store: Store) -> Iterator[Line]:
    """Look at everything.

    :raises StartError: ``signing-key-missing``, ``signing-key-invalid``.
    """
    checks: tuple[tuple[str, Callable[[Connection], Iterator[str]]], ...] = (
        ("schema", _schema_faults),
        ("references", _reference_faults),
        ("bindings", _binding_faults),
        ("boot logs", _boot_log_faults),
        ("documents", _document_faults),
        ("audit trail", _trail_faults),
    )
    with store.read() as connection:
        for subject, check in checks:
            faults = list(check(connection))
            yield from (Line(False, subject, fault) for fault in faults)
            if not faults:
                yield Line(True, subject, "whole")
            elif subject == "schema":
                return
        lost = rolled_back(settings, Signing(settings.signing_key), connection)
    if lost is not None:
        yield Line(False, "backup", ROLLED_BACK)
    else:
        yield Line(True, "backup", "nothing that was recorded is missing")


def lost_acts(settings: Settings, connection: Connection) -> list[str]:
    """What operators did that the database does not know any more, from the exported trail."""
    path = settings.audit_file
    if path is None or not path.exists():
        return []
    here = {row.digest for row in audit.everything(connection)}
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line).get("row")
        if row is not None and row["digest"] not in here and row["actor"] != audit.VERIFIER:
            words = (row["sequence"], row["actor"], row["action"], row["host"])
            found.append(" ".join(map(str, (*words, trail.canonical(row["details"])))))
    return found


def restored(settings: Settings, store: Store, *, accept: bool) -> Iterator[str]:
    """What a backup that was put back has lost, and going on from there.

    :param accept: let the service start again, and record that.
    :raises StartError: ``signing-key-missing``, ``signing-key-invalid``.
    """
    with store.read() as connection:
        lost = rolled_back(settings, Signing(settings.signing_key), connection)
        acts = lost_acts(settings, connection)
        head = audit.head(connection)
    if lost is None:
        yield "the database knows all that was recorded"
        return
    yield f"the audit trail ends with row {head.sequence} and had reached row {lost.sequence}"
    yield from acts or ["nothing is known of what operators did since"]
    if not accept:
        yield "do again what has to be; oat-manage db restored --accept lets the service start"
        return

    def work(connection: Connection) -> None:
        # Counts first, as everywhere.
        changes.new_epoch(connection, str(uuid.uuid4()))
        record_act(connection, RESTORE, {"lost_from": lost.sequence, "kept": head.sequence})

    store.write(work)
    with store.read() as connection:
        _, token = current_head(connection, Signing(settings.signing_key), now_ms())
    remember_head(settings, token)
    yield "accepted: the service may start"


def _schema_faults(connection: Connection) -> Iterator[str]:
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    for difference in compare_metadata(context, metadata):
        yield f"differs from that of this release: {difference!r:.200}"


def _reference_faults(connection: Connection) -> Iterator[str]:
    for table in metadata.sorted_tables:
        for key in table.foreign_keys:
            missing = select(func.count()).where(
                key.parent.is_not(None), ~exists().where(key.column == key.parent)
            )
            number = connection.scalar(missing.select_from(table))
            if number:
                yield f"{number} rows of {table.name} refer to nothing in {key.column.table.name}"


def _binding_faults(connection: Connection) -> Iterator[str]:
    if connection.scalar(select(func.count()).select_from(state)) != 1:
        yield "the table state does not have its one row"
    for row in connection.execute(
        select(hosts.c.id, hosts.c.region, hosts.c.host, hosts.c.state, hosts.c.approved_name)
    ):
        wanted = approved_name(row.region, row.host) if row.state == APPROVED else None
        if row.approved_name != wanted:
            yield f"binding {row.id} of {row.host} is {row.state} and stands for the wrong name"
    joined = hosts.outerjoin(verdicts, verdicts.c.host_id == hosts.c.id)
    lonely = select(hosts.c.host).select_from(joined)
    for name in connection.execute(
        lonely.where(and_(hosts.c.state == APPROVED, verdicts.c.host_id.is_(None)))
    ).scalars():
        yield f"host {name} is approved and has no verdict"
    for name in connection.execute(
        lonely.where(and_(hosts.c.state != APPROVED, verdicts.c.host_id.is_not(None)))
    ).scalars():
        yield f"host {name} is not approved and has a verdict"
    cursor = connection.scalar(select(state.c.cursor)) or 0
    latest = connection.scalar(select(func.max(verdicts.c.changed))) or 0
    if latest > cursor:
        yield f"a verdict has changed at cursor {latest}, and the count is at {cursor} only"


def _boot_log_faults(connection: Connection) -> Iterator[str]:
    for table in (verdicts, reports):
        named = table.c.boot_log_digest
        missing = (
            select(named)
            .where(named.is_not(None), ~exists().where(boot_logs.c.digest == named))
            .distinct()
        )
        for digest in connection.execute(missing).scalars():
            yield f"{table.name} name the boot log {digest}, which is not there"
    for row in connection.execute(select(boot_logs.c.digest, boot_logs.c.data)):
        if hashlib.sha256(row.data).hexdigest() != row.digest:
            yield f"the boot log {row.digest} is another one"


def _document_faults(connection: Connection) -> Iterator[str]:
    try:
        parsed(rules.load(connection))
    except Exception as error:
        yield f"policies or reference sets cannot be read: {error}"
    columns: tuple[Any, ...] = (
        verdicts.c.findings, verdicts.c.reference_sets, verdicts.c.pcrs, verdicts.c.tpm_state,
        hosts.c.labels, hosts.c.override, reports.c.findings, reports.c.circumstances,
        rule_versions.c.names,
    )  # fmt: skip
    for column in columns:
        for text in connection.execute(select(column).where(column.is_not(None))).scalars():
            try:
                msgspec.json.decode(text)
            except msgspec.DecodeError as error:
                yield f"{column.table.name}.{column.name} holds no JSON: {error}"
                break


def _trail_faults(connection: Connection) -> Iterator[str]:
    head = audit.head(connection)
    for fault in trail.faults(audit.everything(connection), [head]):
        yield f"{fault.message} ({fault.code})"
