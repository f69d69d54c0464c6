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
"""Boot logs on their way from bytes to what they say, and the ones of late kept at hand."""

import functools
import threading
from collections import OrderedDict
from collections.abc import Mapping

from sqlalchemy import Connection

from oat_trusted_filter.backend.appraisal.boot_log import ReadBootLog, read_boot_log
from oat_trusted_filter.backend.store import proven_boot_logs
from oat_trusted_filter.tcg.bootlog import BootLog
from oat_trusted_filter.tcg.facts import BootFacts

#: Bytes of boot logs whose contents are kept; in memory they take some three times as much.
KEPT_BYTES = 16 * 1024 * 1024


class LazyBootLog:
    """A boot log that is read when somebody looks into it.

    Reading one costs more than all other checks of evidence, and only after these is it known that
    the host itself has sent it. It stands in for :class:`ReadBootLog`; looking into a log that is
    malformed raises the ``FormatError`` of ``read_boot_log``.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data

    @functools.cached_property
    def read(self) -> ReadBootLog:
        """What the log says."""
        return read_boot_log(self.data)

    @property
    def log(self) -> BootLog:
        """The events."""
        return self.read.log

    @property
    def facts(self) -> BootFacts:
        """What the events prove."""
        return self.read.facts

    @property
    def replayed(self) -> Mapping[str, Mapping[int, bytes]]:
        """The PCRs the events lead to."""
        return self.read.replayed


class BootLogs:
    """The boot logs of late by digest. Thread-safe."""

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self._limit = kept_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, LazyBootLog] = OrderedDict()
        self._size = 0

    def find(self, connection: Connection, digest: str) -> LazyBootLog | None:
        """A log some host has proven; None if it is not known."""
        with self._lock:
            known = self._kept.get(digest)
            if known is not None:
                self._kept.move_to_end(digest)
                return known
        data = proven_boot_logs.data_of(connection, digest)
        if data is None:
            return None
        log = LazyBootLog(data)
        self.keep(digest, log)
        return log

    def keep(self, digest: str, log: LazyBootLog) -> None:
        """Keep a log at hand that has been proven."""
        with self._lock:
            if digest in self._kept:
                return
            self._kept[digest] = log
            self._size += len(log.data)
            while self._size > self._limit and self._kept:
                _, dropped = self._kept.popitem(last=False)
                self._size -= len(dropped.data)
