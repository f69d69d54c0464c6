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
"""The tables of the first release."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0001"
down_revision = None
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
    """Create everything."""
    _identity()
    _verdicts()
    _ima()
    _rules()
    _credentials()


def _identity() -> None:
    op.create_table(
        "state",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("epoch", _text(36), nullable=False),
        sa.Column("cursor", sa.BigInteger(), nullable=False),
        sa.Column("rules", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_state"),
    )
    op.create_table(
        "hosts",
        sa.Column("id", _identifier(), nullable=False),
        sa.Column("region", _text(255), nullable=False),
        sa.Column("host", _text(255), nullable=False),
        sa.Column("ek_fingerprint", _text(64), nullable=False),
        sa.Column("state", _text(32), nullable=False),
        sa.Column("approved_name", _text(511)),
        sa.Column("ak_public", sa.LargeBinary(4096)),
        sa.Column("banks", _text(255)),
        sa.Column("software_tpm", sa.Boolean()),
        sa.Column("ek_certificate_status", _text(32)),
        sa.Column("manufacturer", _text(255)),
        sa.Column("service_host", _text(255)),
        sa.Column("resource_provider", _text(255)),
        sa.Column("policy", _text(255), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("enrolled_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id", name="pk_hosts"),
        sa.UniqueConstraint("approved_name", name="uq_hosts_approved_name"),
        sa.UniqueConstraint(
            "region", "host", "ek_fingerprint", name="uq_hosts_region_host_ek_fingerprint"
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_hosts_state_enrolled_at", "hosts", ["state", "enrolled_at"])
    op.create_table(
        "deletions",
        sa.Column("region", _text(255), nullable=False),
        sa.Column("host", _text(255), nullable=False),
        sa.Column("changed", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("region", "host", name="pk_deletions"),
    )
    op.create_index("ix_deletions_changed", "deletions", ["changed"])
    op.create_table(
        "activations",
        sa.Column("id", _text(64), nullable=False),
        sa.Column("secret_digest", _text(64), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("candidate", _document(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_activations"),
    )
    op.create_index("ix_activations_expires_at", "activations", ["expires_at"])


def _verdicts() -> None:
    op.create_table(
        "verdicts",
        sa.Column("host_id", _identifier(), autoincrement=False, nullable=False),
        sa.Column("serial", sa.BigInteger(), nullable=False),
        sa.Column("changed", sa.BigInteger(), nullable=False),
        sa.Column("level", _text(32), nullable=False),
        sa.Column("reason", _text(64), nullable=False),
        sa.Column("findings", _document(), nullable=False),
        sa.Column("reference_sets", _document(), nullable=False),
        sa.Column("appraised_at", sa.BigInteger()),
        sa.Column("deadline", sa.BigInteger()),
        sa.Column("tpm_state", _text(255)),
        sa.Column("evidence", _text(64)),
        sa.Column("pcrs", _document()),
        sa.Column("boot_log_digest", _text(64)),
        sa.ForeignKeyConstraint(
            ["host_id"], ["hosts.id"], name="fk_verdicts_host_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("host_id", name="pk_verdicts"),
    )
    op.create_index("ix_verdicts_changed", "verdicts", ["changed"])
    op.create_index("ix_verdicts_deadline", "verdicts", ["deadline"])
    op.create_index("ix_verdicts_boot_log_digest", "verdicts", ["boot_log_digest"])
    op.create_table(
        "boot_logs",
        sa.Column("digest", _text(64), nullable=False),
        sa.Column("data", _blob(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_boot_logs"),
    )
    op.create_table(
        "spent_challenges",
        sa.Column("digest", _text(64), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_spent_challenges"),
    )
    op.create_index("ix_spent_challenges_expires_at", "spent_challenges", ["expires_at"])


def _ima() -> None:
    op.create_table(
        "ima_states",
        sa.Column("host_id", _identifier(), autoincrement=False, nullable=False),
        sa.Column("document", _document(), nullable=False),
        sa.Column("kept", sa.BigInteger()),
        sa.ForeignKeyConstraint(
            ["host_id"], ["hosts.id"], name="fk_ima_states_host_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("host_id", name="pk_ima_states"),
    )
    op.create_table(
        "ima_files",
        sa.Column("host_id", _identifier(), autoincrement=False, nullable=False),
        sa.Column("data", _blob(), nullable=False),
        sa.ForeignKeyConstraint(
            ["host_id"], ["hosts.id"], name="fk_ima_files_host_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("host_id", name="pk_ima_files"),
    )


def _rules() -> None:
    op.create_table(
        "reference_sets",
        sa.Column("name", _text(255), nullable=False),
        sa.Column("document", _document(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_reference_sets"),
    )
    op.create_table(
        "policies",
        sa.Column("name", _text(255), nullable=False),
        sa.Column("document", _document(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_policies"),
    )


def _credentials() -> None:
    op.create_table(
        "tokens",
        sa.Column("name", _text(255), nullable=False),
        sa.Column("digest", _text(64), nullable=False),
        sa.Column("role", _text(32), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_tokens"),
        sa.UniqueConstraint("digest", name="uq_tokens_digest"),
    )
    op.create_table(
        "users",
        sa.Column("name", _text(255), nullable=False),
        sa.Column("password_hash", _text(255), nullable=False),
        sa.Column("role", _text(32), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_users"),
    )
