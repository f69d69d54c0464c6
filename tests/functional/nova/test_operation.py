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
"""Nova goes on whatever the backend or the operator does."""

import subprocess
import sys
import textwrap

from tests.functional.nova.conftest import BAD, GOOD, scene
from tests.lab.nova import COMPUTES, NovaCloud
from tests.lab.scripted_backend import cut, hang
from tests.lab.wait import wait_for


def test_E3_a_backend_that_hangs_stops_trusted_servers_and_no_others(tmp_path):
    with scene(tmp_path, deadline=1.0) as nova:
        nova.backend.fault = hang
        assert nova.cloud.create_server(nova.trusted).refused
        assert nova.cloud.create_server(nova.plain).status == "ACTIVE"
        assert nova.cloud.create_server(nova.trusted).refused
        assert len(nova.backend.requests) <= 2
        assert "backend-timeout" in nova.cloud.filter_log[0]


def test_E2_without_the_backend_trust_ends_with_the_lease_and_comes_back_by_itself(tmp_path):
    with scene(tmp_path) as nova:

        def boot():
            return nova.cloud.create_server(nova.trusted)

        nova.only_trusted(*GOOD)
        nova.backend.lease = 3.0
        assert boot().host in GOOD
        nova.backend.fault = cut
        wait_for(lambda: boot().refused, 60, "the lease to end")
        assert nova.cloud.create_server(nova.plain).status == "ACTIVE"
        nova.backend.fault = None
        wait_for(lambda: boot().host in GOOD, 60, "trust to come back")


def test_observing_refuses_nothing_and_says_what_would_be(tmp_path):
    with scene(tmp_path, enforcement="observe") as nova:
        nova.only_trusted(*GOOD)
        for host in COMPUTES:
            assert nova.cloud.create_server(nova.trusted, host=host).host == host
        lines = "\n".join(nova.cloud.filter_log)
        assert "nothing is refused, as enforcement = observe" in lines
        assert f"host {BAD[0]} would be refused: untrusted (pcr-mismatch)" in lines


def test_where_all_is_observed_an_aggregate_can_enforce(tmp_path):
    with scene(tmp_path, enforcement="observe") as nova:
        nova.only_trusted(*GOOD)
        nova.cloud.create_aggregate(BAD[0], GOOD[0], trust__enforcement="enforce")
        assert nova.cloud.create_server(nova.trusted, host=BAD[0]).refused
        for host in (*GOOD, BAD[1]):
            assert nova.cloud.create_server(nova.trusted, host=host).host == host
        assert f"host {BAD[0]} refused: untrusted" in "\n".join(nova.cloud.filter_log)


def test_a_filter_without_configuration_lets_nova_start_and_plain_servers_run():
    with NovaCloud({"attestation_server_ca_file": "/nowhere/ca.pem"}) as cloud:
        assert "neither endpoint nor attestation_server is set" in cloud.filter_log[0]
        assert cloud.create_server(cloud.create_flavor(trusted=False)).status == "ACTIVE"
        assert cloud.create_server(cloud.create_flavor(trusted=True)).refused


def test_the_cloud_is_usable_from_a_plain_script_and_leaves_nothing_behind():
    script = """
        import os, sys, threading

        hook = sys.excepthook
        from tests.lab.nova import NovaCloud

        for _ in range(2):
            with NovaCloud({"endpoint": "https://127.0.0.1:1"}, hosts=("one", "two")) as cloud:
                plain = cloud.create_server(cloud.create_flavor(trusted=False), host="two")
                trusted = cloud.create_server(cloud.create_flavor(trusted=True))
                print(plain.host, trusted.host, trusted.refused)
        print(threading.active_count(), sys.excepthook is hook)
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert (ran.stdout.splitlines(), ran.stderr) == (
        ["two None True", "two None True", "1 True"],
        "",
    )
