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
"""Forced hosts, which no filter sees, go through the request filter if the operator wants that."""

import pytest
from nova.scheduler import request_filter as nova_request_filter

from oat_trusted_filter.scheduler.request_filter import RequestFilter
from tests.functional.nova.conftest import BAD, GOOD, scene
from tests.lab.scripted_backend import cut


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with scene(tmp_path_factory.mktemp("forced"), request_filter=True) as found:
        yield found


def test_E5_old_filter_a_zone_with_a_host_bypasses_it(nova):
    with nova.new_log() as lines:
        server = nova.cloud.create_server(nova.trusted, zone=f"nova:{BAD[0]}")
    assert server.refused
    assert (
        f"WARNING server {server.id} of flavor trusted-2: forced host {BAD[0]} is refused: "
        f"node {BAD[0]} is untrusted (pcr-mismatch)"
    ) in lines
    assert "not as the flavor asks for in trust" in server.fault


def test_E5_a_zone_with_a_node_alone_bypasses_the_filter_as_well(nova):
    with nova.new_log() as lines:
        server = nova.cloud.create_server(nova.trusted, zone=f"nova::{BAD[0]}")
    assert server.refused
    assert f"forced host {BAD[0]} is refused: node {BAD[0]} is untrusted" in "\n".join(lines)
    assert nova.cloud.create_server(nova.trusted, zone=f"nova::{GOOD[0]}").host == GOOD[0]


def test_a_zone_with_a_trusted_host_is_let_through(nova):
    assert nova.cloud.create_server(nova.trusted, zone=f"nova:{GOOD[0]}").host == GOOD[0]


def test_a_plain_flavor_may_be_forced_anywhere_and_nobody_is_asked(nova):
    asked = len(nova.backend.requests)
    assert nova.cloud.create_server(nova.plain, zone=f"nova:{BAD[0]}").host == BAD[0]
    assert len(nova.backend.requests) == asked


def test_a_request_without_a_forced_host_is_for_the_filter(nova):
    asked = len(nova.backend.requests)
    assert nova.cloud.create_server(nova.trusted).host in GOOD
    assert len(nova.backend.requests) == asked + 1


def test_E6_a_flavor_nobody_understands_may_not_be_forced_anywhere(nova):
    flavor = nova.cloud.create_flavor(trusted=False, version="2.85", trust__trusted_host="yes")
    assert nova.cloud.create_server(flavor, zone=f"nova:{GOOD[0]}").refused


def test_tags_count_for_forced_hosts_as_well(nova):
    flavor = nova.cloud.create_flavor(trusted=True, trust__asset_tag__zone="eu-1")
    assert nova.cloud.create_server(flavor, zone=f"nova:{GOOD[0]}").refused
    nova.backend.say("trusted", GOOD[0], tags={"zone": "eu-1"})
    assert nova.cloud.create_server(flavor, zone=f"nova:{GOOD[0]}").host == GOOD[0]


def test_E3_without_verdicts_a_forced_host_is_refused(nova):
    nova.backend.lease = 0.0
    nova.cloud.create_server(nova.trusted)
    nova.backend.fault = cut
    try:
        assert nova.cloud.create_server(nova.trusted, zone=f"nova:{GOOD[0]}").refused
        assert nova.cloud.create_server(nova.plain, zone=f"nova:{GOOD[0]}").host == GOOD[0]
    finally:
        nova.backend.fault, nova.backend.lease = None, 30.0


def test_an_aggregate_that_observes_lets_forced_hosts_through_and_says_so(nova):
    aggregate = nova.cloud.create_aggregate(BAD[0], trust__enforcement="observe")
    try:
        with nova.new_log() as lines:
            assert nova.cloud.create_server(nova.trusted, zone=f"nova:{BAD[0]}").host == BAD[0]
        assert f"forced host {BAD[0]} would be refused: " in "\n".join(lines)
        assert nova.cloud.create_server(nova.trusted, zone=f"nova:{BAD[1]}").refused
    finally:
        nova.cloud.delete_aggregate(aggregate, BAD[0])


def test_a_server_that_was_forced_once_moves_as_any_other(nova):
    server = nova.cloud.create_server(nova.trusted, zone=f"nova:{GOOD[0]}")
    assert nova.cloud.migrate(server).host == GOOD[1]


def test_one_filter_is_asked_however_often_it_is_installed(nova):
    ours = [f for f in nova_request_filter.ALL_REQUEST_FILTERS if isinstance(f, RequestFilter)]
    assert len(ours) == 1


@pytest.mark.parametrize("gone", ["ALL_REQUEST_FILTERS", "process_reqspec"])
def test_on_a_nova_without_the_hook_the_scheduler_refuses_to_start(shared, monkeypatch, gone):
    from oat_trusted_filter.scheduler.trusted_filter import TrustedFilter

    monkeypatch.delattr(nova_request_filter, gone)
    with pytest.raises(SystemExit) as caught:
        TrustedFilter()
    assert str(caught.value) == (
        "nova-scheduler: [trusted_computing] request_filter cannot be used: "
        "nova.scheduler.request_filter has no ALL_REQUEST_FILTERS and process_reqspec; "
        "remove the option, or use a supported release of Nova"
    )


def test_on_a_nova_that_asks_elsewhere_the_scheduler_refuses_to_start(shared, monkeypatch):
    from oat_trusted_filter.scheduler.trusted_filter import TrustedFilter

    monkeypatch.setattr(nova_request_filter, "process_reqspec", lambda ctxt, spec: None)
    with pytest.raises(SystemExit, match="process_reqspec does not use ALL_REQUEST_FILTERS"):
        TrustedFilter()
