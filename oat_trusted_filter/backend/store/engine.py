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
"""The connection to the database: one way to read, one way to write.

Reading happens without a transaction, statement by statement. Writing is one short transaction that
is tried again if the database had to break a tie between two of them.

SQLite gets ``BEGIN IMMEDIATE``: a transaction that begins by reading and then writes would fail
whenever another one wrote in between, whatever the busy timeout is.
"""

import contextlib
import functools
import math
import random
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    DisconnectionError,
    NoSuchModuleError,
)

from oat_trusted_filter.backend.store.turns import Turns

T = TypeVar("T")

#: Milliseconds a writer waits for another one on SQLite.
SQLITE_BUSY_MS = 15_000
#: Pages of 4 KiB that SQLite's log has before they are copied into the database. Rounds write the
#: same pages again and again, so of a longer log fewer have to be copied.
_SQLITE_LOG_PAGES = 4000
#: A connection to a server that was not used for so long may have been closed at the other end.
IDLE_SECONDS = 1.0
#: Connections that are kept: one for each thread that answers requests, and for those beside.
_KEPT_CONNECTIONS = 10
_ATTEMPTS = 6
_FIRST_PAUSE = 0.01

# MySQL error numbers and SQLSTATEs that mean: nothing is wrong, try the transaction again.
# A deadlock has taken the savepoint along (1305) by the time it is gone back to.
_MYSQL_AGAIN = frozenset({1205, 1213, 1305})
_SQLSTATE_AGAIN = frozenset({"40001", "40P01"})


_USED = "used"
_POOL: dict[str, Any] = {
    "pool_size": _KEPT_CONNECTIONS,
    # The one that was used last knows most of what is asked for again.
    "pool_use_lifo": True,
    # Whoever has a connection ends his transaction, so there is nothing left to take back.
    "pool_reset_on_return": None,
    # Parameters stay out of error messages, for these go to logs.
    "hide_parameters": True,
}


class StoreError(Exception):
    """The database cannot be used. Code ``database-unusable``."""

    code = "database-unusable"


class Store:
    """A database.

    Thread-safe, but not to be taken into another process: make it after the fork.

    :param url: SQLAlchemy URL.
    :raises StoreError: the URL cannot be one, or its driver is not installed.
    """

    def __init__(self, url: str) -> None:
        try:
            place = make_url(url)
            self.sqlite = place.get_backend_name() == "sqlite"
            self._turns = Turns(place.database if self.sqlite else None, SQLITE_BUSY_MS / 1000)
            if self.sqlite:
                self._writer = self._reader = _sqlite_engine(url)
            else:
                self._writer = _server_engine(url, "READ COMMITTED")
                self._reader = _server_engine(url, "AUTOCOMMIT")
        except (ArgumentError, NoSuchModuleError, ImportError, ValueError) as error:
            # The text of the error may hold the URL with its password.
            raise StoreError(
                f"[database] connection cannot be used: {type(error).__name__}"
            ) from error

    @property
    def engine(self) -> Engine:
        """For migrations."""
        return self._writer

    def close(self) -> None:
        """Close all connections."""
        self._reader.dispose()
        self._writer.dispose()
        self._turns.close()

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection for reading; every statement sees what is committed at its moment."""
        with self._reader.connect() as connection:
            yield connection

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run ``work`` in one transaction and return what it returns.

        It may run more than once, so it has to read inside what it decides upon.
        """
        attempt = 1
        while True:
            try:
                with self._writer.connect() as connection, self._turns.turn():
                    if self.sqlite:
                        connection.exec_driver_sql("BEGIN IMMEDIATE")
                    result = work(connection)
                    connection.commit()
                    return result
            except DBAPIError as error:
                if attempt >= _ATTEMPTS or not _again(error):
                    raise
            time.sleep(random.uniform(0, _FIRST_PAUSE * 2**attempt))  # noqa: S311  no secret
            attempt += 1


def _sqlite_engine(url: str) -> Engine:
    engine = create_engine(url, **_POOL)
    event.listen(engine, "connect", _on_sqlite_connect)
    return engine


def _on_sqlite_connect(connection: Any, record: Any) -> None:
    # The driver shall never begin a transaction by itself.
    connection.isolation_level = None
    for pragma in (
        f"busy_timeout = {SQLITE_BUSY_MS}",
        "journal_mode = WAL",
        "synchronous = NORMAL",
        "foreign_keys = ON",
        f"wal_autocheckpoint = {_SQLITE_LOG_PAGES}",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _server_engine(url: str, isolation: Any) -> Engine:
    engine = create_engine(
        url,
        isolation_level=isolation,
        # What commits by itself has nothing to take back.
        skip_autocommit_rollback=True,
        pool_recycle=3600,
        **_POOL,
    )
    event.listen(engine, "checkin", _note_use)
    event.listen(engine, "checkout", functools.partial(_check_idle, engine))
    if engine.dialect.name in ("mysql", "mariadb"):
        event.listen(engine, "connect", _on_mariadb_connect)
    return engine


def _note_use(connection: Any, record: Any) -> None:
    record.info[_USED] = time.monotonic()


def _check_idle(engine: Engine, connection: Any, record: Any, fairy: Any) -> None:
    """Whether the server is still there, if nobody has asked it for a while.

    Asking each time would take as long as what the connection is wanted for.

    :raises DisconnectionError: it is not; the pool opens another connection.
    """
    if time.monotonic() - record.info.get(_USED, math.inf) < IDLE_SECONDS:
        return
    try:
        alive = engine.dialect.do_ping(connection)
    except engine.dialect.loaded_dbapi.Error:
        alive = False
    if not alive:
        raise DisconnectionError


def _on_mariadb_connect(connection: Any, record: Any) -> None:
    """On a Galera cluster a read waits for what other nodes have committed before it.

    Otherwise an API host whose node lags behind would tell of a verdict, a binding or a token that
    another one has just taken away.
    """
    with connection.cursor() as cursor:
        cursor.execute("SHOW VARIABLES LIKE 'wsrep_on'")
        row = cursor.fetchone()
        if row is not None and row[1] == "ON":
            cursor.execute("SET SESSION wsrep_sync_wait = 1")


def _again(error: DBAPIError) -> bool:
    original: Any = error.orig
    if getattr(original, "sqlstate", None) in _SQLSTATE_AGAIN:
        return True
    if getattr(original, "pgcode", None) in _SQLSTATE_AGAIN:
        return True
    arguments: tuple[Any, ...] = getattr(original, "args", ())
    return bool(arguments) and arguments[0] in _MYSQL_AGAIN
