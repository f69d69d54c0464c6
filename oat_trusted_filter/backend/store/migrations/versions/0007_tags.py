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
"""Tags of hosts."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_MARIADB = ("mysql", "mariadb")


def _text(length: int) -> sa.types.TypeEngine[str]:
    return sa.String(length).with_variant(mysql.VARCHAR(length, collation="utf8mb4_bin"), *_MARIADB)


def _document() -> sa.types.TypeEngine[str]:
    return sa.Text().with_variant(mysql.LONGTEXT(collation="utf8mb4_bin"), *_MARIADB)


def _identifier() -> sa.types.TypeEngine[int]:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create both tables, which are empty."""
    op.create_table(
        "tags",
        sa.Column("name", _text(63), nullable=False),
        sa.Column("value", _text(255), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", "value", name="pk_tags"),
    )
    op.create_table(
        "tag_records",
        sa.Column("serial", _identifier(), nullable=False),
        sa.Column("host_id", _identifier(), nullable=False),
        sa.Column("record", _document(), nullable=False),
        sa.Column("starts_at", sa.BigInteger()),
        sa.Column("ends_at", sa.BigInteger()),
        sa.Column("expired", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["host_id"], ["hosts.id"], name="fk_tag_records_host_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("serial", name="pk_tag_records"),
        sa.UniqueConstraint("host_id", name="uq_tag_records_host_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_tag_records_starts_at", "tag_records", ["starts_at"])
    op.create_index("ix_tag_records_ends_at", "tag_records", ["ends_at"])
