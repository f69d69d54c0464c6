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
"""The first contact with a backend whose authority is known by its fingerprint only.

Nobody vouches for the answer but the fingerprint: what does not have it is not kept, and nothing
but certificates is asked for. Everything after that goes over TLS the kept authority vouches for.
"""

import contextlib
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from oat_trusted_filter.agent.errors import AgentError, AnswerError, ConfigurationError
from oat_trusted_filter.agent.settings import Settings
from oat_trusted_filter.client.http import AttestationClient

_PATH = "/v1/authorities"


def keep_authority(settings: Settings) -> None:
    """Fetch the authority of ``ca_fingerprint`` into ``ca_file``, unless that is there.

    :raises ClientError: the backend cannot be asked.
    :raises AgentError: ``ca-fingerprint-mismatch`` or ``bad-answer``.
    :raises ConfigurationError: ``ca_file`` cannot be written.
    """
    if not settings.ca_fingerprint or settings.ca_file is None or Path(settings.ca_file).exists():
        return
    client = AttestationClient(settings.endpoint, insecure=True, timeout=settings.timeout)
    with contextlib.closing(client):
        _, _, answer = client.request("GET", _PATH)
    pems = answer.get("certificates") if isinstance(answer, Mapping) else None
    if not isinstance(pems, list) or not all(isinstance(pem, str) for pem in pems):
        raise AnswerError(f"the backend's answer to {_PATH} lacks 'certificates'")
    for pem in pems:
        with contextlib.suppress(ValueError):
            certificate = x509.load_pem_x509_certificate(pem.encode())
            if certificate.fingerprint(hashes.SHA256()).hex() == settings.ca_fingerprint:
                _write(Path(settings.ca_file), certificate)
                return
    raise AgentError(
        "ca-fingerprint-mismatch",
        f"no authority of {settings.endpoint} has the fingerprint {settings.ca_fingerprint}: "
        "compare it with oat-manage ca fingerprint on the backend",
    )


def _write(path: Path, certificate: x509.Certificate) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        temporary.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        os.replace(temporary, path)
    except OSError as error:
        raise ConfigurationError(
            f"[agent] ca_file {path} cannot be written: {error.strerror}"
        ) from error
