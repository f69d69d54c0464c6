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
"""From ``oat tag assign`` to the trait: a real backend, a host with a software TPM, placement."""

import datetime
import json
import os
import subprocess
import sys

import pytest

from oat_trusted_filter.client.http import AttestationClient
from oat_trusted_filter.scheduler.extra_specs import read_demand
from oat_trusted_filter.scheduler.snapshot import View, apply_reply
from oat_trusted_filter.traits import TRUSTED, tag_trait
from tests.functional.backend.parts import ComputeHost, Operator
from tests.functional.enforcer.bench import Bench
from tests.lab.backend import Backend
from tests.lab.swtpm import SoftwareTpm
from tests.lab.wait import wait_for


@pytest.fixture(scope="module")
def software(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tpm")
    with SoftwareTpm(folder / "tpm", folder / "ca") as made:
        yield made


@pytest.fixture(scope="module")
def backend(tmp_path_factory, software):
    authorities = tmp_path_factory.mktemp("ek-ca")
    for path in software.ca_certificates:
        (authorities / path.name).write_bytes(path.read_bytes())
    options = {
        ("attestation", "allow_software_tpm"): True,
        ("attestation", "ek_ca_dir"): str(authorities),
    }
    with Backend(tmp_path_factory.mktemp("backend"), options) as running:
        running.token_file = running.state_dir / "scheduler.token"
        yield running


@pytest.fixture
def host(backend, software):
    """A trusted host."""
    operator, made = Operator(backend), ComputeHost(backend, software, "compute-1")
    made.enrol()
    operator.approve(made)
    made.round()
    operator.trust(made)
    assert made.round().level == "trusted"
    return made


@pytest.fixture
def bench(placement, front, backend):
    made = Bench(placement, front, backend)
    made.start()
    yield made
    made.stop()


def oat(backend, *words):
    """Run ``oat``; what it prints for programs."""
    environment = {
        **os.environ,
        "OAT_ENDPOINT": backend.endpoint,
        "OAT_TOKEN": backend.admin_token,
        "OAT_CACERT": str(backend.cacert),
    }
    command = [sys.executable, "-m", "oat_trusted_filter.cmd.oat", *words]
    ran = subprocess.run(
        command, check=False, env=environment, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout) if "-f" in words else ran.stdout


def passes(backend, **extra_specs):
    """Whether the scheduler would take the host for a flavor with these tags."""
    demand = read_demand({f"trust:asset_tag:{k}": v for k, v in extra_specs.items()})
    client = AttestationClient(
        backend.endpoint, token=backend.scheduler_token, cacert=str(backend.cacert)
    )
    reply = client.get_verdicts()
    client.close()
    view = View(apply_reply(None, reply, "", 60.0), reply.sent_at, None)
    return "compute-1" in view.trusted_with(demand.tags)


def test_tags_that_are_assigned_become_traits_and_leave_with_their_end(backend, host, bench):
    provider = bench.placement.add("compute-1")
    bench.turn()
    assert bench.placement.traits(provider) == {TRUSTED}
    assert not passes(backend, zone="eu-1")

    operator = Operator(backend)
    oat(backend, "tag", "create", "zone", "eu-1", "us-1")
    operator.call("POST", "/v1/tags", {"name": "rack", "values": ["7"]})
    shown = oat(backend, "tag", "assign", "compute-1", "zone=eu-1", "rack=7", "-f", "json")
    assert shown["tags"] == {"rack": "7", "zone": "eu-1"}
    bench.turn()
    both = {tag_trait("zone", "eu-1"), tag_trait("rack", "7")}
    assert bench.placement.traits(provider) == {TRUSTED, *both}
    assert passes(backend, zone="us-1,eu-1", rack="7")
    assert not passes(backend, zone="us-1")
    assert "rack=7, zone=eu-1" in oat(backend, "verdict", "list")

    end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=5)
    body = {"tags": {"zone": "us-1"}, "valid_until": end.isoformat(timespec="seconds")}
    operator.call("PUT", "/v1/hosts/compute-1/tags", body)
    # They end by themselves, and nobody attests meanwhile.
    wait_for(lambda: not passes(backend, zone="us-1"), 20.0, "the tags to end")
    bench.turn()
    assert bench.placement.traits(provider) == {TRUSTED}

    operator.call("PUT", "/v1/hosts/compute-1/tags", {"tags": {"zone": "eu-1"}})
    bench.turn()
    assert bench.placement.traits(provider) == {TRUSTED, tag_trait("zone", "eu-1")}
    oat(backend, "tag", "revoke", "compute-1")
    bench.turn()
    assert bench.placement.traits(provider) == {TRUSTED}
