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
"""What relying parties are told, written once for each state of the database."""

import threading
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec
from sqlalchemy import Connection

from oat_trusted_filter.backend.api.tag_records import TagBook, TagReader
from oat_trusted_filter.backend.store import snapshot, tags, verdicts
from oat_trusted_filter.backend.store.engine import Store
from oat_trusted_filter.backend.store.snapshot import Outlook
from oat_trusted_filter.backend.store.tags import record_in

TRUSTED = "trusted"
#: Milliseconds by which clocks of API servers may differ before a deadline looks too late.
_TOLERANCE_MS = 5_000
#: Regions whose answer is kept.
_MOST_KEPT = 16


class HostVerdict(msgspec.Struct, omit_defaults=True):
    """A verdict on the wire, which has nothing to say of most hosts but their level."""

    region: str
    host: str
    level: str
    reason: str = ""
    service_host: str | None = None
    resource_provider: str | None = None
    tags: dict[str, str] = {}
    software_tpm: bool = False
    """Its TPM is a program and proves nothing about a machine."""


class Name(msgspec.Struct):
    """A name that was given up."""

    region: str
    host: str


class Lapse(msgspec.Struct):
    """A verdict, or tags, that end before the lease does."""

    region: str
    host: str
    seconds: float
    tags_only: bool
    """The verdict lasts, and it is the tags of the host that end."""


class Snapshot(msgspec.Struct):
    """The answer to ``GET /v1/verdicts``."""

    epoch: str
    cursor: int
    lease: float
    full: bool
    hosts: msgspec.Raw
    deleted: Sequence[Name]
    lapsing: Sequence[Lapse]


class Since(NamedTuple):
    """What a relying party knows already."""

    epoch: str
    cursor: int


class _Written(NamedTuple):
    """What was written of all verdicts."""

    place: Since
    reader: TagReader
    hosts: dict[tuple[str, str], bytes]
    """By region and host, each in JSON."""
    answer: bytes
    """With all of them, if nothing ends in the lease: large, and asked for again and again."""


