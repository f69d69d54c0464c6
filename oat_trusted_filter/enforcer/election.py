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
"""Which of several enforcers acts: the one that holds a lock in the coordination service.

Two that act for a moment, after a pause of a machine for instance, do no harm: each write to
placement names the generation it was made from, and both want the same.
"""

import time
import uuid
from collections.abc import Callable
from typing import Protocol
from urllib.parse import quote

import tooz
from oslo_log import log as logging
from tooz import coordination

from oat_trusted_filter.enforcer.errors import ConfigurationError

LOG = logging.getLogger(__name__)

#: Seconds without a sign of life to the service after which the lock is not relied upon any more;
#: the services give it to somebody else after 30 or so.
LONGEST_SILENCE = 15.0
#: Seconds after which the lock is taken anew if the service cannot say whether it is still ours.
RENEWAL = 60.0


class Election(Protocol):
    """Who acts."""

    def lead(self) -> bool:
        """Whether this enforcer acts now. To be asked again and again."""

    def resign(self) -> None:
        """Let another one act."""


class Alone:
    """There is no other enforcer."""

    def lead(self) -> bool:
        """Whether this enforcer acts now: it does."""
        return True

    def resign(self) -> None:
        """There is nobody to leave it to."""


class CoordinatedElection:
    """The holder of a tooz lock acts. One thread only.

    If the service cannot be reached nobody acts.

    :param url: of the coordination service.
    :param region: enforcers of different regions do not compete.
    :param name: of this enforcer, for people who look into the service.
    :raises ConfigurationError: there is no such kind of service.
    """

    def __init__(
        self, url: str, *, region: str, name: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._url = url
        # The same name twice would make two enforcers one member.
        self._member = f"{name}:{uuid.uuid4()}".encode()
        self._lock_name = f"oat-enforcer-{quote(region, safe='')}".encode()
        self._clock = clock
        self._coordinator: coordination.CoordinationDriver | None = None
        self._lock: tooz.locking.Lock | None = None
        self._leads = False
        self._seen_at = 0.0
        self._taken_at = 0.0
        self._problem = False
        try:
            self._new_coordinator()
        except Exception as error:
            # Each driver has its own exceptions for what it does not understand.
            kind = url.partition(":")[0]
            raise ConfigurationError(
                f"[enforcer] coordination_url of the kind {kind!r} cannot be used: {error}"
            ) from error

    def lead(self) -> bool:
        """Whether this enforcer acts now."""
        try:
            leads = self._ask()
        except Exception as error:
            # tooz lets some exceptions of its drivers through; none may end the enforcer.
            self._abandon()
            leads = False
            LOG.log(
                logging.DEBUG if self._problem else logging.ERROR,
                "the coordination service fails, this enforcer does not act: %s",
                " ".join(str(error).split()) or type(error).__name__,
            )
            self._problem = True
        else:
            if self._problem:
                LOG.info("the coordination service works again")
            self._problem = False
        if leads is not self._leads:
            LOG.info("this enforcer %s", "acts" if leads else "does not act any more")
        self._leads = leads
        return leads

    def resign(self) -> None:
        """Let another one act."""
        self._abandon()
        self._leads = False

    def _new_coordinator(self) -> coordination.CoordinationDriver:
        return coordination.get_coordinator(self._url, self._member)

    def _ask(self) -> bool:
        now = self._clock()
        if self._lock is not None and now - self._seen_at > LONGEST_SILENCE:
            self._abandon()
        if self._coordinator is None:
            coordinator = self._new_coordinator()
            coordinator.start()
            self._coordinator = coordinator
        self._coordinator.heartbeat()
        if self._lock is not None and not self._still_mine(self._lock, now):
            self._abandon()
            return False
        if self._lock is None:
            lock = self._coordinator.get_lock(self._lock_name)
            if lock.acquire(blocking=False):
                self._lock = lock
                self._taken_at = now
        self._seen_at = now
        return self._lock is not None

    def _still_mine(self, lock: "tooz.locking.Lock", now: float) -> bool:
        try:
            return lock.is_still_owner()
        except tooz.NotImplemented:
            if now - self._taken_at < RENEWAL:
                return True
        self._taken_at = now
        return lock.release() and lock.acquire(blocking=False)

    def _abandon(self) -> None:
        """Give up lock and connection; the next question makes new ones."""
        lock, self._lock = self._lock, None
        coordinator, self._coordinator = self._coordinator, None
        for end in (lock and lock.release, coordinator and coordinator.stop):
            try:
                if end:
                    end()
            except Exception as error:
                LOG.debug("while leaving the coordination service: %s", error)
