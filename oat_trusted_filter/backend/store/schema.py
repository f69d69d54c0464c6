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
"""Whether a database has the schema of this release.

Without alembic, which is needed to change it only, and which a service that starts would wait for.
"""

from pathlib import Path

from sqlalchemy import Connection, column, inspect, select, table

from oat_trusted_filter.backend.store.engine import Store
from oat_trusted_filter.backend.store.tables import state

#: Where alembic looks.
MIGRATIONS = Path(__file__).parent / "migrations"
#: That of this release; the files of the revisions are numbered.
REVISION = max(path.name.partition("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))

_APPLIED = table("alembic_version", column("version_num"))


def synced(store: Store) -> bool:
    """Whether nothing is to be done before the database is used."""
    with store.read() as connection:
        return (
            inspect(connection).has_table(state.name)
            and revision(connection) == REVISION
            and connection.execute(select(state.c.id)).first() is not None
        )


def revision(connection: Connection) -> str | None:
    """That of the database; None: it is empty."""
    if not inspect(connection).has_table(_APPLIED.name):
        return None
    return connection.scalar(select(_APPLIED.c.version_num))
