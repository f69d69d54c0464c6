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
"""A backend for all tests of a module, and hosts."""

import shutil

import pytest

from tests.functional.backend.parts import ComputeHost, Http, Operator
from tests.lab.backend import Backend
from tests.lab.swtpm import SoftwareTpm


@pytest.fixture(scope="session")
def ca_dir(tmp_path_factory):
    """The authority that signs the EK certificates of the software TPMs."""
    return tmp_path_factory.mktemp("tpm-ca")


@pytest.fixture(scope="session")
def tpms(tmp_path_factory, ca_dir):
    """Three software TPMs, each of its own identity."""
    made = [SoftwareTpm(tmp_path_factory.mktemp("tpm") / f"tpm-{n}", ca_dir) for n in range(3)]
    for software in made:
        software.create()
        software.start()
    yield made
    for software in made:
        software.stop()


@pytest.fixture(scope="session")
def ek_authority(tmp_path_factory, tpms):
    """The folder with that authority's certificates."""
    folder = tmp_path_factory.mktemp("ek-ca")
    for path in tpms[0].ca_certificates:
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.fixture(scope="session")
def allowing(ek_authority):
    """Options of a backend that takes the software TPMs of these tests."""
    return {
        ("attestation", "allow_software_tpm"): True,
        ("attestation", "ek_ca_dir"): str(ek_authority),
    }


@pytest.fixture(scope="module")
def backend(tmp_path_factory, allowing):
    """The service."""
    with Backend(tmp_path_factory.mktemp("backend"), options=allowing) as running:
        yield running


@pytest.fixture
def http(backend):
    """Plain HTTPS."""
    return Http(backend)


@pytest.fixture
def operator(backend):
    """An administrator, whose reference sets are gone after the test."""
    made = Operator(backend)
    yield made
    made.forget()


@pytest.fixture
def host(backend, tpms):
    """A booted host nobody knows yet."""
    return ComputeHost(backend, tpms[0])


@pytest.fixture
def approved(host, operator):
    """A host that is approved and has attested."""
    assert host.enrol() == "pending"
    operator.approve(host)
    assert host.round().level == "untrusted"
    return host


@pytest.fixture
def trusted(approved, operator):
    """A trusted host."""
    operator.trust(approved)
    assert approved.round().level == "trusted"
    return approved


@pytest.fixture(scope="session")
def initialised(tmp_path_factory):
    """A state folder for copies: making one takes as long as ten copies."""
    made = Backend(tmp_path_factory.mktemp("initialised"))
    made.init()
    return made


@pytest.fixture
def backend_maker(tmp_path, initialised):
    """Makes one backend that could start, of its own, with these options."""

    def make(options=None):
        made = Backend(tmp_path / "own", options)
        shutil.copytree(initialised.state_dir, made.state_dir)
        made.write_config()
        return made

    return make
