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
"""Where Nova puts a new server."""

from tests.functional.nova.conftest import BAD, GOOD
from tests.lab.nova import COMPUTES


def test_trusted_servers_land_on_trusted_hosts_only(nova):
    servers = [nova.cloud.create_server(nova.trusted) for _ in range(5)]
    assert {server.status for server in servers} == {"ACTIVE"}
    assert {server.host for server in servers} <= set(GOOD)


def test_plain_servers_land_anywhere_and_nobody_is_asked(nova):
    requests = len(nova.backend.requests)
    for host in COMPUTES:
        assert nova.cloud.create_server(nova.plain, host=host).host == host
    with nova.new_log() as lines:
        assert nova.cloud.create_server(nova.plain).status == "ACTIVE"
    assert lines == []
    assert len(nova.backend.requests) == requests


def test_a_boot_is_one_request_at_most(nova):
    requests = len(nova.backend.requests)
    nova.cloud.create_server(nova.trusted)
    assert len(nova.backend.requests) == requests + 1


def test_without_a_trusted_host_there_is_no_valid_host_and_the_log_says_why(nova):
    nova.say("untrusted", *GOOD, reason="secure-boot-off")
    nova.say("unknown", BAD[0], reason="verdict-lapsed")
    with nova.new_log() as lines:
        server = nova.cloud.create_server(nova.trusted)
    assert server.refused
    assert server.host is None
    assert lines[0] == (
        f"INFO server {server.id} of flavor {server_flavor(nova)}: 0 of 4 hosts pass; "
        "1 unknown (verdict-lapsed), 3 untrusted (2 secure-boot-off, 1 pcr-mismatch)"
    )
    assert sorted(line.rpartition("host ")[2] for line in lines[1:]) == [
        "compute-1 refused: untrusted (secure-boot-off)",
        "compute-2 refused: unknown (verdict-lapsed)",
        "compute-3 refused: untrusted (secure-boot-off)",
        "compute-4 refused: untrusted (pcr-mismatch)",
    ]


def server_flavor(nova):
    return nova.cloud.api.get_flavor(nova.trusted)["name"]


def test_a_host_nobody_enrolled_is_not_trusted(nova):
    for host in GOOD:
        nova.backend.forget(host)
    assert nova.cloud.create_server(nova.trusted).refused


def test_E5_a_flip_is_honoured_by_the_next_boot(nova):
    assert nova.cloud.create_server(nova.trusted, host=GOOD[0]).host == GOOD[0]
    nova.say("untrusted", GOOD[0], reason="pcr-mismatch")
    assert nova.cloud.create_server(nova.trusted).host == GOOD[1]
    assert nova.cloud.create_server(nova.trusted, host=GOOD[0]).refused
    nova.say("trusted", GOOD[0])
    assert nova.cloud.create_server(nova.trusted, host=GOOD[0]).host == GOOD[0]


def test_asking_for_a_host_by_name_does_not_go_round_the_filter(nova):
    assert nova.cloud.create_server(nova.trusted, host=BAD[0]).refused


def test_a_zone_with_a_host_goes_round_all_filters_as_the_documentation_says(nova):
    requests = len(nova.backend.requests)
    assert nova.cloud.create_server(nova.trusted, zone=f"nova:{BAD[0]}").host == BAD[0]
    assert len(nova.backend.requests) == requests


def test_E6_a_flavor_nobody_understands_finds_no_host(nova):
    nova.say("trusted", *COMPUTES)
    for value in ("Trusted", "trusted ", "yes"):
        flavor = nova.cloud.create_flavor(trusted=False, version="2.85", trust__trusted_host=value)
        with nova.new_log() as lines:
            assert nova.cloud.create_server(flavor).refused
        assert f"trust:trusted_host={value!r}" in lines[0]


def test_an_untrusted_flavor_gets_hosts_known_to_be_that(nova):
    nova.say("unknown", BAD[1])
    flavor = nova.cloud.create_flavor(trusted=False, trust__trusted_host="untrusted")
    assert nova.cloud.create_server(flavor).host == BAD[0]
