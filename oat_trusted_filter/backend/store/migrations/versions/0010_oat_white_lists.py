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
"""White lists that were written through the interface of OpenAttestation."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_MARIADB = ("mysql", "mariadb")


def _text(length: int) -> sa.types.TypeEngine[str]:
    return sa.String(length).with_variant(mysql.VARCHAR(length, collation="utf8mb4_bin"), *_MARIADB)


def _document() -> sa.types.TypeEngine[str]:
    return sa.Text().with_variant(mysql.LONGTEXT(collation="utf8mb4_bin"), *_MARIADB)


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "oat_makers",
        sa.Column("kind", _text(32), nullable=False),
        sa.Column("name", _text(255), nullable=False),
        sa.Column("version", _text(255), nullable=False),
        sa.Column("description", _document(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "name", "version", name="pk_oat_makers"),
    )
    op.create_table(
        "oat_mles",
        sa.Column("key", _text(64), nullable=False),
        sa.Column("type", _text(32), nullable=False),
        sa.Column("maker", _text(255), nullable=False),
        sa.Column("maker_version", _text(255), nullable=False),
        sa.Column("name", _text(255), nullable=False),
        sa.Column("version", _text(255), nullable=False),
        sa.Column("attestation_type", _text(32), nullable=False),
        sa.Column("description", _document(), nullable=False),
        sa.Column("source", _text(255)),
        sa.PrimaryKeyConstraint("key", name="pk_oat_mles"),
    )
