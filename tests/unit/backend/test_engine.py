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
"""Writing to the database: what is tried again."""

import threading

import pytest
from sqlalchemy import select, update

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
