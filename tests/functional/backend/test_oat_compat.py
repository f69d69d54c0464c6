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
"""The interface of OpenAttestation over real HTTPS."""

import json
import shutil
import subprocess

import pytest
from oslo_config import cfg

from oat_trusted_filter.client.drivers.pollhosts import PollHostsDriver
from oat_trusted_filter.conf import trusted_computing
from tests.functional.backend.parts import ComputeHost
from tests.lab.backend import Backend

ROOTS = ("/OpenAttestationWebServices/V1.0", "/AttestationService/resources")


@pytest.fixture(scope="module")
def backend(tmp_path_factory, allowing):
    """A service that serves it, and knows its clients by their token."""
    options = allowing | {("oat_compat", "enabled"): True}
    with Backend(tmp_path_factory.mktemp("backend"), options=options) as running:
        yield running


@pytest.mark.parametrize("root", ROOTS)
def test_our_own_driver_for_openattestation(backend, trusted, tpms, operator, tmp_path, root):
    other = ComputeHost(backend, tpms[1], boot="machine-a-loader")
    other.enrol()
    operator.approve(other)
    assert other.round().level == "untrusted"
    path = tmp_path / "nova.conf"
    path.write_text(
        "[trusted_computing]\ndriver = pollhosts\nattestation_server = 127.0.0.1\n"
        f"attestation_port = {backend.port}\nattestation_api_url = {root}\n"
        f"attestation_server_ca_file = {backend.cacert}\n"
        f"attestation_auth_blob = {backend.scheduler_token}\n"
    )
    conf = cfg.ConfigOpts()
    trusted_computing.register_opts(conf)
    conf([], default_config_files=[str(path)], default_config_dirs=[])
    driver = PollHostsDriver.from_conf(conf)
    names = {trusted.name, other.name, "nobody"}
    reply = driver.get_verdicts(None, None, names=names, timeout=10.0)
    driver.close()
    assert {record.host: record.level for record in reply.hosts} == {
        trusted.name: "trusted", other.name: "untrusted", "nobody": "unknown",
    }  # fmt: skip
    assert reply.lapsing == ()


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl_as_commandtool_calls_it(backend, trusted):
    ran = subprocess.run(
        [
            "curl", "-s", "-S", "--cacert", str(backend.cacert), "-X", "POST",
            "-H", "Content-Type: application/json", "-H", "Accept: application/json",
            "-H", f"x-auth-blob: {backend.scheduler_token}",
            "-d", json.dumps({"hosts": [trusted.name]}),
            f"{backend.endpoint}{ROOTS[1]}/PollHosts",
        ],
        check=True, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    (host,) = json.loads(ran.stdout)["hosts"]
    assert (host["host_name"], host["trust_lvl"]) == (trusted.name, "trusted")
