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
"""TPMs for the tests of the agent."""

import pytest

from tests.functional.agent.hosts import Host, Operator
from tests.lab.backend import Backend
from tests.lab.swtpm import SoftwareTpm


@pytest.fixture(scope="session")
def ca_dir(tmp_path_factory):
    """The authority that signs the EK certificates of all TPMs of this session."""
    return tmp_path_factory.mktemp("tpm-ca")


@pytest.fixture
def tpm_maker(tmp_path_factory, ca_dir):
    """Makes started TPMs, each with an identity of its own, and stops them."""
    made = []

    def make(name="host"):
        software = SoftwareTpm(tmp_path_factory.mktemp(name) / name, ca_dir)
        made.append(software)
        software.create()
        software.start()
        return software

    yield make
    for software in made:
        software.stop()


@pytest.fixture(scope="module")
def shared_tpm(tmp_path_factory, ca_dir):
    """One TPM for the tests of a module that do not change it."""
    with SoftwareTpm(tmp_path_factory.mktemp("shared") / "shared", ca_dir) as software:
        yield software


@pytest.fixture(scope="module")
def ek_authority(tmp_path_factory, ca_dir):
    """The authority's certificates, which exist once it has signed for a first TPM."""
    first = SoftwareTpm(tmp_path_factory.mktemp("first") / "first", ca_dir)
    first.create()
    folder = tmp_path_factory.mktemp("ek-ca")
    for path in first.ca_certificates:
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.fixture(scope="module")
def backend(tmp_path_factory, ek_authority):
    """A backend that takes the certificates of this session's software TPMs."""
    running = Backend(
        tmp_path_factory.mktemp("backend"),
        options={
            ("attestation", "allow_software_tpm"): True,
            ("attestation", "ek_ca_dir"): str(ek_authority),
            ("attestation", "interval"): 1,
        },
    )
    running.start()
    yield running
    running.stop()


@pytest.fixture
def operator(backend):
    return Operator(backend)


@pytest.fixture
def host_maker(tpm_maker, backend):
    """Makes booted hosts."""

    def make(boot="machine-a", **options):
        host = Host(tpm_maker(), backend, **options)
        host.boot(boot)
        return host

    return make
