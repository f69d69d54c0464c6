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
"""Labels and overrides of hosts, the age of evidence, generations of rules."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def _document() -> sa.types.TypeEngine[str]:
    return sa.Text().with_variant(mysql.LONGTEXT(collation="utf8mb4_bin"), "mysql", "mariadb")


def upgrade() -> None:
    """Add the columns; hosts that were bound to nothing but the default are not bound any more."""
    op.add_column("hosts", sa.Column("labels", _document()))
    op.add_column("hosts", sa.Column("override", _document()))
    op.add_column("verdicts", sa.Column("challenged_at", sa.BigInteger()))
    for table in ("reference_sets", "policies"):
        op.add_column(
            table, sa.Column("generation", sa.BigInteger(), nullable=False, server_default="0")
        )
    hosts = sa.table("hosts", sa.column("policy", sa.String()))
    op.execute(hosts.update().where(hosts.c.policy == "default").values(policy=""))
