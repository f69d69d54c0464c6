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
"""What can go wrong between a client and the attestation backend."""

from collections.abc import Mapping
from typing import Any


class ClientError(Exception):
    """Any failure of a request.

    Raised as such for mistakes on this side: ``endpoint-invalid``, ``ca-file-missing``,
    ``ca-file-invalid``, ``certificate-invalid``, ``credential-invalid``, ``keystone-failed``,
    ``client-busy``.

    :param code: stable, kebab-case.
    :param message: a sentence for people.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class BackendUnreachable(ClientError):
    """Nobody answered, or nobody who proved to be the backend.

    Codes: ``backend-unreachable``, ``backend-timeout``, ``tls-certificate``, ``tls-failed``.
    """


class BadReply(ClientError):
    """What came back is not an answer of the backend.

    Codes: ``reply-too-large``, ``reply-redirect``, ``reply-encoding``, ``reply-not-json``,
    ``reply-broken``, ``reply-invalid``.
    """


class BackendRefused(ClientError):
    """The backend answered with an error.

    :param status: HTTP status.
    :param code: the code of the problem document, or ``http-<status>``.
    :param detail: the backend's sentence about it.
    :param body: the whole problem document.
    """

    def __init__(
        self, status: int, code: str, detail: str, body: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(code, f"{detail} (HTTP {status})")
        self.status = status
        self.detail = detail
        self.body: Mapping[str, Any] = body or {}
