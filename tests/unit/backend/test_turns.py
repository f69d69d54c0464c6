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
import contextlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError

from oat_trusted_filter.backend.store import engine
from oat_trusted_filter.backend.store.engine import Store
from oat_trusted_filter.backend.store.tables import tags
from tests.lab.wait import wait_for

HOLDER = """
import sys, time
from oat_trusted_filter.backend.store.engine import Store

def work(connection):
    print("writes", flush=True)
    time.sleep(600)

Store(sys.argv[1]).write(work)
"""
DEADLINE = 30


@pytest.fixture
def holder(database, store):
    """Another process, in the middle of a transaction that does not end."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, database], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "writes\n"
        yield process
        process.kill()


def adding(store, name):
    row = {"name": name, "value": "1", "created_at": 0}
    return lambda: store.write(lambda connection: connection.execute(tags.insert(), [row]))


def count(store):
    with store.read() as connection:
        return connection.scalar(select(func.count()).select_from(tags))


def test_a_process_that_is_killed_in_its_turn_gives_it_up(store, holder):
    with ThreadPoolExecutor(3) as threads:
        waiting = [threads.submit(adding(store, name)) for name in ("rack", "zone", "row")]
        assert count(store) == 0
        holder.kill()
        for one in waiting:
            one.result(DEADLINE)
    assert count(store) == 3


def test_one_thread_waits_for_a_process_that_does_not_end_and_the_others_are_told(
    database, holder, monkeypatch
):
    monkeypatch.setattr(engine, "SQLITE_BUSY_MS", 200)
    with (
        contextlib.closing(Store(database)) as store,
        ThreadPoolExecutor(3) as threads,
    ):
        waiting = [threads.submit(adding(store, name)) for name in ("rack", "zone", "row")]

        def refused():
            done = [one for one in waiting if one.done()]
            return sum("locked" in str(one.exception()) for one in done) == 2

        wait_for(refused, DEADLINE, "two threads to hear that it is locked")
        assert count(store) == 0
        holder.kill()
        left = [one for one in waiting if not one.done() or one.exception() is None]
        assert len(left) == 1
        left[0].result(DEADLINE)
        assert count(store) == 1
        # Whoever comes next has his turn again.
        adding(store, "last")()


def test_without_the_file_sqlite_keeps_writers_apart(tmp_path):
    path = tmp_path / "other.sqlite"
    (tmp_path / "other.sqlite-turn").mkdir()
    with contextlib.closing(Store(f"sqlite:///{path}")) as one:
        one.write(tags.create)
        with contextlib.closing(Store(f"sqlite:///{path}")) as two, ThreadPoolExecutor(4) as pool:
            work = [
                pool.submit(adding((one, two)[number % 2], f"tag-{number}"))
                for number in range(20)
            ]
            for done in work:
                done.result(DEADLINE)
        assert count(one) == 20


def test_work_that_fails_ends_its_turn(store):
    def fail(connection):
        raise OperationalError("", {}, Exception("of its own"))

    for _ in range(3):
        with pytest.raises(OperationalError):
            store.write(fail)
    adding(store, "rack")()
    assert count(store) == 1
