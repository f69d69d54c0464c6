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
"""The reply to ``GET /v1/verdicts`` as a checked record."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from oat_trusted_filter.client.errors import BadReply

TRUSTED = "trusted"
UNTRUSTED = "untrusted"
UNKNOWN = "unknown"
LEVELS = frozenset({TRUSTED, UNTRUSTED, UNKNOWN})

_NO_TAGS: Mapping[str, str] = {}


class VerdictRecord(NamedTuple):
    """The verdict about one host."""

    region: str
    host: str
    level: str
    reason: str
    """Code of the first finding, or empty."""
    service_host: str | None = None
    resource_provider: str | None = None
    tags: Mapping[str, str] = _NO_TAGS


class Lapse(NamedTuple):
    """A host whose verdict, or whose tags, end before the lease does."""

    region: str
    host: str
    seconds: float
    """From the moment the request was sent."""
    tags_only: bool = False
    """Its verdict lasts."""


@dataclass(frozen=True, slots=True)
class VerdictReply:
    """What the backend said.

    ``not_modified``: the verdicts are those of the entity tag that was sent, none of them lapses
    within the lease, and everything but ``lease``, ``etag`` and ``sent_at`` is empty.
    """

    lease: float
    """Seconds the verdicts may be used, counted from ``sent_at``."""
    sent_at: float
    """Monotonic clock just before the request was sent."""
    etag: str | None = None
    not_modified: bool = False
    epoch: str = ""
    cursor: int = 0
    full: bool = False
    hosts: tuple[VerdictRecord, ...] = ()
    deleted: tuple[tuple[str, str], ...] = ()
    lapsing: tuple[Lapse, ...] = field(default=())

    @property
    def since(self) -> str:
        """The parameter of the next request."""
        return f"{self.epoch}:{self.cursor}"


def parse_not_modified(headers: Mapping[str, str], sent_at: float) -> VerdictReply:
    """Check a 304, which has no body.

    :raises BadReply: ``reply-invalid``, there is no lease.
    """
    found = {name.lower(): value for name, value in headers.items()}
    lease = _header_seconds(found.get("oat-lease"))
    if lease is None:
        raise _invalid("OAT-Lease", None)
    return VerdictReply(lease=lease, sent_at=sent_at, etag=found.get("etag"), not_modified=True)


def parse_reply(body: Any, headers: Mapping[str, str], sent_at: float) -> VerdictReply:
    """Check a reply with a body.

    :param body: the decoded body.
    :raises BadReply: ``reply-invalid``, with the field that is wrong.
    """
    found = {name.lower(): value for name, value in headers.items()}
    etag = found.get("etag")
    lease = _header_seconds(found.get("oat-lease"))
    if not isinstance(body, Mapping):
        raise BadReply("reply-invalid", "the reply is not a JSON object")
    stated = _seconds(body.get("lease"), "lease")
    epoch, cursor, full = body.get("epoch"), body.get("cursor"), body.get("full")
    if not isinstance(epoch, str) or not epoch:
        raise _invalid("epoch", epoch)
    if type(cursor) is not int or cursor < 0:
        raise _invalid("cursor", cursor)
    if type(full) is not bool:
        raise _invalid("full", full)
    return VerdictReply(
        lease=stated if lease is None else min(stated, lease),
        sent_at=sent_at,
        etag=etag,
        epoch=epoch,
        cursor=cursor,
        full=full,
        hosts=tuple(_record(item) for item in _list(body, "hosts")),
        deleted=tuple(_identity(item, "deleted") for item in _list(body, "deleted")),
        lapsing=tuple(
            Lapse(
                *_identity(item, "lapsing"),
                _seconds(item.get("seconds"), "lapsing.seconds"),
                item.get("tags_only") is True,
            )
            for item in _list(body, "lapsing")
        ),
    )


def _invalid(name: str, value: Any) -> BadReply:
    return BadReply("reply-invalid", f"the reply has {name} {value!r}"[:300])


def _header_seconds(value: str | None) -> float | None:
    if value is None:
        return None
    try:
        return _seconds(float(value), "OAT-Lease")
    except ValueError:
        raise _invalid("OAT-Lease", value) from None


def _seconds(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _invalid(name, value)
    try:
        seconds = float(value)
    except OverflowError:
        raise _invalid(name, "beyond all numbers") from None
    if not math.isfinite(seconds):
        raise _invalid(name, value)
    return max(seconds, 0.0)


def _list(body: Mapping[str, Any], name: str) -> list[Any]:
    value = body.get(name)
    if not isinstance(value, list):
        raise _invalid(name, value)
    return value


def _identity(item: Any, name: str) -> tuple[str, str]:
    # What JSON calls an object; there may be ten thousand of them.
    if isinstance(item, dict):
        region, host = item.get("region"), item.get("host")
        if isinstance(region, str) and isinstance(host, str) and host:
            return region, host
    raise _invalid(name, item)


def _record(item: Any) -> VerdictRecord:
    region, host = _identity(item, "hosts")
    get = item.get
    level, reason, tags = get("level"), get("reason"), get("tags")
    if not isinstance(level, str) or level not in LEVELS:
        raise _invalid(f"level of host {host!r}", level)
    return VerdictRecord(
        region,
        host,
        level,
        reason if isinstance(reason, str) else "",
        _text(get("service_host")),
        _text(get("resource_provider")),
        tags if tags and isinstance(tags, dict) else _NO_TAGS,
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
