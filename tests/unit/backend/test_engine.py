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
"""Reading from and writing to the database: what is tried again, and what is not left behind."""

import threading

import pytest
from sqlalchemy import select, text, update

from oat_trusted_filter.backend.store import engine
from oat_trusted_filter.backend.store.tables import tags

NAMES = ("rack", "zone")


@pytest.mark.parametrize("database", ["mariadb", "postgresql"], indirect=True)
def test_a_deadlock_inside_a_savepoint_is_tried_again(store):
    """MariaDB says then that there is no such savepoint. SQLite lets no two write at once."""
    rows = [{"name": name, "value": "1", "created_at": 0} for name in NAMES]
    store.write(lambda connection: connection.execute(tags.insert(), rows))
    both_have_one = threading.Barrier(2, timeout=20)
    attempts = []

    def count(connection, name):
        row = (tags.c.name == name) & (tags.c.value == "1")
        connection.execute(update(tags).where(row).values(created_at=tags.c.created_at + 1))

    def run(first, second):
        def work(connection):
            attempts.append(first)
            count(connection, first)
            if attempts.count(first) == 1:
                both_have_one.wait()
            with connection.begin_nested():
                count(connection, second)

        store.write(work)

    threads = [threading.Thread(target=run, args=pair) for pair in (NAMES, NAMES[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with store.read() as connection:
        assert list(connection.scalars(select(tags.c.created_at))) == [2, 2]
    assert len(attempts) == 3


class Failure(Exception):
    pass


@pytest.mark.every_database
def test_work_that_fails_leaves_nothing_behind(store, database):
    row = {"name": "rack", "value": "1", "created_at": 0}

    def fail(connection):
        connection.execute(tags.insert(), [row])
        raise Failure

    with pytest.raises(Failure):
        store.write(fail)
    # On the connection that is used again, and on any other.
    assert store.write(lambda connection: connection.execute(select(tags.c.name)).all()) == []
    store.write(lambda connection: connection.execute(tags.insert(), [row]))
    with store.read() as connection:
        assert connection.scalar(select(tags.c.name)) == "rack"


_NUMBER = {"mariadb": "SELECT CONNECTION_ID()", "postgresql": "SELECT pg_backend_pid()"}
_CLOSE = {"mariadb": "KILL {}", "postgresql": "SELECT pg_terminate_backend({})"}


@pytest.mark.parametrize(
    ("database", "kind"),
    [("mariadb", "mariadb"), ("postgresql", "postgresql")],
    indirect=["database"],
)
def test_a_connection_that_was_closed_while_it_was_idle_is_replaced(store, kind, monkeypatch):
    monkeypatch.setattr(engine, "IDLE_SECONDS", 0.0)
    with store.read() as connection:
        number = connection.scalar(text(_NUMBER[kind]))
    store.write(lambda connection: connection.execute(text(_CLOSE[kind].format(number))))
    with store.read() as connection:
        assert connection.scalar(text(_NUMBER[kind])) != number


@pytest.mark.parametrize("database", ["mariadb"], indirect=True)
def test_a_connection_in_use_is_asked_nothing_else(store):
    """Each question to a server takes as long as one of those a round of an agent needs."""
    questions = text("SHOW SESSION STATUS LIKE 'Questions'")

    def asked(connection):
        return int(connection.execute(questions).one()[1])

    counts = []
    for _ in range(2):
        with store.read() as connection:
            counts.append(asked(connection))
    assert counts[1] - counts[0] == 1
    counts = [store.write(asked) for _ in range(2)]
    # And the end of the transaction.
    assert counts[1] - counts[0] == 2
