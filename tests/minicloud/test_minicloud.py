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
"""The product in a real OpenStack: every service a process of its own, keystone before each."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from keystoneauth1.exceptions import BadRequest
from keystoneauth1.session import Session

from tests.lab.wait import wait_for
from tests.minicloud.world import SECONDS, TRUSTED, World
from tools.cloud.access import BOOTS, COMPUTES, GOOD, REGION
from tools.cloud.identity import admin_session, service_session
from tools.cloud.settings import FILTER_MODULE
from tools.cloud.tenant import Traits

pytestmark = [
    pytest.mark.minicloud,
    # The first one brings the cloud up; on a machine that does other things it takes its time.
    pytest.mark.timeout(600),
]

FIRST, SECOND = GOOD
TAMPERED = "compute-3"
WITHOUT_TPM = "compute-4"


def test_nova_is_the_release_that_was_asked_for(world: World) -> None:
    assert f"version {world.access.nova}" in world.log("nova-scheduler")


def test_the_backend_knows_operators_by_their_keystone_tokens(world: World) -> None:
    access = world.access

    def ask(session: Session, **headers: str) -> int:
        answer = session.get(
            f"{access.endpoint}/v1/hosts",
            headers=headers,
            verify=str(access.cacert),
            raise_exc=False,
        )
        return int(answer.status_code)

    assert ask(admin_session(access.auth_url, access.password)) == 200
    assert ask(service_session(access.auth_url, "glance", access.password)) == 403
    assert ask(Session()) == 401
    assert ask(Session(), **{"X-Auth-Token": "of-nobody"}) == 401


def test_openstackclient_finds_the_backend_in_the_catalogue(world: World, tmp_path: Path) -> None:
    access = world.access

    def run(user: str, project: str, *argv: str) -> subprocess.CompletedProcess[str]:
        cloud = {
            "AUTH_URL": access.auth_url, "USERNAME": user, "PASSWORD": access.password,
            "PROJECT_NAME": project, "USER_DOMAIN_NAME": "Default",
            "PROJECT_DOMAIN_NAME": "Default", "IDENTITY_API_VERSION": "3", "REGION_NAME": REGION,
            "CACERT": str(access.cacert),
        }  # fmt: skip
        return subprocess.run(
            [Path(sys.executable).with_name("openstack"), "trust", *argv],
            check=False,
            cwd=tmp_path,
            env={**os.environ, **{f"OS_{name}": value for name, value in cloud.items()}},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )

    listed = run("admin", "admin", "host", "list", "-f", "json")
    assert listed.returncode == 0, listed.stderr
    assert {host["host"] for host in json.loads(listed.stdout)} == set(BOOTS)
    # Nova of the same catalogue: one hypervisor has no agent.
    compared = run("admin", "admin", "host", "compare-nova", "-f", "json")
    assert {row["host"] for row in json.loads(compared.stdout)} == {WITHOUT_TPM}, compared.stderr
    refused = run("glance", "service", "host", "list")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("role-insufficient: "), refused.stderr


def test_a_plain_server_runs_on_any_host(world: World) -> None:
    for host in COMPUTES:
        server = world.boot("plain", host=host)
        assert (server.status, server.host) == ("ACTIVE", host), server


def test_a_trusted_server_runs_on_a_trusted_host_only(world: World) -> None:
    world.wait_for_trait_on(GOOD)
    for host in COMPUTES:
        server = world.boot("trusted", host=host)
        assert server.host == (host if host in GOOD else None), server
        assert server.refused == (host not in GOOD), server
    assert world.boot("trusted").host in GOOD


def test_both_workers_of_the_scheduler_decide(world: World) -> None:
    """The filter is made before the fork, and works in either process after it."""

    def both() -> bool:
        assert world.boot("trusted").host in GOOD
        return len(_deciders(world.log("nova-scheduler"))) == 2

    wait_for(both, SECONDS, "a decision of either worker")


def test_a_forced_host_is_refused_by_the_request_filter(world: World) -> None:
    """Nova does not ask its filters about the host of ``nova:HOST``."""
    server = world.boot("trusted", zone=f"nova:{FIRST}")
    assert server.host == FIRST, server
    for host in (TAMPERED, WITHOUT_TPM):
        assert world.boot("trusted", zone=f"nova:{host}").refused
    assert world.boot("plain", zone=f"nova:{TAMPERED}").host == TAMPERED


def test_nova_api_takes_no_flavor_that_asks_for_nonsense(world: World) -> None:
    with pytest.raises(BadRequest) as refusal:
        world.tenant.create_flavor("nonsense", {"trust:trusted_host": "perhaps"})
    assert "is not one of: trusted, untrusted" in refusal.value.response.text


def test_E2_a_host_whose_agent_was_killed_is_avoided(world: World) -> None:
    world.cloud.kill_agent(SECOND)
    try:
        world.wait_for_level(SECOND, "unknown")
        assert world.boot("trusted").host == FIRST
        assert world.boot("trusted", host=SECOND).refused
        assert world.boot("plain", host=SECOND).host == SECOND
        world.wait_for_trait_on([FIRST])
    finally:
        world.cloud.start_agent(SECOND)
    world.wait_for_trait_on(GOOD)
    assert world.boot("trusted", host=SECOND).host == SECOND


def test_E5_a_host_that_boots_something_else_is_avoided(world: World) -> None:
    world.cloud.boot_host(FIRST, BOOTS[TAMPERED])
    try:
        world.wait_for_level(FIRST, "untrusted")
        assert world.boot("trusted").host == SECOND
        assert world.boot("trusted", host=FIRST).refused
        assert world.boot("plain", host=FIRST).host == FIRST
        world.wait_for_trait_on([SECOND])
    finally:
        world.cloud.boot_host(FIRST, BOOTS[FIRST])
    world.wait_for_trait_on(GOOD)
    assert world.boot("trusted", host=FIRST).host == FIRST


@pytest.mark.parametrize("host", [TAMPERED, WITHOUT_TPM])
def test_E13_a_trait_set_by_a_compute_host_is_no_proof(world: World, host: str) -> None:
    """The credentials of nova-compute may set any trait. The filter does not care, and the
    enforcer takes it away and says so."""
    world.wait_for_trait_on(GOOD)
    intruder = Traits(service_session(world.access.auth_url, "nova", world.access.password))
    world.cloud.stop_enforcer()
    seen = len(world.log("oat-enforcer"))
    try:
        intruder.add(host, TRUSTED)
        assert host in world.tenant.hosts_with(TRUSTED)
        assert world.boot("trusted", host=host).refused
        assert world.boot("trusted").host in GOOD
    finally:
        world.cloud.start_enforcer()
    world.wait_for_trait_on(GOOD)
    incident = rf"incident trait-not-ours: {TRUSTED} on resource provider \S+ \('{host}'\)"
    assert re.search(incident, world.log("oat-enforcer")[seen:])
    wait_for(world.incidents, SECONDS, "the incident to be known to the backend")


def test_E2_E3_a_silent_backend_lapses_everything_until_it_is_back(world: World) -> None:
    world.wait_for_trait_on(GOOD)
    world.cloud.stop_backend()
    try:
        wait_for(lambda: world.boot("trusted").refused, SECONDS, "the end of the lease")
        assert world.boot("trusted", host=FIRST).refused
        assert world.boot("plain").status == "ACTIVE"
        world.wait_for_trait_on([])
    finally:
        world.cloud.start_backend()
    world.wait_for_trait_on(GOOD)
    wait_for(lambda: world.boot("trusted").host in GOOD, SECONDS, "trusted servers to run again")


def _deciders(log: str) -> set[str]:
    """The processes in whose names the filter spoke in nova-scheduler's log."""
    spoken = rf"^\S+ \S+ (\d+) [A-Z]+ {re.escape(FILTER_MODULE)} "
    return set(re.findall(spoken, log, re.MULTILINE))
