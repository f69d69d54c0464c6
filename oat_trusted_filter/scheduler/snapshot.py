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
"""The verdicts about all hosts of a region as one immutable record."""

import dataclasses
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from oat_trusted_filter.client.errors import BadReply
from oat_trusted_filter.client.verdicts import (
    TRUSTED,
    UNKNOWN,
    UNTRUSTED,
    VerdictRecord,
    VerdictReply,
)
from oat_trusted_filter.scheduler.extra_specs import TagDemand

Tags = Mapping[str, str]

_NO_TAGS: Tags = {}
#: Different demands for tags of which a snapshot remembers the hosts.
_MOST_DEMANDS = 256

#: If two records speak of one host, the worse one counts.
_BADNESS = {TRUSTED: 0, UNKNOWN: 1, UNTRUSTED: 2}


class HostVerdict(NamedTuple):
    """The level of a host and the code of its reason."""

    level: str
    reason: str


NOT_ENROLLED = HostVerdict(UNKNOWN, "not-enrolled")
NO_VERDICTS = HostVerdict(UNKNOWN, "no-verdicts")
LAPSED = HostVerdict(UNKNOWN, "verdict-lapsed")


class _Lapse(NamedTuple):
    at: float
    host: str


@dataclass(frozen=True, slots=True)
class VerdictSnapshot:
    """What the backend said, and until when it may be used.

    All times are seconds on the monotonic clock. They count from the moment the request was sent,
    so that a slow answer shortens the lease and never lengthens it.
    """

    epoch: str
    cursor: int
    etag: str | None
    sent_at: float
    expires_at: float
    verdicts: Mapping[str, HostVerdict]
    trusted: frozenset[str]
    lapses: tuple[_Lapse, ...]
    """Hosts whose verdict ends before the lease, by time."""
    tags: Mapping[str, Tags] = field(default_factory=dict)
    """Of the hosts that have any."""
    tag_lapses: tuple[_Lapse, ...] = ()
    """Hosts whose tags end before the lease, by time."""
    _tagged: dict[tuple[TagDemand, ...], frozenset[str]] = field(
        default_factory=dict, repr=False, compare=False
    )

    @property
    def since(self) -> str:
        """The parameter of the next request."""
        return f"{self.epoch}:{self.cursor}"

    def usable(self, now: float) -> bool:
        """Whether the lease lasts."""
        return now < self.expires_at

    def lapsed(self, now: float) -> frozenset[str]:
        """Hosts whose verdict has ended by itself."""
        return _over(self.lapses, now)

    def tags_lapsed(self, now: float) -> frozenset[str]:
        """Hosts whose tags have ended by themselves."""
        return _over(self.tag_lapses, now)

    def tagged(self, demands: tuple[TagDemand, ...]) -> frozenset[str]:
        """Trusted hosts with all of these tags, as the backend said. Found once for a snapshot."""
        found = self._tagged.get(demands)
        if found is None:
            left = self.tags
            for name, values in demands:
                left = {host: tags for host, tags in left.items() if tags.get(name) in values}
            found = self.trusted.intersection(left)
            if len(self._tagged) >= _MOST_DEMANDS:
                self._tagged.clear()
            self._tagged[demands] = found
        return found


def unmet(demands: tuple[TagDemand, ...], tags: Tags) -> list[TagDemand]:
    """The demands a host with these tags does not meet."""
    return [demand for demand in demands if tags.get(demand.name) not in demand.values]


def _over(lapses: tuple[_Lapse, ...], now: float) -> frozenset[str]:
    if not lapses or lapses[0].at > now:
        return frozenset()
    end = bisect_right(lapses, now, key=lambda lapse: lapse.at)
    return frozenset(lapse.host for lapse in lapses[:end])


