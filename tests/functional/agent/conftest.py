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
