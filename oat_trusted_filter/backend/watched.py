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
"""Files that may be replaced while a program runs."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from oat_trusted_filter.backend.settings import StartError

T = TypeVar("T")


class WatchedFile(Generic[T]):
    """What a file holds, read again when it has changed. Thread-safe.

    :param read: reads the file; what it raises the first time passes through.
    """

    def __init__(self, path: Path, read: Callable[[Path], T]) -> None:
        self._path = path
        self._read = read
        self._lock = threading.Lock()
        self._known = (self._mark(), read(path))

    @property
    def value(self) -> T:
        """As it is in the file; as it was before if that is not usable at this moment."""
        mark, value = self._known
        if mark == self._mark():
            return value
        with self._lock:
            try:
                self._known = (self._mark(), self._read(self._path))
            except StartError:
                return value
            return self._known[1]

    def _mark(self) -> tuple[int, ...] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return (status.st_mtime_ns, status.st_ino, status.st_size)