class View:
    """What one pass may act upon: the verdicts as they are at one moment.

    :param snapshot: the last one there is, or None.
    :param now: the moment, on the monotonic clock.
    :param problem: why the last request to the backend failed, if it did.
    """

    def __init__(self, snapshot: VerdictSnapshot | None, now: float, problem: str | None) -> None:
        self.problem = problem
        self.valid = snapshot is not None and snapshot.usable(now)
        """Whether there are verdicts whose lease lasts."""
        self._verdicts: Mapping[str, HostVerdict] = {}
        self._lapsed: frozenset[str] = frozenset()
        self._snapshot: VerdictSnapshot | None = None
        self._tags_lapsed: frozenset[str] = frozenset()
        self.trusted: frozenset[str] = frozenset()
        """Names of the hosts that are trusted at this moment."""
        if snapshot is not None and self.valid:
            self._snapshot = snapshot
            self._verdicts = snapshot.verdicts
            self._tags_lapsed = snapshot.tags_lapsed(now)
            self._lapsed = snapshot.lapsed(now)
            self.trusted = snapshot.trusted
            if self._lapsed:
                self.trusted = snapshot.trusted - self._lapsed

    def trusted_with(self, demands: tuple[TagDemand, ...]) -> frozenset[str]:
        """Names of the hosts that are trusted and have all of these tags at this moment."""
        if not demands or self._snapshot is None:
            return self.trusted
        found = self._snapshot.tagged(demands)
        gone = self._lapsed | self._tags_lapsed
        return found - gone if gone else found

    def tags_of(self, name: str) -> Tags:
        """The tags of one host at this moment."""
        if self._snapshot is None or name in self._tags_lapsed:
            return _NO_TAGS
        return self._snapshot.tags.get(name, _NO_TAGS)

    @property
    def names(self) -> Sequence[str]:
        """Names of all hosts with a verdict."""
        return list(self._verdicts)

    def verdict_on(self, name: str) -> HostVerdict:
        """The verdict on one host at this moment."""
        verdict = self._verdicts.get(name)
        if verdict is None:
            return NOT_ENROLLED if self.valid else NO_VERDICTS
        return LAPSED if name in self._lapsed else verdict

    def level(self, name: str) -> str:
        """The level of the verdict on one host at this moment."""
        return self.verdict_on(name).level

    def count(self, names: Sequence[str]) -> Counter[HostVerdict]:
        """How many of these hosts have which verdict at this moment."""
        if self._lapsed:
            return Counter(map(self.verdict_on, names))
        nothing = NOT_ENROLLED if self.valid else NO_VERDICTS
        found: Counter[HostVerdict] = Counter()
        for verdict, count in Counter(map(self._verdicts.get, names)).items():
            found[verdict or nothing] += count
        return found


def apply_reply(
    known: VerdictSnapshot | None, reply: VerdictReply, region: str, max_age: float
) -> VerdictSnapshot:
    """The snapshot that follows from a reply.

    :param known: the one the request was made from; None if it asked for everything.
    :param max_age: most seconds to use it, whatever lease the backend gives.
    :raises BadReply: ``reply-invalid``, the reply does not continue ``known``.
    """
    expires_at = reply.sent_at + min(reply.lease, max_age)
    if reply.not_modified:
        if known is None:
            raise BadReply("reply-invalid", "304 although nothing is known yet")
        return dataclasses.replace(
            known, sent_at=reply.sent_at, expires_at=expires_at, lapses=(), tag_lapses=()
        )
    verdicts: dict[str, HostVerdict] = {}
    tags: dict[str, Tags] = {}
    if not reply.full:
        if known is None or reply.epoch != known.epoch or reply.cursor < known.cursor:
            raise BadReply("reply-invalid", "the changes do not continue what is known")
        verdicts.update(known.verdicts)
        tags.update(known.tags)
    for host_region, host in reply.deleted:
        if host_region == region:
            verdicts.pop(host, None)
            tags.pop(host, None)
    for host, (verdict, its_tags) in _worst(reply.hosts, region).items():
        verdicts[host] = verdict
        if its_tags:
            tags[host] = its_tags
        else:
            tags.pop(host, None)
    return VerdictSnapshot(
        epoch=reply.epoch,
        cursor=reply.cursor,
        etag=reply.etag,
        sent_at=reply.sent_at,
        expires_at=expires_at,
        verdicts=verdicts,
        trusted=frozenset(host for host, verdict in verdicts.items() if verdict.level == TRUSTED),
        lapses=_lapses(reply, region, tags_only=False),
        tags=tags,
        tag_lapses=_lapses(reply, region, tags_only=True),
    )


def _lapses(reply: VerdictReply, region: str, *, tags_only: bool) -> tuple[_Lapse, ...]:
    return tuple(
        sorted(
            _Lapse(reply.sent_at + lapse.seconds, lapse.host)
            for lapse in reply.lapsing
            if lapse.region == region and lapse.tags_only == tags_only
        )
    )


def _worst(records: tuple[VerdictRecord, ...], region: str) -> dict[str, tuple[HostVerdict, Tags]]:
    found: dict[str, tuple[HostVerdict, Tags]] = {}
    # One object for all hosts of which the same is said: it saves memory, and time to compare them.
    same: dict[tuple[str, str], HostVerdict] = {}
    for its_region, host, level, reason, _, _, tags in records:
        if its_region != region:
            continue
        other = found.get(host)
        if other is None or _BADNESS[level] > _BADNESS[other[0].level]:
            verdict = same.get((level, reason))
            if verdict is None:
                verdict = same[level, reason] = HostVerdict(level, reason)
            found[host] = (verdict, _texts(tags) if tags else tags)
    return found


def _texts(tags: Tags) -> Tags:
    return {name: text for name, text in tags.items() if isinstance(text, str)}
