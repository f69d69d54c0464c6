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
"""The schema: what the migrations make is what the queries expect, on every database."""

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from oat_trusted_filter.backend.store import migrate, schema
from oat_trusted_filter.backend.store.engine import Store, StoreError
from oat_trusted_filter.backend.store.tables import metadata

# InnoDB: bytes of an index, four to a character.
_LARGEST_INDEX = 3072


def test_migrations_make_the_tables_of_the_queries(store):
    with store.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_syncing_again_changes_nothing(store):
    with store.read() as connection:
        epoch = connection.scalar(text("SELECT epoch FROM state"))
    before, after = migrate.sync(store)
    assert before == after
    with store.read() as connection:
        assert connection.scalar(text("SELECT epoch FROM state")) == epoch
    assert schema.synced(store)


def test_the_revision_of_this_release_is_the_last_there_is():
    scripts = ScriptDirectory(str(schema.MIGRATIONS))
    assert scripts.get_heads() == [schema.REVISION]


def test_an_empty_database_and_one_of_another_release_are_not_synced(tmp_path, store):
    empty = Store(f"sqlite:///{tmp_path / 'empty.sqlite'}")
    assert not schema.synced(empty)
    empty.close()
    store.write(
        lambda connection: connection.execute(text("UPDATE alembic_version SET version_num='x'"))
    )
    assert not schema.synced(store)


@pytest.mark.parametrize("dialect", [mysql.dialect(), postgresql.dialect()])
def test_tables_can_be_made_on_servers(dialect):
    for table in metadata.sorted_tables:
        ddl = str(CreateTable(table).compile(dialect=dialect))
        if dialect.name == "mysql":
            # Text columns would compare without regard to case otherwise.
            assert ddl.count("VARCHAR") + ddl.count("TEXT") == ddl.count("utf8mb4_bin")
        for index in table.indexes:
            CreateIndex(index).compile(dialect=dialect)


def test_indexes_fit_into_innodb():
    for table in metadata.sorted_tables:
        columns = [list(index.columns) for index in table.indexes]
        columns += [list(constraint.columns) for constraint in table.constraints]
        for group in columns:
            assert sum(4 * (getattr(c.type, "length", 0) or 2) for c in group) <= _LARGEST_INDEX


def test_sqlite_is_set_up_for_many_readers_and_a_writer(tmp_path):
    store = Store(f"sqlite:///{tmp_path / 'other.sqlite'}")
    with store.read() as connection:
        pragmas = {
            name: connection.scalar(text(f"PRAGMA {name}"))
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 1, "foreign_keys": 1}


@pytest.mark.parametrize("url", ["nonsense", "", "oracle+none://u:secret@h/d", "sqlite+x:///a"])
def test_odd_urls_are_errors_without_their_secrets(url):
    with pytest.raises(StoreError) as caught:
        Store(url)
    assert "secret" not in str(caught.value)
