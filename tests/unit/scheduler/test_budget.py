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
"""What a pass may cost, beside the thing it is compared with in the same run."""

import logging

import pytest

from tests.unit.scheduler.conftest import TRUSTED, hosts, spec

COUNT = 10_000
NAMES = [f"compute-{n}.example.org" for n in range(COUNT)]


@pytest.fixture
def warm_filter(make_filter, backend, caplog):
    """A filter that knows ten thousand hosts, ten of them untrusted, logging as in production."""
    caplog.set_level(logging.INFO, "oat_trusted_filter")
    backend.say("untrusted", *NAMES[:10], reason="pcr-mismatch")
    backend.say("trusted", *NAMES[10:])
    trusted_filter = make_filter(refresh_interval=3600.0, deadline=30.0)
    assert len(trusted_filter.filter_all(hosts(*NAMES), spec(TRUSTED))) == COUNT - 10
    return trusted_filter


def test_a_warm_pass_asks_nobody(warm_filter, backend):
    assert len(warm_filter.filter_all(hosts(*NAMES), spec(TRUSTED))) == COUNT - 10
    assert len(backend.requests) == 1


def test_a_plain_flavor_gets_the_list_it_brought(warm_filter, backend):
    states = hosts(*NAMES)
    assert warm_filter.filter_all(states, spec()) is states
    assert len(backend.requests) == 1


def test_a_change_of_one_host_is_one_small_request(make_filter, backend, clock):
    backend.say("trusted", *NAMES)
    trusted_filter = make_filter(deadline=30.0)
    states, request = hosts(*NAMES), spec(TRUSTED)
    trusted_filter.filter_all(states, request)
    sizes = []
    answer = backend.answer

    def noted(since, etag):
        found = answer(since, etag)
        sizes.append(len(found[1]["hosts"]))
        return found

    backend.answer = noted
    backend.say("untrusted", NAMES[0])
    clock.advance(5.0)
    assert len(trusted_filter.filter_all(states, request)) == COUNT - 1
    assert sizes == [1]
