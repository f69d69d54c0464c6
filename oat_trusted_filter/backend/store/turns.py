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
"""Whose turn it is to write to SQLite.

SQLite keeps writers apart by itself, but whoever finds it locked sleeps and looks again, with
pauses that soon are longer than what he waits for takes. Here the next one is woken at once, be
it a thread or another process. Nothing rests on it: without it, or if it takes too long, SQLite has
its say.
"""

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator

_FILES_END = "-turn"


class Turns:
    """Turns of those who write to one database. Thread-safe.

    :param database: path of its file; None: it has none.
    :param patience: seconds a thread waits for the others of its process.
    """

    def __init__(self, database: str | None, patience: float) -> None:
        self._patience = patience
        self._thread = threading.Lock()
        self._file: int | None = None
        self._path: str | None = None
        if database and not database.startswith((":", "file:")):
            self._path = f"{database}{_FILES_END}"

    def close(self) -> None:
        """Forget the file; who takes a turn after that opens it again."""
        with self._thread:
            if self._file is not None:
                os.close(self._file)
                self._file = None

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Write as soon as nobody else does.

        There is no limit to how long another process may take, so one thread may wait long; all
        others of this process then hear from SQLite that it is locked.
        """
        if self._path is None or not self._thread.acquire(timeout=self._patience):
            yield
            return
        try:
            # Who may not make files there cannot write to the database either, and will hear of it.
            with contextlib.suppress(OSError):
                if self._file is None:
                    self._file = os.open(self._path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
                # The kernel takes it from a process that is killed.
                fcntl.flock(self._file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                if self._file is not None:
                    with contextlib.suppress(OSError):
                        fcntl.flock(self._file, fcntl.LOCK_UN)
        finally:
            self._thread.release()
