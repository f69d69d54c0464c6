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
"""The options of the backend, checked, as one immutable record."""

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from oslo_config import cfg

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_ROLES = ("service", "reader", "admin")


class StartError(Exception):
    """A program of the backend cannot do its work; the text says why and what to do.

    Codes: ``configuration``, ``state-dir-unwritable``, ``database-unusable``,
    ``database-not-synced``, ``database-rolled-back``, ``database-faulty``,
    ``tls-file-missing``, ``tls-file-invalid``, ``challenge-key-missing``,
    ``challenge-key-invalid``, ``signing-key-missing``, ``signing-key-invalid``,
    ``ek-ca-invalid``, ``ek-crl-invalid``, ``port-in-use``, ``address-unusable``,
    ``policy-file-invalid``, ``keystone-unusable``, ``credential-exists``,
    ``credential-unknown``, ``password-invalid``, ``installation-faulty``.

    :param code: stable, kebab-case.
    :param message: a sentence for people.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class OatCompat:
    """What the configuration says about the interface of OpenAttestation."""

    pollhosts_from: tuple[Network, ...] = ()
    readers_from: tuple[Network, ...] = ()
    allow_writes: bool = False
    writers_from: tuple[Network, ...] = ()
    client_cache: float = 60.0
    saml_issuer: str = ""
    """Empty: where the service listens."""
    tls_ports: tuple[int, ...] = ()
    http_port: int | None = None
    http_bind_host: str = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the configuration says; the meaning of each field is in its option's help.

    Durations are seconds.
    """

    bind_host: str
    port: int
    tls_certificate: Path
    tls_key: Path
    workers: int
    auth_strategy: str
    state_dir: Path
    ek_ca_dir: Path | None
    allow_software_tpm: bool
    interval: float
    verdict_lifetime: float
    challenge_lifetime: float
    verdict_lease: float
    database: str = field(repr=False)
    config_files: tuple[str, ...] = ()
    """Those that were read."""
    expiry_warning: float = 14 * 86_400.0
    ek_crl_dir: Path | None = None
    proxies: tuple[Network, ...] = ()
    client_certificates: Mapping[str, str] = field(default_factory=dict)
    """Role by name."""
    challenges_per_minute: int = 0
    enrolments_per_minute: int = 0
    audit_file: Path | None = None
    audit_syslog: str = ""
    audit_webhook: str = field(default="", repr=False)
    audit_interval: float = 10.0
    history_days: float = 365.0
    history_reports: int = 1000
    oat_compat: OatCompat | None = None
    """None: it is not served."""
    conf: cfg.ConfigOpts | None = field(default=None, repr=False, compare=False)
    """What it was read from, for libraries that have options of their own."""

    @property
    def challenge_key(self) -> Path:
        """The file with the key of the challenges."""
        return self.state_dir / "challenge.key"

    @property
    def signing_key(self) -> Path:
        """The file with the key that signs, and those it has replaced."""
        return self.state_dir / "signing.key"

    @property
    def url(self) -> str:
        """Where the service listens, for people."""
        host = f"[{self.bind_host}]" if ":" in self.bind_host else self.bind_host
        return f"https://{host}:{self.port}"

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts) -> "Settings":
        """Read and check the options.

        :raises StartError: ``configuration``, naming the option at fault.
        """
        try:
            api, attestation = conf.api, conf.attestation
            state_dir = Path(attestation.state_dir).absolute()
            settings = cls(
                bind_host=api.bind_host,
                port=api.port,
                tls_certificate=Path(api.tls_certificate or state_dir / "server.pem"),
                tls_key=Path(api.tls_key or state_dir / "server.key"),
                workers=api.workers,
                auth_strategy=api.auth_strategy,
                state_dir=state_dir,
                ek_ca_dir=Path(attestation.ek_ca_dir) if attestation.ek_ca_dir else None,
                ek_crl_dir=Path(attestation.ek_crl_dir) if attestation.ek_crl_dir else None,
                allow_software_tpm=attestation.allow_software_tpm,
                interval=attestation.interval,
                verdict_lifetime=attestation.verdict_lifetime,
                challenge_lifetime=attestation.challenge_lifetime,
                verdict_lease=attestation.verdict_lease,
                expiry_warning=attestation.expiry_warning,
                database=conf.database.connection or f"sqlite:///{state_dir / 'oat.sqlite'}",
                config_files=tuple(conf.config_file or ()),
                proxies=_networks("[api] proxies", api.proxies),
                client_certificates=_certificate_roles(api.client_certificate),
                challenges_per_minute=api.challenges_per_minute,
                enrolments_per_minute=api.enrolments_per_minute,
                audit_file=Path(conf.audit.file) if conf.audit.file else None,
                audit_syslog=conf.audit.syslog or "",
                audit_webhook=conf.audit.webhook or "",
                audit_interval=conf.audit.interval,
                history_days=conf.history.days,
                history_reports=conf.history.reports,
                oat_compat=_oat_compat(conf),
                conf=conf,
            )
        except (cfg.Error, ValueError) as error:
            raise StartError("configuration", " ".join(str(error).split())) from error
        settings._check()
        return settings

    def _check(self) -> None:
        if self.auth_strategy == "noauth" and not is_loopback(self.bind_host):
            raise StartError(
                "configuration",
                f"[api] auth_strategy is noauth, which needs a loopback address as bind_host, "
                f"not {self.bind_host}",
            )
        if self.oat_compat is not None:
            self._check_oat_compat(self.oat_compat)
        if self.challenge_lifetime >= self.verdict_lifetime:
            raise StartError(
                "configuration",
                "[attestation] verdict_lifetime has to be longer than challenge_lifetime, "
                "for it counts from the moment the challenge was issued",
            )

    def _check_oat_compat(self, compat: OatCompat) -> None:
        http = () if compat.http_port is None else (compat.http_port,)
        ports = (self.port, *compat.tls_ports, *http)
        if len(set(ports)) < len(ports):
            raise StartError(
                "configuration",
                "[api] port, [oat_compat] tls_ports and [oat_compat] http_port name a port twice: "
                + ", ".join(map(str, ports)),
            )
        if self.auth_strategy == "noauth" and http and not is_loopback(compat.http_bind_host):
            raise StartError(
                "configuration",
                "[api] auth_strategy is noauth, which needs a loopback address as [oat_compat] "
                f"http_bind_host, not {compat.http_bind_host}",
            )


