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
"""What the verdicts say about the hosts at this moment, and what that is worth.

The phase answers the question what to do when the backend is silent:

1. ``CURRENT``: the lease of the last reply lasts. What it says counts.
2. ``HOLDING``: the lease has ended, the grace has not (or nothing is known yet, shortly after the
   start). Nobody gains anything any more. Hosts that were trusted keep what they have.
3. ``BLIND``: the grace has ended as well. Nobody is trusted.
"""

import enum
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from oslo_log import log as logging

from oat_trusted_filter.client.http import AttestationClient, BadReply, ClientError
from oat_trusted_filter.client.verdicts import TRUSTED, VerdictRecord, VerdictReply
from oat_trusted_filter.enforcer.errors import describe
from oat_trusted_filter.scheduler.snapshot import (
    LAPSED,
    NO_VERDICTS,
    HostVerdict,
    VerdictSnapshot,
    apply_reply,
)

LOG = logging.getLogger(__name__)

#: Most seconds a reply is used, whatever lease the backend gives.
LONGEST_LEASE = 300.0

_NO_TAGS: Mapping[str, str] = {}


class Phase(enum.Enum):
    """What the last reply is worth; see the module."""

    CURRENT = "current"
    HOLDING = "holding"
    BLIND = "blind"


class HostStanding(NamedTuple):
    """One host at this moment."""

    host: str
    level: str
    reason: str
    """Code of the first finding, or empty."""
    resource_provider: str | None = None
    """UUID, if it was recorded when the host enrolled."""
    tags: Mapping[str, str] = _NO_TAGS

    @property
    def trusted(self) -> bool:
        """Whether the level is ``trusted``."""
        return self.level == TRUSTED


@dataclass(frozen=True, slots=True)
class Standing:
    """All hosts at one moment."""

    phase: Phase
    hosts: tuple[HostStanding, ...]
    informed: bool
    """Whether the backend has answered since the start; if not, ``hosts`` is empty."""


class Follower:
    """Asks the backend what has changed. One thread only.

    :param make_client: called when a connection is needed; may raise ClientError.
    :param region: hosts of other regions are left out.
    :param grace: seconds from the end of the lease, or from the start, until nobody is trusted.
    :param clock: the monotonic clock, in seconds.
    """

    def __init__(
        self,
        make_client: Callable[[], AttestationClient],
        *,
        region: str,
        grace: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.problem: str | None = None
        """Why the last request failed; None if it did not."""
        self._make_client = make_client
        self._region = region
        self._grace = grace
        self._clock = clock
        self._silent_since = clock()
        self._client: AttestationClient | None = None
        self._snapshot: VerdictSnapshot | None = None
        self._records: dict[str, VerdictRecord] = {}
        self._start_over = False
        self._phase: Phase | None = None
        self._standing: Standing | None = None
        self._made_from: tuple[Phase, object, frozenset[str], frozenset[str]] | None = None

    def close(self) -> None:
        """Close the connection."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def refresh(self) -> bool:
        """Ask once; returns whether there was an answer. A failure leaves what is known."""
        try:
            if self._client is None:
                self._client = self._make_client()
            self._take(self._client)
        except ClientError as error:
            self._failed(describe(error))
            return False
        except Exception as error:
            # A defect must not keep the lease from ending.
            LOG.exception("asking the attestation backend failed in an unforeseen way")
            self._failed(f"[internal-error] {type(error).__name__}")
            return False
        if self.problem is not None:
            LOG.info("the attestation backend answers again")
        self.problem = None
        return True

    def standing(self) -> Standing:
        """All hosts at this moment; the same object as before if nothing has changed."""
        now = self._clock()
        snapshot = self._snapshot
        ended = self._silent_since if snapshot is None else snapshot.expires_at
        if now < ended:
            phase = Phase.CURRENT
        elif now < ended + self._grace:
            phase = Phase.HOLDING
        else:
            phase = Phase.BLIND
        if phase is not self._phase:
            self._phase = phase
            self._announce(phase, ended + self._grace - now)
        if snapshot is None:
            return Standing(phase, (), informed=False)
        lapsed, tags_lapsed = snapshot.lapsed(now), snapshot.tags_lapsed(now)
        made_from = self._made_from
        # By identity: tags may change while level and reason stay.
        if (
            self._standing is None
            or made_from is None
            or made_from[0] is not phase
            or made_from[1] is not snapshot.verdicts
            or made_from[2:] != (lapsed, tags_lapsed)
        ):
            self._made_from = (phase, snapshot.verdicts, lapsed, tags_lapsed)
            hosts = tuple(
                self._host(
                    host, NO_VERDICTS if phase is Phase.BLIND else verdict, lapsed, tags_lapsed
                )
                for host, verdict in snapshot.verdicts.items()
            )
            self._standing = Standing(phase, hosts, informed=True)
        return self._standing

    def _failed(self, problem: str) -> None:
        # A new client reads token and CA file anew, and connects anew.
        self.close()
        level = logging.WARNING if self.problem is None else logging.DEBUG
        LOG.log(level, "the attestation backend gives no verdicts: %s", problem)
        self.problem = problem

    def _host(
        self,
        host: str,
        verdict: HostVerdict,
        lapsed: frozenset[str],
        tags_lapsed: frozenset[str],
    ) -> HostStanding:
        level, reason = LAPSED if host in lapsed else verdict
        record = self._records[host]
        tags = _NO_TAGS if host in tags_lapsed else record.tags
        return HostStanding(host, level, reason, record.resource_provider, tags)

    def _take(self, client: AttestationClient) -> None:
        known = None if self._start_over else self._snapshot
        if known is None:
            reply = client.get_verdicts()
        else:
            reply = client.get_verdicts(known.since, known.etag)
        try:
            snapshot = apply_reply(known, reply, self._region, LONGEST_LEASE)
        except BadReply:
            self._start_over = True
            raise
        self._start_over = False
        self._snapshot = snapshot
        if not reply.not_modified:
            self._record(reply, snapshot)

    def _record(self, reply: VerdictReply, snapshot: VerdictSnapshot) -> None:
        """Keep beside the snapshot what it leaves out: resource provider and tags."""
        records = {} if reply.full else self._records
        for record in reply.hosts:
            verdict = snapshot.verdicts.get(record.host)
            if record.region == self._region and verdict and verdict.level == record.level:
                records[record.host] = record
        self._records = {host: records[host] for host in snapshot.verdicts}

    def _announce(self, phase: Phase, seconds: float) -> None:
        problem = self.problem or "the lease has ended"
        if phase is Phase.CURRENT:
            LOG.info("following the verdicts about %d hosts", len(self._records))
        elif phase is Phase.HOLDING:
            LOG.warning(
                "no valid verdicts (%s): nobody gains trust, what trusted hosts have stays for "
                "%.0f s more",
                problem,
                seconds,
            )
        else:
            LOG.error("no valid verdicts (%s): no host is trusted any more", problem)
