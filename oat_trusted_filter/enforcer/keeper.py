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
"""Keeps the traits of resource providers as the verdicts say.

A pass has these steps, and leaves the rest for the next one when its time is over:

1. Credit the hosts with what their verdicts allow (:mod:`~oat_trusted_filter.enforcer.ledger`).
2. Compare what the providers should have with what they were last seen to have, removals first, and
   set right what differs. Each provider is read again before it is written, and written only if its
   generation is still the one that was read.
3. If it is time, look at all of placement anew (:mod:`~oat_trusted_filter.enforcer.survey`), and
   do step 2 again.
"""

import time
from collections.abc import Callable, Iterable

from oslo_log import log as logging

from oat_trusted_filter.client.verdicts import TRUSTED as TRUSTED_LEVEL
from oat_trusted_filter.enforcer.action import Counts, Pass
from oat_trusted_filter.enforcer.errors import (
    PlacementError,
    PlacementRefused,
    describe,
)
from oat_trusted_filter.enforcer.ledger import Ledger
from oat_trusted_filter.enforcer.placement import Placement
from oat_trusted_filter.enforcer.plan import (
    NOTHING,
    Entitlement,
    Picture,
    Plan,
    Target,
    entitlement,
    make_plan,
)
from oat_trusted_filter.enforcer.standing import HostStanding, Phase, Standing
from oat_trusted_filter.enforcer.survey import Survey
from oat_trusted_filter.enforcer.writer import Writer
from oat_trusted_filter.scheduler.snapshot import LAPSED
from oat_trusted_filter.traits import TRUSTED

LOG = logging.getLogger(__name__)

_FIRST_PAUSE = 1.0
#: Most seconds without a request to placement after it failed. Not more, for if only one provider
#: fails all others wait as long.
LONGEST_PAUSE = 10.0
#: Least seconds between two looks for hosts that placement does not know; doubled each time.
_FIRST_SEARCH = 10.0