class Snapshots:
    """Answers for relying parties. Thread-safe.

    :param lease: seconds they may use an answer.
    :param lifetime: seconds a verdict lives at most.
    """

    def __init__(self, store: Store, tags: TagBook, *, lease: float, lifetime: float) -> None:
        self.lease = lease
        self._store = store
        self._tags = tags
        self._lease_ms = int(lease * 1000)
        self._latest_ms = int(lifetime * 1000)
        self._lock = threading.Lock()
        self._written: dict[str | None, _Written] = {}

    def settle(self, now: int) -> Outlook:
        """Let verdicts lapse, and tags begin and end, that are due; where the count stands then.

        :param now: milliseconds since 1970.
        """
        with self._store.read() as connection:
            outlook = snapshot.outlook(connection)
        latest = now + self._latest_ms
        due = outlook.first_deadline is not None and outlook.first_deadline <= now
        # A clock that was put back since leaves deadlines that are too far ahead.
        ahead = (outlook.last_deadline or 0) > latest + _TOLERANCE_MS
        turns = (outlook.first_tags_start, outlook.first_tags_end)
        tags_due = any(moment is not None and moment <= now for moment in turns)
        if not due and not ahead and not tags_due:
            return outlook

        def transaction(connection: Connection) -> None:
            verdicts.lapse(connection, now, latest)
            tags.turn(connection, now)

        self._store.write(transaction)
        with self._store.read() as connection:
            return snapshot.outlook(connection)

    def lapses_in_lease(self, outlook: Outlook, now: int) -> bool:
        """Whether a verdict, or tags, end before an answer given now does."""
        ends = (outlook.first_deadline, outlook.first_tags_end)
        return any(moment is not None and moment < now + self._lease_ms for moment in ends)

    def answer(
        self, outlook: Outlook, since: Since | None, now: int, region: str | None = None
    ) -> bytes:
        """The verdicts in JSON: all of them, or those that changed since.

        :param outlook: of :meth:`settle`, read before anything else.
        :param region: only those of this region.
        """
        known = (
            since is not None and since.epoch == outlook.epoch and since.cursor <= outlook.cursor
        )  # fmt: skip
        if since is None or not known:
            written = self._everything(outlook, region, now)
            lapsing = self._lapsing(region, now)
            if not lapsing:
                return written.answer
            return self._text(outlook, written.hosts.values(), lapsing=lapsing)
        changed: dict[tuple[str, str], bytes] = {}
        gone: list[tuple[str, str]] = []
        if since.cursor != outlook.cursor:
            changed, gone = self._changes(since, region, self._tags.reader, now)
        return self._text(
            outlook,
            changed.values(),
            full=False,
            deleted=[Name(*name) for name in gone],
            lapsing=self._lapsing(region, now),
        )

    def _text(
        self,
        outlook: Outlook | Since,
        hosts: Iterable[bytes],
        *,
        full: bool = True,
        deleted: Sequence[Name] = (),
        lapsing: Sequence[Lapse] = (),
    ) -> bytes:
        listed = msgspec.Raw(b"[%s]" % b",".join(hosts))
        return msgspec.json.encode(
            Snapshot(outlook.epoch, outlook.cursor, self.lease, full, listed, deleted, lapsing)
        )

    def _everything(self, outlook: Outlook, region: str | None, now: int) -> _Written:
        place, reader = Since(outlook.epoch, outlook.cursor), self._tags.reader
        written = self._written.get(region)
        if written is not None and written.place == place:
            return written
        with self._lock:
            written = self._written.get(region)
            if written is None or written.place != place:
                written = self._brought_up(written, place, reader, region, now)
                if len(self._written) >= _MOST_KEPT:
                    self._written.clear()
                self._written[region] = written
        return written

    def _brought_up(
        self, before: _Written | None, place: Since, reader: TagReader, region: str | None, now: int
    ) -> _Written:
        """All verdicts; only those are written that have changed since."""
        if (
            before is None
            or before.reader is not reader
            or before.place.epoch != place.epoch
            or before.place.cursor > place.cursor
        ):
            with self._store.read() as connection:
                told = snapshot.told(connection, None, region)
            hosts = _each(reader, told, now)
        else:
            # As a relying party does that has asked then and asks now.
            changed, gone = self._changes(before.place, region, reader, now)
            hosts = before.hosts | changed
            for name in gone:
                hosts.pop(name, None)
        return _Written(place, reader, hosts, self._text(place, hosts.values()))

    def _changes(
        self, since: Since, region: str | None, reader: TagReader, now: int
    ) -> tuple[dict[tuple[str, str], bytes], list[tuple[str, str]]]:
        """The hosts that have changed, each in JSON, and the names that were given up."""
        with self._store.read() as connection:
            told = snapshot.told(connection, since.cursor, region)
            gone = snapshot.deleted(connection, since.cursor)
        return _each(reader, told, now), [name for name in gone if region in (None, name[0])]

    def _lapsing(self, region: str | None, now: int) -> list[Lapse]:
        """What ends in the lease; read after the verdicts, which may be newer than the outlook."""
        before = now + self._lease_ms
        with self._store.read() as connection:
            found = snapshot.lapsing(connection, before)
        return [
            Lapse(item.region, item.host, max(item.deadline - now, 0) / 1000, item.tags_only)
            for item in found
            if region in (None, item.region)
        ]


def _each(
    reader: TagReader, told: list[snapshot.Told], now: int
) -> dict[tuple[str, str], bytes]:
    write = msgspec.json.Encoder().encode
    return {
        (item.region, item.host): write(
            HostVerdict(
                item.region,
                item.host,
                item.level,
                item.reason,
                item.service_host,
                item.resource_provider,
                _tags(reader, item, now),
                bool(item.software_tpm),
            )
        )
        for item in told
    }


def _tags(reader: TagReader, told: snapshot.Told, now: int) -> dict[str, str]:
    """The tags of a trusted host; of any other nobody vouches for the machine."""
    if told.level != TRUSTED:
        return {}
    record = reader.in_force(record_in(told), now)
    return {} if record is None else dict(record.claims.tags)
