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
"""The real service over HTTPS, for hosts that attest with a key outside of any TPM.

What no TPM would sign has to be signed by something else. Such a key cannot enrol, so its host is
put into the database of the service as if it had.
"""

import json
from dataclasses import dataclass

from oat_trusted_filter.backend.store import hosts
from oat_trusted_filter.backend.store.engine import Store
from tests.functional.backend.parts import Http
from tests.unit.backend.attesting import AttestingHost
from tests.unit.backend.conftest import START, candidate_of


@dataclass(frozen=True)
class Reply:
    """An answer."""

    status_code: int
    text: str

    @property
    def json(self):
        """The decoded body."""
        return json.loads(self.text)


class Wire:
    """Where the hosts attest."""

    def __init__(self, backend):
        self._http = Http(backend)
        self.token = backend.admin_token
        self.store = Store(f"sqlite:///{backend.state_dir / 'oat.sqlite'}")

    def call(self, method, path, body=None, token=None):
        """The answer to a request."""
        answer = self._http.call(method, path, body, token=token)
        return Reply(answer.status, answer.body.decode())

    def operate(self, method, path, body=None):
        """What an administrator does, which has to succeed."""
        answer = self.call(method, path, body, self.token)
        assert answer.status_code < 300, answer.text
        return answer.json if answer.text else None

    def show(self, host):
        """All about a host."""
        return self.operate("GET", f"/v1/hosts/{host.name}")

    def trust(self, *machines, **fields):
        """Take the boots of these hosts as good."""
        body = {"name": f"of-{machines[0].name}", "from_hosts": [host.name for host in machines]}
        self.operate("POST", "/v1/reference-sets", {**body, **fields})

    def approved_host(self, name, boot="machine-a"):
        """A host that is approved and has not attested."""
        host = AttestingHost(self, name, boot)
        candidate = candidate_of(host)

        def work(connection):
            return hosts.approve(connection, hosts.enrol(connection, candidate, START))

        host.binding = self.store.write(work)
        return host