class TraitKeeper:
    """The action ``traits``. One thread only; times in seconds.

    :param full_interval: between two looks at all of placement.
    :param dry_run: write nothing, say what would be written.
    """

    name = "traits"

    def __init__(
        self,
        placement: Placement,
        *,
        full_interval: float,
        dry_run: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._placement = placement
        self._full_interval = full_interval
        self._clock = clock
        self._ledger = Ledger(settling=not dry_run)
        self._writer = Writer(placement, self._ledger, dry_run=dry_run)
        self._standing: Standing | None = None
        self._entitled: list[Entitlement] = []
        self._informed = False
        self._refused: set[tuple[str, str]] = set()
        self._picture: Picture | None = None
        self._survey: Survey | None = None
        self._survey_at = clock()
        self._surveyed_at = clock() - full_interval
        self._search = _FIRST_SEARCH
        self._waiting: frozenset[str] = frozenset()
        self._oddities: set[str] = set()
        self._touched: set[str] = set()
        self._unsure: set[str] = set()
        self._nested: set[tuple[str, str]] = set()
        self._pause = 0.0
        self._resume_at = clock()

    def watch(self, standing: Standing) -> None:
        """Another enforcer acts; what we have seen of placement is no longer of use."""
        self._follow(standing)
        self._picture = self._survey = None
        self._unsure.clear()
        self._survey_at = self._resume_at = self._clock()
        self._pause = 0.0

    def act(self, standing: Standing, proceed: Callable[[], bool]) -> Pass | None:
        """Bring placement in line; None if it was not yet time to do anything."""
        self._follow(standing)
        if standing.phase is Phase.HOLDING and not standing.informed:
            return None  # nothing is known yet, so nothing can be right or wrong
        if self._clock() < self._resume_at:
            return None
        done = Pass()
        self._touched.clear()
        try:
            self._work(done, proceed)
        except PlacementError as error:
            self._pause = min(self._pause * 2 or _FIRST_PAUSE, LONGEST_PAUSE)
            self._resume_at = self._clock() + self._pause
            self._survey = None
            done.more = False
            done.error = error
        else:
            self._pause = 0.0
        return done

    def _follow(self, standing: Standing) -> None:
        """Step 1."""
        if standing is self._standing:
            return
        self._standing = standing
        self._entitled = self._entitle(standing.hosts)
        if standing.informed and not self._informed:
            self._informed = True
            # Before our time these may have been trusted; their traits accuse nobody.
            lapsed = [host for host in standing.hosts if host.reason == LAPSED.reason]
            self._ledger.credit(
                entitlement(host._replace(level=TRUSTED_LEVEL))[0] for host in lapsed
            )
        self._ledger.credit(self._entitled)

    def _entitle(self, hosts: Iterable[HostStanding]) -> list[Entitlement]:
        entitled = []
        told, self._refused = self._refused, set()
        for host in hosts:
            one, refused = entitlement(host)
            entitled.append(one)
            for refusal in refused:
                known = (refusal.host, refusal.name)
                self._refused.add(known)
                if known not in told:
                    LOG.warning(
                        "host %s: no trait for its tag %r: %s",
                        refusal.host,
                        refusal.name,
                        describe(refusal.error),
                    )
        return entitled

    def _work(self, done: Pass, proceed: Callable[[], bool]) -> None:
        self._writer.make(TRUSTED)  # a flavor may name it before any host is trusted
        if self._picture is not None:
            self._apply(self._picture, done, proceed)
        if self._survey is None and self._clock() >= self._survey_at:
            self._survey = Survey(self._placement)
        if self._survey is None:
            return
        while not self._survey.finished:
            if not proceed():
                done.more = True
                return
            self._survey.step()
        self._picture = self._survey.picture()
        self._survey = None
        self._surveyed_at = self._clock()
        self._survey_at = self._surveyed_at + self._full_interval
        self._search = min(self._search * 2, self._full_interval)
        self._ledger.review(self._picture)
        self._ledger.credit(self._entitled)
        done.full = True
        self._report_nested(self._picture, done.counts)
        self._apply(self._picture, done, proceed)

    def _apply(self, picture: Picture, done: Pass, proceed: Callable[[], bool]) -> None:
        """Step 2."""
        counts = done.counts
        self._unsure.intersection_update(picture.roots)
        plan = make_plan(picture, self._entitled, self._unsure)
        self._tell(plan)
        counts.waiting = len(plan.waiting)
        counts.unchanged = 0
        work = []
        for uuid, target in plan.targets.items():
            present = picture.present.get(uuid, NOTHING)
            aim = self._aim(target, present)
            if uuid in self._unsure or aim != present:
                work.append((uuid in self._unsure, not present - aim, uuid, target))
                continue
            self._ledger.settle(picture.roots[uuid], present | target.traits)
            counts.unchanged += bool(target.hosts) and uuid not in self._touched
        # What failed the last time comes last, so that it holds up nobody; then removals first.
        work.sort(key=lambda item: item[:3])
        counts.pending = len(work)
        for _, _, uuid, target in work:
            if not proceed():
                done.more = True
                return
            counts.pending -= 1
            self._set_right(picture, uuid, target, counts)
        done.more = False

    def _aim(self, target: Target, present: frozenset[str]) -> frozenset[str]:
        if self._standing is not None and self._standing.phase is Phase.CURRENT:
            return target.traits
        return target.traits & present

    def _set_right(self, picture: Picture, uuid: str, target: Target, counts: Counts) -> None:
        # Until it is read again nobody knows what it has: a failed write may have been done.
        self._unsure.add(uuid)
        try:
            outcome = self._writer.write(
                picture.roots[uuid],
                target,
                lambda present: self._aim(target, present),
                suspicious=self._informed,
            )
        except PlacementRefused as error:
            counts.failed += 1
            LOG.error("resource provider %s: %s", uuid, describe(error))
            return
        except PlacementError:
            counts.failed += 1
            raise
        self._unsure.discard(uuid)
        if outcome is None:
            picture.forget(uuid)
            if self._survey is not None:
                self._survey.lost(uuid)
            return
        picture.present[uuid] = outcome.present
        if self._survey is not None:
            self._survey.wrote(uuid, outcome.present)
        counts.set += bool(outcome.added)
        counts.removed += bool(outcome.removed)
        counts.incidents += len(outcome.foreign)
        if outcome.added or outcome.removed:
            self._touched.add(uuid)
        else:
            counts.unchanged += bool(target.hosts)

    def _tell(self, plan: Plan) -> None:
        """What stands in the way is logged once, and looked for again less and less often."""
        for oddity in sorted(plan.oddities - self._oddities):
            LOG.warning("%s", oddity)
        self._oddities = plan.oddities
        for host in plan.waiting:
            if host.host not in self._waiting:
                self._search = _FIRST_SEARCH
                LOG.info("host %s: placement has no root provider %r yet", host.host, host.key)
        self._waiting = frozenset(host.host for host in plan.waiting)
        if self._waiting:
            self._survey_at = min(self._survey_at, self._surveyed_at + self._search)

    def _report_nested(self, picture: Picture, counts: Counts) -> None:
        """Providers with a parent are not touched; but nobody has to set our traits there."""
        found = {(uuid, trait) for uuid, traits in picture.nested.items() for trait in traits}
        for uuid, trait in sorted(found - self._nested):
            counts.incidents += 1
            LOG.error(
                "incident trait-on-nested-provider: %s is on resource provider %s, which has a "
                "parent; the enforcer sets none there and leaves it alone",
                trait,
                uuid,
            )
        self._nested = found
