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
"""Clients of the service: plain HTTPS, and compute hosts made of the agent's own modules."""

import base64
import contextlib
import hashlib
import http.client
import itertools
import json
import ssl
from dataclasses import dataclass

from oat_trusted_filter.agent.api import BackendApi
from oat_trusted_filter.agent.attestation_key import attestation_key
from oat_trusted_filter.agent.attester import Attester
from oat_trusted_filter.agent.endorsement import activate, endorsement_key
from oat_trusted_filter.agent.enrolment import open_tpm
from oat_trusted_filter.agent.evidence import read_boot_log, sign_pcrs
from oat_trusted_filter.agent.settings import Settings
from oat_trusted_filter.client.http import AttestationClient
from tests.lab.boots import Boot, power_on

_numbers = itertools.count(1)


def b64(data):
    """Base64 as it is on the wire."""
    return base64.b64encode(data).decode()


@dataclass(frozen=True)
class Answer:
    """An answer, whatever its status."""

    status: int
    headers: dict
    body: bytes

    @property
    def json(self):
        """The decoded body."""
        return json.loads(self.body)

    @property
    def code(self):
        """The code of a problem."""
        return self.json["code"]


class Http:
    """Plain HTTPS to the service, one connection a request."""

    def __init__(self, backend):
        self.backend = backend
        self.context = ssl.create_default_context(cafile=str(backend.cacert))

    def connect(self, timeout=30.0):
        """A connection."""
        return http.client.HTTPSConnection(
            "127.0.0.1", self.backend.port, context=self.context, timeout=timeout
        )

    def send(self, method, path, body=None, headers=None, timeout=30.0):
        """Send these bytes."""
        connection = self.connect(timeout)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            headers = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, headers, answer.read())

    def call(self, method, path, body=None, token=None, **headers):
        """Send this as JSON."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        return self.send(method, path, data, headers)


class Operator:
    """An administrator: every call has to succeed."""

    def __init__(self, backend):
        self.http = Http(backend)
        self.backend = backend
        self._sets = []

    def call(self, method, path, body=None):
        """The decoded answer."""
        answer = self.http.call(method, path, body, token=self.backend.admin_token)
        assert answer.status < 300, answer.body
        return answer.json if answer.body else None

    def hosts(self, name):
        """The bindings of a name."""
        found = self.call("GET", "/v1/hosts")["hosts"]
        return [host for host in found if host["host"] == name]

    def show(self, name):
        """One host."""
        return self.call("GET", f"/v1/hosts/{name}")

    def approve(self, host):
        """Approve a host by the key in its TPM."""
        self.free(host)
        body = {"ek_fingerprint": host.fingerprint}
        return self.call("POST", f"/v1/hosts/{host.name}/approve", body)

    def free(self, host):
        """Its TPM was another host in the test before."""
        for other in self.call("GET", "/v1/hosts")["hosts"]:
            if other["ek_fingerprint"] == host.fingerprint and other["host"] != host.name:
                self.call("DELETE", f"/v1/hosts/{other['host']}?region={other['region']}")

    def trust(self, *hosts, **fields):
        """Take the boots of these hosts as good; the name of the set."""
        name = f"good-{next(_numbers)}"
        body = {"name": name, "from_hosts": [host.name for host in hosts], **fields}
        self.call("POST", "/v1/reference-sets", body)
        self._sets.append(name)
        return name

    def forget(self):
        """Delete the sets that are left."""
        for name in self._sets:
            self.http.call("DELETE", f"/v1/reference-sets/{name}", token=self.backend.admin_token)


class ComputeHost:
    """A host with a software TPM that has booted a recording."""

    def __init__(self, backend, software, name=None, boot="machine-a"):
        self.backend = backend
        self.software = software
        self.name = name or f"node-{next(_numbers)}"
        self.http = Http(backend)
        self.fingerprint = None
        self.options = {}
        self.boot(boot)

    def boot(self, name):
        """Power-cycle, and boot this recording."""
        recorded = Boot(name)
        power_on(recorded, self.software)
        self.boot_log_path = recorded.boot_log_path

    def named(self, name):
        """The same machine under another name."""
        other = ComputeHost.__new__(ComputeHost)
        other.__dict__.update(self.__dict__, name=name)
        return other

    def with_settings(self, **options):
        """The same machine with other settings of its agent."""
        other = self.named(self.name)
        other.options = options
        return other

    @property
    def settings(self):
        """The agent's."""
        values = dict(
            endpoint=self.backend.endpoint,
            ca_file=str(self.backend.cacert),
            timeout=30.0,
            region="",
            host=self.name,
            service_host=None,
            resource_provider=None,
            tcti=self.software.tcti,
            boot_log=self.boot_log_path,
            ek_template="auto",
            ak_algorithm="ecc",
            interval=1.0,
            retry_max=1.0,
        )
        return Settings(**{**values, **self.options})

    @property
    def identity(self):
        """Who it says it is."""
        return {"region": "", "host": self.name}

    def agent(self):
        """The agent, just started."""
        settings = self.settings
        client = AttestationClient(settings.endpoint, cacert=settings.ca_file)
        return Attester(settings, BackendApi(client, settings.region, settings.host))

    def round(self):
        """One round of the agent; how it ended."""
        return self.agent().round()

    def enrolment(self, **fields):
        """The body of an enrolment."""
        settings = self.settings
        with (
            open_tpm(settings) as tpm,
            endorsement_key(tpm, settings.ek_template) as ek,
            attestation_key(tpm, settings.ak_algorithm) as ak,
        ):
            body = {
                **self.identity,
                "ek_public": b64(ek.public),
                "ek_certificate": b64(ek.certificate),
                "intermediates": [b64(item) for item in ek.intermediates],
                "ak_public": b64(ak.public),
                "banks": list(tpm.banks()),
            }
        return {**body, **fields}

    def secret(self, challenge):
        """What the TPM makes of the answer to an enrolment."""
        settings = self.settings
        with (
            open_tpm(settings) as tpm,
            endorsement_key(tpm, settings.ek_template) as ek,
            attestation_key(tpm, settings.ak_algorithm) as ak,
        ):
            blob = base64.b64decode(challenge["credential_blob"])
            encrypted = base64.b64decode(challenge["encrypted_secret"])
            return activate(tpm, ak.handle, ek, blob, encrypted)

    def enrol(self, **fields):
        """Enrol; the state that comes of it."""
        begun = self.http.call("POST", "/v1/enrolments", self.enrolment(**fields))
        assert begun.status == 201, begun.body
        body = {"secret": b64(self.secret(begun.json))}
        answer = self.http.call("PUT", f"/v1/enrolments/{begun.json['id']}", body)
        assert answer.status == 200, answer.body
        self.fingerprint = answer.json["ek_fingerprint"]
        return answer.json["state"]

    def challenge(self):
        """A challenge for this host."""
        return self.http.call("POST", "/v1/challenges", self.identity).json

    def evidence(self, challenge=None, boot_log=None):
        """The body of a submission."""
        challenge = challenge or self.challenge()
        data = boot_log if boot_log is not None else read_boot_log(self.boot_log_path).data
        text = challenge["challenge"]
        nonce = hashlib.sha256(base64.urlsafe_b64decode(text)).digest()
        settings = self.settings
        with (
            open_tpm(settings) as tpm,
            attestation_key(tpm, settings.ak_algorithm) as key,
        ):
            signed = sign_pcrs(tpm, key, challenge["pcrs"], nonce)
        return {
            **self.identity,
            "challenge": text,
            "quote": b64(signed.quote),
            "signature": b64(signed.signature),
            "pcrs": {
                bank: {str(pcr): value.hex() for pcr, value in values.items()}
                for bank, values in signed.pcrs.items()
            },
            "boot_log": {"digest": hashlib.sha256(data).hexdigest(), "data": b64(data)},
        }

    def submit(self, body=None):
        """Hand evidence in."""
        return self.http.call("POST", "/v1/evidence", body or self.evidence())
