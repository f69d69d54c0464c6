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
"""What was known of the tags of a host when it was judged."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_MARIADB = ("mysql", "mariadb")


def upgrade() -> None:
    """Nothing is known of verdicts from before."""
    document = sa.Text().with_variant(mysql.LONGTEXT(collation="utf8mb4_bin"), *_MARIADB)
    op.add_column("verdicts", sa.Column("tags", document))
