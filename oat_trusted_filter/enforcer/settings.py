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
"""The enforcer's configuration as one checked, typed record."""

import socket
from dataclasses import dataclass, field

from oslo_config import cfg

from oat_trusted_filter.client.http import AttestationClient
from oat_trusted_filter.client.token import read_token


@dataclass(frozen=True, slots=True)
class Settings:
    """What the group ``[enforcer]`` says; the meaning of each field is in its option's help."""

    endpoint: str
    ca_file: str | None
    token_file: str | None
    timeout: float
    region: str
    name: str
    refresh_interval: float
    full_interval: float
    outage_grace: float
    dry_run: bool
    coordination_url: str | None = field(default=None, repr=False)

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts) -> "Settings":
        """Read the options, which have to be registered.

        :raises cfg.Error: an option has a value it cannot have.
        """
        group = conf.enforcer
        return cls(
            endpoint=group.endpoint,
            ca_file=group.ca_file or None,
            token_file=group.token_file or None,
            timeout=group.timeout,
            region=group.region,
            name=group.name or socket.gethostname(),
            refresh_interval=group.refresh_interval,
            full_interval=group.full_interval,
            outage_grace=group.outage_grace,
            dry_run=conf.dry_run,
            coordination_url=group.coordination_url or None,
        )

    def make_client(self) -> AttestationClient:
        """A client for the backend; nothing is sent yet.

        :raises ClientError: a file is missing or an option makes no sense.
        """
        return AttestationClient(
            self.endpoint,
            token=read_token(self.token_file) if self.token_file else None,
            cacert=self.ca_file,
            timeout=self.timeout,
        )
