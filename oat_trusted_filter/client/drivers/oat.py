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
"""The driver ``oat``: the backend of this project."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Self

from keystoneauth1 import exceptions, loading
from oslo_config import cfg

from oat_trusted_filter.client.drivers.connected import ClientDriver
from oat_trusted_filter.client.http import AttestationClient, ClientError, VerdictReply
from oat_trusted_filter.client.keystone import KeystoneCredential
from oat_trusted_filter.client.token import read_token


@dataclass(frozen=True, slots=True)
class Connection:
    """The options of ``[trusted_computing]`` that say where the backend is and who asks."""

    endpoint: str | None
    """None: neither it nor a server is set."""
    ca_file: str | None
    insecure: bool
    token_file: str | None
    username: str | None
    password: str | None = field(repr=False)
    auth_blob: str | None = field(repr=False)
    deadline: float
    """Seconds."""
    certificate: tuple[str, str] | None = None
    keystone: KeystoneCredential | None = field(default=None, repr=False)

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts) -> "Connection":
        """Read the options, which have to be registered.

        :raises cfg.Error: an option has a value it cannot have.
        :raises ClientError: ``credential-invalid``, ``auth_type`` and what belongs to it cannot be
            used.
        """
        group = conf.trusted_computing
        keystone = _keystone(conf)
        return cls(
            endpoint=group.endpoint or _endpoint(group.attestation_server, group.attestation_port),
            ca_file=group.attestation_server_ca_file,
            insecure=group.attestation_insecure_ssl,
            token_file=group.token_file,
            # With Keystone these belong to its plugin.
            username=group.username if keystone is None else None,
            password=group.password if keystone is None else None,
            auth_blob=group.attestation_auth_blob,
            deadline=group.deadline,
            certificate=_certificate(group.certfile, group.keyfile),
            keystone=keystone,
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """What an operator should be told about what is set."""
        if self.insecure:
            return (
                "attestation_insecure_ssl is set: the certificate of the attestation backend is "
                "not checked, so anybody in between can call a host trusted",
            )
        if (self.endpoint or "").lower().startswith("http:"):
            return (
                "endpoint is not https: anybody in between can read the token and call a host "
                "trusted",
            )
        return ()

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
            token=read_token(self.token_file) if self.token_file else None,
            username=None if self.token_file else self.username,
            password=None if self.token_file else self.password,
            keystone=self.keystone,
            auth_blob=self.auth_blob,
            cacert=self.ca_file,
            certificate=self.certificate,
            insecure=self.insecure,
            timeout=self.deadline,
        )


class OatDriver(ClientDriver):
    """The backend says what has changed since the last answer, about all hosts at once."""

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts) -> Self:
        """As ``[trusted_computing]`` says."""
        connection = Connection.from_conf(conf)
        return cls(connection.make_client(), connection.warnings)

    def get_verdicts(
        self,
        since: str | None,
        etag: str | None,
        *,
        names: Collection[str] = (),
        timeout: float,
    ) -> VerdictReply:
        """One request; the names do not matter."""
        return self._client.get_verdicts(since, etag, timeout=timeout)


def _endpoint(server: str | None, port: int) -> str | None:
    if not server:
        return None
    if ":" in server and not server.startswith("["):
        server = f"[{server}]"
    return f"https://{server}:{port}"


def _certificate(certificate: str | None, key: str | None) -> tuple[str, str] | None:
    """The files of the client certificate; the key may be in the same one."""
    return (certificate, key or certificate) if certificate else None


def _keystone(conf: cfg.ConfigOpts) -> KeystoneCredential | None:
    group = conf.trusted_computing
    if not group.auth_type and not group.auth_section:
        return None
    try:
        plugin = loading.load_auth_from_conf_options(conf, "trusted_computing")
    except (exceptions.ClientException, cfg.NoSuchOptError, cfg.DuplicateOptError) as error:
        raise ClientError(
            "credential-invalid", f"auth_type {group.auth_type!r} cannot be used: {error}"
        ) from error
    if plugin is None:  # auth_section names one without auth_type
        raise ClientError("credential-invalid", "auth_section leads to no auth_type")
    return KeystoneCredential(
        plugin,
        verify=group.cafile or True,
        certificate=_certificate(group.certfile, group.keyfile),
        timeout=group.deadline,
    )
