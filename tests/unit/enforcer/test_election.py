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
"""Drivers that cannot say whether a lock is still held, and drivers that fail."""

import pytest
import tooz

from oat_trusted_filter.enforcer.election import RENEWAL, CoordinatedElection


class Lock:
    """A lock of a service like a database, which cannot tell whether it is still ours."""

    def __init__(self, service):
        self._service = service

    def acquire(self, blocking):
        assert blocking is False
        self._service.asked += 1
        if self._service.holder is not None:
            return False
        self._service.holder = self
        return True

    def release(self):
        if self._service.holder is not self:
            return False
        self._service.holder = None
        return True

    def is_still_owner(self):
        raise tooz.NotImplemented("not implemented")


class Service:
    """Stands in for a tooz coordinator, at the edge to the driver."""

    def __init__(self):
        self.holder = None
        self.asked = 0
        self.beats = 0
        self.fails = False

    def start(self):
        if self.fails:
            raise OSError("no route to host")

    def stop(self):
        if self.fails:
            raise OSError("no route to host")

    def heartbeat(self):
        self.beats += 1
        if self.fails:
            raise ValueError("whatever a driver lets through")

    def get_lock(self, name):
        return Lock(self)


@pytest.fixture
def service(monkeypatch):
    service = Service()
    monkeypatch.setattr(CoordinatedElection, "_new_coordinator", lambda self: service)
    return service


@pytest.fixture
def now():
    return [100.0]


@pytest.fixture
def election(service, now):
    return CoordinatedElection("etcd3://x", region="", name="a", clock=lambda: now[0])


def later(election, now, seconds):
    """Turns as the loop takes them; the last answer."""
    answer = None
    for _ in range(int(seconds / 2)):
        now[0] += 2.0
        answer = election.lead()
    return answer


def test_a_lock_that_cannot_be_checked_is_taken_anew_now_and_then(election, service, now):
    assert election.lead()
    assert later(election, now, RENEWAL - 4.0)
    assert service.asked == 1
    assert later(election, now, 6.0)
    assert service.asked == 2


def test_a_lock_that_was_lost_without_a_word_is_noticed_at_the_renewal(election, service, now):
    assert election.lead()
    service.holder = Lock(service)  # the connection broke, another one was faster
    assert not later(election, now, RENEWAL + 4.0)


def test_no_exception_of_a_driver_ends_the_enforcer(election, service, now):
    assert election.lead()
    service.fails = True
    assert not later(election, now, 4.0)
    service.fails = False
    assert later(election, now, 4.0)


def test_there_is_a_sign_of_life_at_each_turn(election, service, now):
    election.lead()
    later(election, now, 10.0)
    assert service.beats == 6
