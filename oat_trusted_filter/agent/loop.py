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
"""The loop: round after round until somebody says stop, whatever goes wrong in between."""

import logging
import random
import threading
from collections.abc import Callable

from oat_trusted_filter.agent.attester import Attester, Outcome
from oat_trusted_filter.agent.errors import AgentError
from oat_trusted_filter.client.http import ClientError
from oat_trusted_filter.cmd import notify

LOG = logging.getLogger(__name__)

_FIRST_RETRY = 1.0
# Rounds come a little early, each by another amount, so that hosts which were switched on
# together do not stay in step. Never late: a verdict must not lapse between two rounds.
_EARLIEST = 0.9


class Backoff:
    """Pauses after failures: exponential with full jitter.

    :param most: longest pause in seconds.
    :param draw: ``random.uniform``, or something like it.
    """

    def __init__(self, most: float, draw: Callable[[float, float], float] = random.uniform) -> None:
        self._most = most
        self._draw = draw
        self._ceiling = 0.0

    def next(self) -> float:
        """Seconds to wait after one more failure."""
        self._ceiling = min(self._ceiling * 2 or _FIRST_RETRY, self._most)
        return self._draw(0.0, self._ceiling)

    def reset(self) -> None:
        """Something went well."""
        self._ceiling = 0.0


class Loop:
    """Rounds at the interval the backend names.

    No failure ends it: a TPM that is away for a moment, a backend that restarts and a log that
    cannot be read for now are tried again, with growing pauses.
    """

    def __init__(
        self,
        attester: Attester,
        *,
        interval: float,
        retry_max: float,
        draw: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._attester = attester
        self._interval = interval
        self._backoff = Backoff(retry_max, draw)
        self._draw = draw

    def run(self, stop: threading.Event) -> None:
        """Go round until ``stop`` is set.

        systemd hears after the first round that this service is ready, however that round ended:
        nova-compute starts after it, so a host that has booted attests before it takes servers.
        """
        pause = self.step()
        notify.ready()
        while not stop.wait(pause):
            pause = self.step()

    def step(self) -> float:
        """One round and one log line.

        :returns: seconds to wait before the next one.
        """
        outcome: Outcome | None = None
        failure = ""
        try:
            outcome = self._attester.round()
        except (AgentError, ClientError) as error:
            failure = describe(error)
        except Exception:
            # A bug must not silence the host for good: its verdict would lapse and stay so.
            LOG.exception("the round ended with a fault of this program")
            failure = "[agent-fault] the round ended with a fault of this program"
        if outcome is None:
            # Logged out here, for oslo.log adds to whatever is logged while an exception is
            # handled the text of that exception once more.
            pause = self._backoff.next()
            LOG.error("%s; next try in %.1f s", failure, pause)
            return pause
        self._backoff.reset()
        interval = outcome.interval if outcome.interval is not None else self._interval
        pause = self._draw(interval * _EARLIEST, interval)
        _report(outcome, pause)
        return pause


def describe(error: AgentError | ClientError) -> str:
    """Code and sentence of an error in one line."""
    return " ".join(f"[{error.code}] {error}".split())


def _report(outcome: Outcome, pause: float) -> None:
    level = logging.INFO if outcome.level == "trusted" else logging.WARNING
    LOG.log(level, "%s; next round in %.1f s", outcome, pause)
