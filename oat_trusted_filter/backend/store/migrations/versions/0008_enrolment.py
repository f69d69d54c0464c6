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
"""Tokens for enrolment, another name of endorsement keys, certificates past their end."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def _text(length: int) -> sa.types.TypeEngine[str]:
    return sa.String(length).with_variant(
        mysql.VARCHAR(length, collation="utf8mb4_bin"), "mysql", "mariadb"
    )


def upgrade() -> None:
    """Create the table and add the columns."""
    op.add_column("hosts", sa.Column("ek_hash", _text(64)))
    op.add_column("hosts", sa.Column("accept_expired", sa.Boolean()))
    op.create_table(
        "enrolment_tokens",
        sa.Column("id", _text(32), nullable=False),
        sa.Column("digest", _text(64), nullable=False),
        sa.Column("region", _text(255)),
        sa.Column("host", _text(255)),
        sa.Column("created_by", _text(255), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("used_at", sa.BigInteger()),
        sa.Column("used_by", _text(511)),
        sa.PrimaryKeyConstraint("id", name="pk_enrolment_tokens"),
        sa.UniqueConstraint("digest", name="uq_enrolment_tokens_digest"),
    )
    op.create_index("ix_enrolment_tokens_expires_at", "enrolment_tokens", ["expires_at"])
