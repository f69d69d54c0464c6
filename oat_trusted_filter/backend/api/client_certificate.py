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
"""Certificates of clients, as a TLS proxy hands them on.

The server itself does not tell which certificate a connection came with. A proxy that does the
handshake and checks the certificate puts it into the header ``Client-Cert``: as :rfc:`9440` says,
or as PEM with the escapes of a URL (nginx). From any other address than those of ``[api] proxies``
the header is taken away before anybody looks at it.
"""

import base64
import binascii
from collections.abc import Iterator, Mapping
from urllib.parse import unquote

import falcon
from cryptography import x509

from oat_trusted_filter.backend.api.problems import Problem
from oat_trusted_filter.backend.store.credentials import Holder

HEADER = "Client-Cert"


class CertificateHolders:
    """Who stands behind which certificate.

    :param roles: by name: ``DNS:NAME``, ``URI:NAME`` or ``email:NAME`` of the alternative names,
        or the whole subject as :rfc:`4514` writes it.
    """

    def __init__(self, roles: Mapping[str, str]) -> None:
        self._roles = roles

    def holder(self, req: falcon.Request) -> Holder | None:
        """Whose certificate came with the request; None if none did, or nobody's.

        :raises Problem: ``credential-wrong``, the header holds no certificate.
        """
        value = req.get_header(HEADER)
        if not value or not self._roles:
            return None
        for name in _names(_certificate(value)):
            role = self._roles.get(name)
            if role is not None:
                return Holder(name, frozenset({role}))
        return None


def _certificate(value: str) -> x509.Certificate:
    try:
        if value.startswith(":"):
            return x509.load_der_x509_certificate(base64.b64decode(value.strip(":"), validate=True))
        return x509.load_pem_x509_certificate(unquote(value).encode("ascii"))
    except (ValueError, binascii.Error) as error:
        raise Problem("credential-wrong", "the proxy has sent no certificate") from error


def _names(certificate: x509.Certificate) -> Iterator[str]:
    yield certificate.subject.rfc4514_string()
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return
    for kind, label in (
        (x509.DNSName, "DNS"),
        (x509.UniformResourceIdentifier, "URI"),
        (x509.RFC822Name, "email"),
    ):
        yield from (f"{label}:{name}" for name in found.get_values_for_type(kind))
