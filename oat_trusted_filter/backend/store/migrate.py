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
"""Bringing a database to the schema of this release."""

import uuid

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, select

from oat_trusted_filter.backend.store.engine import Store
from oat_trusted_filter.backend.store.schema import MIGRATIONS, REVISION, revision
from oat_trusted_filter.backend.store.tables import state

_STATE_ROW = 1


def sync(store: Store, target: str | None = None) -> tuple[str | None, str]:
    """Create or upgrade all tables; without effect if they are up to date.

    :param target: the revision to go to; None: that of this release.
    :returns: the revision before (None: an empty database) and the one after.
    """
    before = store.write(revision)
    after = target or REVISION
    if before != after:
        store.write(lambda connection: _upgrade(connection, after))
    store.write(_ensure_state)
    return before, after


def version(store: Store) -> tuple[str | None, str]:
    """The revision of the database (None: it is empty), and that of this release."""
    with store.read() as connection:
        return revision(connection), REVISION


def _config() -> Config:
    config = Config()
    # A percent sign in the path would be taken for the beginning of a variable.
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _upgrade(connection: Connection, target: str) -> None:
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, target)


def _ensure_state(connection: Connection) -> None:
    if connection.execute(select(state.c.id)).first() is None:
        connection.execute(
            state.insert().values(id=_STATE_ROW, epoch=str(uuid.uuid4()), cursor=0, rules=0)
        )
