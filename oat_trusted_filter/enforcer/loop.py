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
"""The loop: ask for the verdicts, ask who acts, act, report; until somebody says stop."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from oslo_log import log as logging

from oat_trusted_filter.cmd import notify
from oat_trusted_filter.enforcer.action import Action, Counts, Pass
from oat_trusted_filter.enforcer.election import Election
from oat_trusted_filter.enforcer.errors import EnforcerError, describe
from oat_trusted_filter.enforcer.report import Reporter
from oat_trusted_filter.enforcer.standing import Follower

LOG = logging.getLogger(__name__)

#: Seconds an action may take before the verdicts are asked for again, so that a flip need not wait
#: until ten thousand hosts are done.
SLICE = 2.0


class Turn(NamedTuple):
    """How a turn went."""

    answered: bool
    """Whether the backend gave verdicts."""
    leads: bool
    """Whether this enforcer was the one to act."""
    passes: Sequence[Pass]

    @property
    def more(self) -> bool:
        """Whether there is work left that can be done at once."""
        return any(one.more for one in self.passes)


class Enforcer:
    """One thread only.

    :param reporter: None: nobody is told.
    :param refresh_interval: seconds between two turns if there is nothing left to do.
    """

    def __init__(
        self,
        follower: Follower,
        election: Election,
        actions: Sequence[Action],
        reporter: Reporter | None,
        *,
        refresh_interval: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.totals = Counts()
        """What was done since the start, and how things stand."""
        self._follower = follower
        self._election = election
        self._actions = actions
        self._reporter = reporter
        self._refresh_interval = refresh_interval
        self._clock = clock

    def run(self, stop: threading.Event) -> None:
        """Take turns until ``stop`` is set, and let another enforcer act then."""
        notify.ready()
        try:
            while not stop.is_set():
                stop.wait(self._guarded_turn(stop))
        finally:
            self.close()

    def once(self) -> Counts | None:
        """Turns until all is done; None if another enforcer acts.

        :raises EnforcerError: backend or placement failed; nothing is done without verdicts.
        """
        try:
            if not self._follower.refresh():
                raise EnforcerError("no-verdicts", f"no verdicts: {self._follower.problem}")
            while True:
                turn = self.turn()
                if not turn.leads:
                    return None
                for one in turn.passes:
                    if one.error is not None:
                        raise one.error
                if not turn.more:
                    return self.totals
        finally:
            self.close()

    def turn(self, stopped: Callable[[], bool] = lambda: False) -> Turn:
        """One turn.

        :param stopped: asked between two steps; if it says yes, the turn ends there.
        """
        answered = self._follower.refresh()
        leads = self._election.lead()
        standing = self._follower.standing()
        passes = []
        for action in self._actions:
            if not leads:
                action.watch(standing)
                continue
            done = action.act(standing, self._slice(stopped))
            if done is not None:
                self.totals.add(done.counts)
                passes.append(done)
                _tell(action.name, done)
        if answered and self._reporter is not None:
            # A backend that is silent already would only hold up the next turn.
            self._reporter.report(leads, self.totals.as_dict())
        return Turn(answered, leads, passes)

    def close(self) -> None:
        """Let another enforcer act, and close the connections."""
        self._election.resign()
        self._follower.close()
        if self._reporter is not None:
            self._reporter.close()

    def _slice(self, stopped: Callable[[], bool]) -> Callable[[], bool]:
        end = self._clock() + SLICE
        return lambda: not stopped() and self._clock() < end

    def _guarded_turn(self, stop: threading.Event) -> float:
        """One turn; returns the seconds until the next one."""
        try:
            turn = self.turn(stop.is_set)
        except Exception:
            # A bug must not end the enforcer for good: nobody would take traits away any more.
            LOG.exception("the turn ended with a fault of this program")
            return max(self._refresh_interval, 1.0)
        return 0.0 if turn.more else self._refresh_interval


def _tell(name: str, done: Pass) -> None:
    if not done.eventful:
        return
    kind = "all compared" if done.full else "changes"
    if done.error is not None:
        LOG.error("%s: %s, ended early: %s; %s", name, kind, done.counts, describe(done.error))
    else:
        level = logging.WARNING if done.counts.failed else logging.INFO
        LOG.log(level, "%s: %s: %s", name, kind, done.counts)
