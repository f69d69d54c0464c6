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
"""What an operator has set for the filter, read once, and the client that follows from it."""

from dataclasses import dataclass, field
from pathlib import Path

from oslo_config import cfg

from oat_trusted_filter.client.http import AttestationClient, ClientError

OFF = "off"
UNTRUSTED_ONLY = "untrusted"
STRICT = "strict"

_LONGEST_TOKEN = 4096


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of the group ``[trusted_computing]``; times in seconds."""

    endpoint: str | None
    """None: neither it nor a server is set."""
    ca_file: str | None
    insecure: bool
    token_file: str | None
    username: str | None
    password: str | None = field(repr=False)
    auth_blob: str | None = field(repr=False)
    max_age: float
    deadline: float
    refresh_interval: float
    region: str
    check_rebuild: str
    observe: bool
    api_url: str | None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What an operator should be told about what is set."""
        found = []
        if self.insecure:
            found.append(
                "attestation_insecure_ssl is set: the certificate of the attestation backend is "
                "not checked, so anybody in between can call a host trusted"
            )
        elif (self.endpoint or "").lower().startswith("http:"):
            found.append(
                "endpoint is not https: anybody in between can read the token and call a host "
                "trusted"
            )
        if self.observe:
            found.append(
                "enforcement = observe: hosts that are not trusted are only named in the log, and "
                "flavors that ask for trust get them"
            )
        if self.api_url:
            found.append("attestation_api_url has no effect any more")
        return tuple(found)

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts) -> "Settings":
        """Read the options, which have to be registered.

        :raises cfg.Error: an option has a value it cannot have.
        """
        group = conf.trusted_computing
        return cls(
            endpoint=group.endpoint or _endpoint(group.attestation_server, group.attestation_port),
            ca_file=group.attestation_server_ca_file,
            insecure=group.attestation_insecure_ssl,
            token_file=group.token_file,
            username=group.username,
            password=group.password,
            auth_blob=group.attestation_auth_blob,
            max_age=float(group.attestation_auth_timeout),
            deadline=group.deadline,
            refresh_interval=group.refresh_interval,
            region=group.region,
            check_rebuild=group.check_rebuild,
            observe=group.enforcement == "observe",
            api_url=group.attestation_api_url,
        )

    def make_client(self) -> AttestationClient:
        """A client for the backend; nothing is sent yet.

        :raises ClientError: a file is missing or an option makes no sense; ``not-configured``: no
            backend is named.
        """
        if self.endpoint is None:
            raise ClientError(
                "not-configured", "neither endpoint nor attestation_server is set for the filter"
            )
        return AttestationClient(
            self.endpoint,
            token=_read_token(self.token_file) if self.token_file else None,
            username=None if self.token_file else self.username,
            password=None if self.token_file else self.password,
            auth_blob=self.auth_blob,
            cacert=self.ca_file,
            insecure=self.insecure,
            timeout=self.deadline,
        )


def _endpoint(server: str | None, port: int) -> str | None:
    if not server:
        return None
    if ":" in server and not server.startswith("["):
        server = f"[{server}]"
    return f"https://{server}:{port}"


def _read_token(path: str) -> str:
    try:
        with Path(path).open(encoding="ascii") as file:
            token = file.read(_LONGEST_TOKEN).strip()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is not plain text"
        raise ClientError(
            "token-file-missing", f"the token file {path} cannot be read: {why}"
        ) from error
    if not token:
        raise ClientError("token-file-empty", f"the token file {path} is empty")
    return token
