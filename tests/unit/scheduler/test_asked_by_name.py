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
"""Services that only speak of hosts they are asked about."""

import time

import pytest

from oat_trusted_filter.client.drivers.base import AttestationDriver
from oat_trusted_filter.client.errors import BackendUnreachable
from oat_trusted_filter.client.verdicts import VerdictRecord, VerdictReply
from oat_trusted_filter.scheduler.source import NAME_KEPT
from tests.unit.scheduler.conftest import REFRESH


class ByName(AttestationDriver):
    """Trusts every host it is asked about whose name begins with ``good``."""

    by_name = True

    def __init__(self):
        self.asked = []
        self.down = False

    @classmethod
    def from_conf(cls, conf):
        return cls()

    def get_verdicts(self, since, etag, *, names=(), timeout):
        self.asked.append(sorted(names))
        if self.down:
            raise BackendUnreachable("backend-unreachable", "nobody there")
        return VerdictReply(
            lease=30.0,
            sent_at=time.monotonic(),
            epoch="e",
            cursor=len(self.asked),
            full=True,
            hosts=tuple(
                VerdictRecord("", name, "trusted" if name.startswith("good") else "unknown", "")
                for name in names
            ),
        )

    def close(self):
        pass


@pytest.fixture
def driver():
    return ByName()


@pytest.fixture
def look(make_source, driver):
    source = make_source(make_driver=lambda: driver, by_name=True)
    return lambda *names: source.view(lambda: names).trusted & set(names)


def test_all_hosts_of_a_pass_are_asked_about_at_once(look, driver):
    assert look("good-1", "bad", "good-2") == {"good-1", "good-2"}
    assert look("good-1", "bad", "good-2") == {"good-1", "good-2"}
    assert driver.asked == [["bad", "good-1", "good-2"]]


def test_a_host_that_does_not_get_trusted_is_not_asked_about_again_and_again(look, driver):
    for _ in range(5):
        assert look("bad") == set()
    assert driver.asked == [["bad"]]


def test_hosts_that_are_new_cost_one_request_together(look, driver):
    look("good-1")
    assert look("good-1", "good-2", "good-3") == {"good-1", "good-2", "good-3"}
    assert driver.asked == [["good-1"], ["good-1", "good-2", "good-3"]]


def test_a_pass_with_fewer_hosts_loses_no_verdict(look, driver, clock):
    look("good-1", "good-2")
    clock.advance(REFRESH)
    assert look("good-1") == {"good-1"}
    assert look("good-2") == {"good-2"}
    assert driver.asked == [["good-1", "good-2"]] * 2


def test_hosts_that_are_gone_are_dropped_in_the_end(look, driver, clock):
    look("good-1", "good-2")
    clock.advance(NAME_KEPT)
    look("good-1")
    assert driver.asked[-1] == ["good-1"]


def test_a_host_nobody_could_be_asked_about_is_asked_about_later(look, driver, clock):
    driver.down = True
    assert look("good-1") == set()
    driver.down = False
    clock.advance(REFRESH)
    assert look("good-1") == {"good-1"}
    driver.down = True
    assert look("good-1", "good-2") == {"good-1"}
    driver.down = False
    clock.advance(REFRESH)
    assert look("good-1", "good-2") == {"good-1", "good-2"}
