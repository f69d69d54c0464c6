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
"""An agent with a TPM attests on while the authority of its backend is replaced."""

import contextlib
from dataclasses import replace

from oat_trusted_filter.agent.api import BackendApi
from oat_trusted_filter.agent.attester import Attester
from oat_trusted_filter.agent.first_contact import keep_authority
from oat_trusted_filter.client.http import AttestationClient
from tests.functional.backend.parts import ComputeHost, Operator


def test_an_agent_outlives_the_authority(backend_maker, allowing, tpms, tmp_path):
    backend = backend_maker(allowing)
    with backend:
        host = ComputeHost(backend, tpms[0])
        settings = replace(
            host.settings,
            ca_file=str(tmp_path / "agent-ca.pem"),
            ca_fingerprint=backend.manage("ca", "fingerprint").stdout.strip(),
        )
        keep_authority(settings)

        def attest():
            client = AttestationClient(settings.endpoint, cacert=settings.ca_file)
            with contextlib.closing(client):
                api = BackendApi(client, settings.region, settings.host)
                return Attester(settings, api).round()

        assert attest().code == "host-pending"
        operator = Operator(backend)
        (waiting,) = operator.hosts(host.name)
        host.fingerprint = waiting["ek_fingerprint"]
        operator.approve(host)
        assert attest().level == "untrusted"
        assert backend.manage("ca", "rotate").returncode == 0
        backend.restart()
        assert attest().level == "untrusted"
