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
"""A scripted backend and clients of it."""

import pytest

from oat_trusted_filter.client.http import AttestationClient
from tests.lab.scripted_backend import ScriptedBackend


@pytest.fixture
def backend(tmp_path):
    with ScriptedBackend(tmp_path) as scripted:
        yield scripted


@pytest.fixture
def make_client(backend):
    """Make a client of the backend that may do what it asks for."""
    clients = []

    def make(**options):
        options = {
            "token": backend.token,
            "cacert": backend.cacert,
            "timeout": 10.0,
            **options,
        }
        endpoint = options.pop("endpoint", backend.endpoint)
        clients.append(AttestationClient(endpoint, **options))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def client(make_client):
    return make_client()