def _oat_compat(conf: cfg.ConfigOpts) -> OatCompat | None:
    group = conf.oat_compat
    if not group.enabled:
        return None
    return OatCompat(
        pollhosts_from=_networks("[oat_compat] pollhosts_from", group.pollhosts_from),
        readers_from=_networks("[oat_compat] readers_from", group.readers_from),
        allow_writes=group.allow_writes,
        writers_from=_networks("[oat_compat] writers_from", group.writers_from),
        client_cache=group.client_cache,
        saml_issuer=group.saml_issuer or "",
        tls_ports=tuple(group.tls_ports),
        http_port=group.http_port,
        http_bind_host=group.http_bind_host,
    )


def _networks(option: str, texts: Iterable[str]) -> tuple[Network, ...]:
    try:
        return tuple(ipaddress.ip_network(text.strip()) for text in texts)
    except ValueError as error:
        raise StartError("configuration", f"{option}: {error}") from error


def _certificate_roles(lines: Iterable[str]) -> dict[str, str]:
    roles = {}
    for line in lines:
        role, _, name = line.strip().partition(" ")
        if role not in _ROLES or not name.strip():
            raise StartError(
                "configuration",
                f"[api] client_certificate {line!r} is no role ({', '.join(_ROLES)}) and name",
            )
        roles[name.strip()] = role
    return roles


def is_loopback(host: str) -> bool:
    """Whether an address reaches this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
