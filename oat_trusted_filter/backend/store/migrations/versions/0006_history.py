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
"""The history of verdicts, which begins with those there are."""

import hashlib
import json
import zlib
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_MARIADB = ("mysql", "mariadb")


def _text(length: int) -> sa.types.TypeEngine[str]:
    return sa.String(length).with_variant(mysql.VARCHAR(length, collation="utf8mb4_bin"), *_MARIADB)


def _document() -> sa.types.TypeEngine[str]:
    return sa.Text().with_variant(mysql.LONGTEXT(collation="utf8mb4_bin"), *_MARIADB)


def _blob() -> sa.types.TypeEngine[bytes]:
    return sa.LargeBinary().with_variant(mysql.LONGBLOB(), *_MARIADB)


def _identifier() -> sa.types.TypeEngine[int]:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the history and begin it."""
    reports = op.create_table(
        "reports",
        sa.Column("id", _identifier(), nullable=False),
        sa.Column("host_id", _identifier(), nullable=False),
        sa.Column("region", _text(255), nullable=False),
        sa.Column("host", _text(255), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("before_until", sa.BigInteger()),
        sa.Column("cause", _text(32), nullable=False),
        sa.Column("level", _text(32), nullable=False),
        sa.Column("reason", _text(64), nullable=False),
        sa.Column("findings", _document(), nullable=False),
        sa.Column("reference_sets", _document(), nullable=False),
        sa.Column("policy", _text(255), nullable=False),
        sa.Column("circumstances", _document(), nullable=False),
        sa.Column("rules", sa.BigInteger(), nullable=False),
        sa.Column("boot_log_digest", _text(64)),
        sa.Column("evidence", _blob()),
        sa.PrimaryKeyConstraint("id", name="pk_reports"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_reports_rules", "reports", ["rules"])
    op.create_index("ix_reports_boot_log_digest", "reports", ["boot_log_digest"])
    op.create_index("ix_reports_host_id_id", "reports", ["host_id", "id"])
    op.create_index("ix_reports_host_id", "reports", ["host", "id"])
    documents = op.create_table(
        "rule_documents",
        sa.Column("digest", _text(64), nullable=False),
        sa.Column("document", _document(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_rule_documents"),
    )
    versions = op.create_table(
        "rule_versions",
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("names", _document(), nullable=False),
        sa.PrimaryKeyConstraint("version", name="pk_rule_versions"),
    )
    _begin(reports, documents, versions)


def _begin(reports: sa.Table, documents: sa.Table, versions: sa.Table) -> None:
    connection = op.get_bind()
    version = connection.scalar(sa.text("SELECT rules FROM state"))
    if version is None:
        return
    names: dict[str, dict[str, str]] = {}
    texts: dict[str, str] = {}
    for kind in ("policies", "reference_sets"):
        names[kind] = {}
        table = sa.table(kind, sa.column("name"), sa.column("document"))
        for name, text in connection.execute(sa.select(table.c.name, table.c.document)):
            digest = hashlib.sha256(text.encode()).hexdigest()
            names[kind][name] = digest
            texts[digest] = text
    if texts:
        rows = [{"digest": digest, "document": text} for digest, text in texts.items()]
        connection.execute(documents.insert(), rows)
    connection.execute(
        versions.insert(),
        {"version": version, "names": json.dumps(names, separators=(",", ":"))},
    )
    found = connection.execute(
        sa.text(
            "SELECT hosts.id, hosts.region, hosts.host, hosts.policy, hosts.labels, "
            "hosts.override, hosts.created_at, verdicts.tpm_state, verdicts.challenged_at, "
            "verdicts.level, verdicts.reason, verdicts.findings, verdicts.reference_sets, "
            "verdicts.appraised_at, verdicts.boot_log_digest, verdicts.pcrs "
            "FROM verdicts JOIN hosts ON verdicts.host_id = hosts.id ORDER BY hosts.id"
        )
    )
    rows = [_report(row, version) for row in found]
    if rows:
        connection.execute(reports.insert(), rows)


def _report(row: Any, version: int) -> dict[str, Any]:
    evidence = None
    if row.pcrs is not None:
        evidence = zlib.compress(json.dumps({"pcrs": row.pcrs}).encode())
    names = ("labels", "override", "tpm_state", "challenged_at")
    circumstances = {name: getattr(row, name) for name in names}
    return {
        "host_id": row.id,
        "region": row.region,
        "host": row.host,
        "at": row.appraised_at or row.created_at,
        "before_until": None,
        "cause": "upgrade",
        "level": row.level,
        "reason": row.reason,
        "findings": row.findings,
        "reference_sets": row.reference_sets,
        "policy": row.policy,
        "circumstances": json.dumps(circumstances, separators=(",", ":")),
        "rules": version,
        "boot_log_digest": row.boot_log_digest,
        "evidence": evidence,
    }
