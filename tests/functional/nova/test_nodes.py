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
"""Compute services with several nodes, nodes that come and go, and requests for several servers."""

import pytest

from tests.functional.nova.conftest import scene


@pytest.fixture(scope="module")
def nova(tmp_path_factory):
    with scene(tmp_path_factory.mktemp("nodes"), hosts=("one", "two"), request_filter=True) as made:
        made.cloud.set_nodes("two", "two-a", "two-b")
        yield made


@pytest.fixture(autouse=True)
def clean(nova):
    nova.say("trusted", "one", "two-a")
    nova.say("untrusted", "two-b", reason="pcr-mismatch")
    yield
    nova.cloud.delete_all()
    nova.cloud.set_nodes("two", "two-a", "two-b")


def test_the_node_is_what_is_trusted_and_not_the_service(nova):
    nova.say("untrusted", "one")
    nova.say("trusted", "two")  # the name of the service, and of no node
    for _ in range(3):
        assert nova.cloud.create_server(nova.trusted).host == "two-a"


def test_several_servers_of_one_request_are_all_on_trusted_hosts(nova):
    servers = nova.cloud.create_servers(nova.trusted, 5)
    assert len(servers) == 5
    assert {server.host for server in servers} <= {"one", "two-a"}


def test_several_servers_of_one_request_are_all_refused_without_a_trusted_host(nova):
    nova.say("unknown", "one", "two-a")
    servers = nova.cloud.create_servers(nova.trusted, 3)
    assert [server.refused for server in servers] == [True] * 3


def test_a_node_that_is_added_is_used_once_it_is_trusted_and_costs_no_request_of_its_own(nova):
    nova.say("unknown", "one", "two-a")
    nova.cloud.set_nodes("two", "two-a", "two-b", "two-c")
    asked = len(nova.backend.requests)
    assert nova.cloud.create_server(nova.trusted).refused
    assert len(nova.backend.requests) == asked + 1
    nova.say("trusted", "two-c")
    assert nova.cloud.create_server(nova.trusted).host == "two-c"


def test_a_node_that_is_removed_is_no_longer_used(nova):
    nova.cloud.set_nodes("two", "two-a", "two-b")
    nova.say("unknown", "one")
    assert nova.cloud.create_server(nova.trusted).host == "two-a"
    nova.cloud.delete_all()
    nova.cloud.set_nodes("two", "two-b")
    nova.backend.forget("two-a")
    assert nova.cloud.create_server(nova.trusted).refused
    nova.cloud.set_nodes("two", "two-a", "two-b")
    nova.say("trusted", "two-a")
    assert nova.cloud.create_server(nova.trusted).host == "two-a"


def test_a_forced_service_is_refused_as_long_as_one_of_its_nodes_is_not_trusted(nova):
    with nova.new_log() as lines:
        assert nova.cloud.create_server(nova.trusted, zone="nova:two").refused
    assert "forced host two is refused: node two-b is untrusted (pcr-mismatch)" in "\n".join(lines)
    nova.say("trusted", "two-b")
    assert nova.cloud.create_server(nova.trusted, zone="nova:two").status == "ACTIVE"


def test_a_forced_node_is_judged_by_itself(nova):
    assert nova.cloud.create_server(nova.trusted, zone="nova:two:two-a").host == "two-a"
    assert nova.cloud.create_server(nova.trusted, zone="nova:two:two-b").refused
