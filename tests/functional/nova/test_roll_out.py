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
"""Trust is rolled out aggregate by aggregate, from either side."""

import pytest

from tests.functional.nova.conftest import BAD, GOOD

OBSERVE = {"trust__enforcement": "observe"}


@pytest.fixture
def aggregate(nova):
    """Makes aggregates that are gone after the test."""
    made = []

    def make(*hosts, **metadata):
        made.append((nova.cloud.create_aggregate(*hosts, **metadata), hosts))

    yield make
    for number, hosts in made:
        nova.cloud.delete_aggregate(number, *hosts)


def hosts_open_to(nova, flavor):
    return {
        host for host in (*GOOD, *BAD) if not nova.cloud.create_server(flavor, host=host).refused
    }


def test_hosts_of_an_aggregate_that_observes_are_let_through_and_named(nova, aggregate):
    aggregate(BAD[0], **OBSERVE)
    with nova.new_log() as lines:
        assert hosts_open_to(nova, nova.trusted) == {*GOOD, BAD[0]}
    assert any(f"host {BAD[0]} would be refused: untrusted" in line for line in lines)
    assert any(f"host {BAD[1]} refused: untrusted" in line for line in lines)


@pytest.mark.parametrize("other", ["enforce", "Observe", ""])
def test_an_aggregate_that_does_not_observe_wins(nova, aggregate, other):
    aggregate(BAD[0], **OBSERVE)
    aggregate(BAD[0], trust__enforcement=other)
    assert nova.cloud.create_server(nova.trusted, host=BAD[0]).refused


def test_a_flavor_nobody_understands_is_let_through_there_as_well(nova, aggregate):
    aggregate(BAD[0], **OBSERVE)
    flavor = nova.cloud.create_flavor(trusted=False, version="2.85", trust__trusted_host="yes")
    assert nova.cloud.create_server(flavor).host == BAD[0]
