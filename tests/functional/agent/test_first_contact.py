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
"""How the authority of a backend reaches agents, and how it is replaced under their feet."""

import contextlib
import shutil

import pytest

from oat_trusted_filter.agent.errors import AgentError
from oat_trusted_filter.agent.first_contact import keep_authority
from oat_trusted_filter.client.http import AttestationClient, BackendUnreachable
from tests.lab.backend import Backend


@pytest.fixture(scope="module")
def backend(tmp_path_factory):
    with Backend(tmp_path_factory.mktemp("authority")) as running:
        yield running


def managed(backend, *words):
    ran = backend.manage(*words)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


class Agent:
    """What an agent knows of the backend."""

    def __init__(self, backend, folder, fingerprint=""):
        self.endpoint, self.timeout = backend.endpoint, 10.0
        self.ca_file = str(folder / "agent-ca.pem")
        self.ca_fingerprint = fingerprint

    def reaches(self):
        """Whether TLS vouches for the backend."""
        client = AttestationClient(self.endpoint, cacert=self.ca_file)
        with contextlib.closing(client):
            return client.request("GET", "/healthz")[0] == 200


def test_a_pinned_authority_is_fetched_and_kept(backend, tmp_path):
    agent = Agent(backend, tmp_path, managed(backend, "ca", "fingerprint"))
    keep_authority(agent)
    assert agent.reaches()
    agent.ca_fingerprint = "0" * 64
    keep_authority(agent)
    assert agent.reaches()


def test_an_authority_with_another_fingerprint_is_not_kept(backend, tmp_path):
    agent = Agent(backend, tmp_path, "0" * 64)
    with pytest.raises(AgentError) as caught:
        keep_authority(agent)
    assert caught.value.code == "ca-fingerprint-mismatch"
    assert list(tmp_path.iterdir()) == []


def test_somebody_in_between_who_hands_on_the_right_certificate_gains_nothing(backend, tmp_path):
    """He has no key for it, so the next connection fails."""
    other = Backend(tmp_path / "other")
    with other:
        shutil.copy(backend.cacert, other.cacert)
        agent = Agent(other, tmp_path, managed(backend, "ca", "fingerprint"))
        keep_authority(agent)
        with pytest.raises(BackendUnreachable) as caught:
            agent.reaches()
    assert caught.value.code == "tls-certificate"


def served_chain(backend):
    return (backend.state_dir / "server.pem").read_text().count("BEGIN CERTIFICATE")


def test_an_authority_is_replaced_and_nobody_notices(tmp_path):
    with Backend(tmp_path / "own") as backend:
        first = Agent(backend, tmp_path, managed(backend, "ca", "fingerprint"))
        keep_authority(first)
        managed(backend, "ca", "rotate")
        assert served_chain(backend) == 2
        backend.restart()
        second = Agent(backend, backend.folder, managed(backend, "ca", "fingerprint"))
        assert second.ca_fingerprint != first.ca_fingerprint
        keep_authority(second)
        assert first.reaches()
        assert second.reaches()
        # An agent that comes late with the old fingerprint still finds its authority.
        late = Agent(backend, backend.state_dir, first.ca_fingerprint)
        keep_authority(late)
        assert late.reaches()
        assert backend.manage("ca", "rotate").returncode == 1
        managed(backend, "init", "--host", "attest.example.org")
        assert served_chain(backend) == 2
        managed(backend, "ca", "retire")
        assert served_chain(backend) == 1
        backend.restart()
        assert second.reaches()
        with pytest.raises(BackendUnreachable):
            first.reaches()


def test_a_backend_that_is_not_there(tmp_path):
    backend = Backend(tmp_path / "none")
    with pytest.raises(BackendUnreachable):
        keep_authority(Agent(backend, tmp_path, "0" * 64))
