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
"""This product in the cloud: backend, compute hosts with TPM and agent, enforcer."""

import shutil
from collections.abc import Mapping

from tests.lab.backend import Backend
from tests.lab.wait import wait_for
from tools.cloud import settings
from tools.cloud.access import BOOTS, GOOD
from tools.cloud.service import CloudError, Service, free_ports
from tools.cloud.settings import Site
from tools.demonstration.console import PROGRAMS
from tools.demonstration.hosts import ComputeHost, Operator

ROUND_SECONDS = 1
#: A host whose agent is gone is not trusted any more after this time.
LIFETIME_SECONDS = 15
#: The scheduler believes a silent backend for this time.
LEASE_SECONDS = 6
#: The enforcer takes the traits away this much later.
GRACE_SECONDS = 2
_CHALLENGE_SECONDS = 10
_APPRAISED_SECONDS = 60.0
_STARTED_SECONDS = 30.0


class Attestation:
    """The parts of this product.

    :param site: whose keystone the backend asks who its users are.
    """

    def __init__(self, site: Site) -> None:
        folder = site.folder
        self._site = site
        self._folder = folder
        ek_ca = folder / "ek-ca"
        ek_ca.mkdir()
        self._ek_ca = ek_ca
        self.hosts = {
            name: ComputeHost(name, folder / name, folder / "tpm-vendor") for name in BOOTS
        }
        self.backend = Backend(
            folder / "backend",
            {
                ("api", "auth_strategy"): "keystone",
                **{
                    ("keystone_authtoken", name): value
                    for name, value in site.login("oat-attestation-api").items()
                },
                ("attestation", "ek_ca_dir"): ek_ca,
                ("attestation", "allow_software_tpm"): True,
                ("attestation", "interval"): ROUND_SECONDS,
                ("attestation", "challenge_lifetime"): _CHALLENGE_SECONDS,
                ("attestation", "verdict_lifetime"): LIFETIME_SECONDS,
                ("attestation", "verdict_lease"): LEASE_SECONDS,
            },
            port=free_ports(1)[0],
        )
        self._enforcer_config = folder / "etc" / "oat-enforcer.conf"
        self.enforcer = Service(
            folder,
            "oat-enforcer",
            [PROGRAMS / "oat-enforcer", "--config-file", self._enforcer_config],
        )

    def prepare(self) -> None:
        """Boot the hosts, start the backend and the agents, and let the hosts in."""
        for host in self.hosts.values():
            host.manufacture()
            host.boot(BOOTS[host.name])
            for certificate in host.tpm.ca_certificates:
                shutil.copy(certificate, self._ek_ca)
        self.backend.start()
        operator = Operator(self.backend)
        for host in self.hosts.values():
            host.start_agent(self.backend)
        wait_for(
            lambda: set(operator.hosts()) == set(BOOTS), _APPRAISED_SECONDS, "all hosts to enrol"
        )
        for name, host in operator.hosts().items():
            operator.run("host", "approve", name, "--ek-fingerprint", host["ek_fingerprint"])
        wait_for(
            lambda: all(host["appraised_at"] for host in operator.hosts().values()),
            _APPRAISED_SECONDS,
            "the first evidence of all hosts",
        )
        from_hosts = [word for name in GOOD for word in ("--from-host", name)]
        operator.run("reference", "create", "good", *from_hosts)

    def filter_options(self) -> Mapping[str, object]:
        """Group ``[trusted_computing]`` of nova.conf."""
        return {
            "endpoint": self.backend.endpoint,
            "attestation_server_ca_file": self.backend.cacert,
            "token_file": self.backend.state_dir / "scheduler.token",
            # Each decision asks whether something has changed, so no test has to wait for it.
            "refresh_interval": 0,
            "request_filter": True,
            "require_trait": True,
        }

    def start_enforcer(self) -> None:
        """Start the enforcer with a token of its own for the backend and a user in keystone.

        :raises CloudError: it gave up.
        """
        made = self.backend.manage("token", "create", "oat-enforcer", "--role", "service")
        if made.returncode != 0:
            raise CloudError(f"oat-manage token create: {made.stderr.strip()}")
        token = self._folder / "etc" / "oat-enforcer.token"
        token.touch(0o600)
        token.write_text(made.stdout.strip())
        settings.write(
            self._enforcer_config,
            {
                "enforcer": {
                    "endpoint": self.backend.endpoint,
                    "ca_file": self.backend.cacert,
                    "token_file": token,
                    "refresh_interval": 0.5,
                    "full_interval": 3,
                    "outage_grace": GRACE_SECONDS,
                },
                "placement": self._site.login("oat-enforcer"),
            },
        )
        self.enforcer.start()
        self.enforcer.wait_until(
            lambda: "enforcing the verdicts" in self.enforcer.log, _STARTED_SECONDS, "its start"
        )

    def stop(self) -> None:
        """Stop all of it; harmless if it is off."""
        self.enforcer.stop()
        for host in self.hosts.values():
            host.stop()
        self.backend.stop()
