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
"""Places that were written through the interface of OpenAttestation."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_MARIADB = ("mysql", "mariadb")


def _text(length: int) -> sa.types.TypeEngine[str]:
    return sa.String(length).with_variant(mysql.VARCHAR(length, collation="utf8mb4_bin"), *_MARIADB)


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "oat_locations",
        sa.Column("value", _text(128), nullable=False),
        sa.Column("location", _text(255), nullable=False),
        sa.PrimaryKeyConstraint("value", name="pk_oat_locations"),
    )
