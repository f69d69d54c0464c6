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
"""The agent's configuration as one checked, typed record."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from oslo_config import cfg

from oat_trusted_filter.agent.certificates import read_certificates
from oat_trusted_filter.agent.errors import ConfigurationError
from oat_trusted_filter.conf import agent as agent_conf

#: Characters of a password or token; longer ones are cut, and then refused.
_LONGEST_LINE = 1024
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Settings:
    """What the group ``[agent]`` says; the meaning of each field is in its option's help."""

    endpoint: str
    ca_file: str | None
    timeout: float
    region: str
    host: str
    service_host: str | None
    resource_provider: str | None
    tcti: str
    boot_log: Path
    ek_template: str
    ak_algorithm: str
    interval: float
    retry_max: float
    ima_log: Path = Path(agent_conf.IMA_LOG)
    ca_fingerprint: str = ""
    """SHA-256 in hexadecimal; empty: not pinned."""
    ek_certificate: Path | None = None
    enrolment_token_file: Path | None = None
    endorsement_password: str = field(default="", repr=False)
    owner_password: str = field(default="", repr=False)

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts) -> "Settings":
        """Read and check the options.

        :raises ConfigurationError: naming the option at fault.
        """
        try:
            options = conf.agent
            settings = cls(
                endpoint=options.endpoint.rstrip("/"),
                ca_file=options.ca_file or None,
                ca_fingerprint=options.ca_fingerprint.replace(":", "").lower(),
                timeout=options.timeout,
                region=options.region,
                host=agent_conf.host_name(conf),
                service_host=options.service_host or None,
                resource_provider=options.resource_provider or None,
                tcti=options.tcti,
                boot_log=Path(options.boot_log),
                ima_log=Path(options.ima_log),
                ek_template=options.ek_template,
                ek_certificate=Path(options.ek_certificate) if options.ek_certificate else None,
                ak_algorithm=options.ak_algorithm,
                interval=options.interval,
                retry_max=options.retry_max,
                enrolment_token_file=_path(options.enrolment_token_file),
                endorsement_password=_password(options, "endorsement_password"),
                owner_password=_password(options, "owner_password"),
            )
        except (cfg.Error, ValueError) as error:
            raise ConfigurationError(str(error)) from error
        settings._check_endpoint()
        settings._check_ca_file()
        if settings.ek_certificate is not None:
            read_certificates(settings.ek_certificate)
        return settings

    def enrolment_token(self) -> str | None:
        """The token in its file; None: there is none, or none any more.

        :raises ConfigurationError: the file cannot be read.
        """
        if self.enrolment_token_file is None or not self.enrolment_token_file.exists():
            return None
        return _first_line(self.enrolment_token_file, "enrolment_token_file") or None

    def _check_endpoint(self) -> None:
        try:
            parts = urlsplit(self.endpoint)
            usable = parts.scheme in {"https", "http"} and bool(parts.hostname)
            usable = usable and (parts.port is None or parts.port > 0)
        except ValueError:
            usable = False
        if not usable:
            raise ConfigurationError(
                f"[agent] endpoint is {self.endpoint!r}; give for instance "
                "https://attest.example.org:8443"
            )

    def _check_ca_file(self) -> None:
        if self.ca_fingerprint:
            if not _FINGERPRINT.fullmatch(self.ca_fingerprint):
                raise ConfigurationError("[agent] ca_fingerprint is no SHA-256 in hexadecimal")
            if self.ca_file is None:
                raise ConfigurationError(
                    "[agent] ca_fingerprint needs ca_file, where the certificate is kept"
                )
            if not Path(self.ca_file).exists():
                return
        if self.ca_file is None:
            return
        try:
            x509.load_pem_x509_certificates(Path(self.ca_file).read_bytes())
        except OSError as error:
            raise ConfigurationError(
                f"[agent] ca_file {self.ca_file} cannot be read: {error.strerror}"
            ) from error
        except ValueError as error:
            raise ConfigurationError(
                f"[agent] ca_file {self.ca_file} holds no PEM certificates"
            ) from error


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None


def _password(options: cfg.ConfigOpts.GroupAttr, name: str) -> str:
    """A password of the TPM, given itself or by its file."""
    password: str = getattr(options, name)
    path = _path(getattr(options, f"{name}_file"))
    if path is None:
        return password
    if password:
        raise ConfigurationError(f"[agent] {name} and {name}_file are both set; remove one")
    return _first_line(path, f"{name}_file")


def _first_line(path: Path, option: str) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            return file.readline(_LONGEST_LINE).rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not text"
        raise ConfigurationError(f"[agent] {option} {path} cannot be read: {why}") from error
