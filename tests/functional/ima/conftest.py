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
"""A backend, a software TPM and an operator for the IMA log."""

import pytest

from tests.functional.ima.parts import MeasuredHost, Operator
from tests.lab.backend import Backend
from tests.lab.swtpm import SoftwareTpm


@pytest.fixture(scope="session")
def tpm(tmp_path_factory):
    """One TPM."""
    folder = tmp_path_factory.mktemp("ima-tpm")
    with SoftwareTpm(folder / "tpm", folder / "ca") as software:
        yield software


@pytest.fixture(scope="module")
def backend(tmp_path_factory, tpm):
    """The service."""
    folder = tmp_path_factory.mktemp("ima-ek-ca")
    for path in tpm.ca_certificates:
        (folder / path.name).write_bytes(path.read_bytes())
    options = {
        ("attestation", "allow_software_tpm"): True,
        ("attestation", "ek_ca_dir"): str(folder),
    }
    with Backend(tmp_path_factory.mktemp("ima-backend"), options=options) as running:
        yield running


@pytest.fixture
def oat(backend):
    """The operator; nothing of his is left after the test."""
    made = Operator(backend)
    yield made
    made.clean()


@pytest.fixture
def host(backend, tpm, tmp_path, oat):
    """A host whose boot is known to be good; nobody has asked for its IMA log."""
    made = MeasuredHost(backend, tpm, tmp_path)
    agent = made.agent()
    assert agent.round().code == "host-pending"
    oat.approve(made)
    agent.round()
    oat.take(made, name="boot")
    made.run("/usr/bin/login", "/usr/sbin/sshd")
    return made


@pytest.fixture
def enforced(host, oat):
    """A host that is trusted with every file it has used, and the agent it runs."""
    oat.policy(mode="enforce", exclude=["/var/log/.*"])
    agent = host.agent()
    assert agent.round().code == "ima-unknown-file"
    oat.take(host, name="files", kind="ima")
    assert agent.round().level == "trusted"
    return host, agent
