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
"""The one HTTP client of filter, agent, enforcer and command line."""

import base64
import json as json_codec
import math
import os
import ssl
import string
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from oat_trusted_filter.client.errors import (
    BackendRefused,
    BackendUnreachable,
    BadReply,
    ClientError,
)
from oat_trusted_filter.client.keystone import KeystoneCredential
from oat_trusted_filter.client.transport import LARGEST_BODY, Reply, Transport
from oat_trusted_filter.client.verdicts import VerdictReply, parse_not_modified, parse_reply

__all__ = [
    "AttestationClient",
    "BackendRefused",
    "BackendUnreachable",
    "BadReply",
    "ClientError",
    "VerdictReply",
]

#: Most seconds a request may be given.
LONGEST_TIMEOUT = 3600.0
#: Largest list of verdicts that is read, in bytes: some 80,000 hosts. Decoding more than that would
#: hold a scheduler for longer than its deadline.
LARGEST_VERDICTS = 16 * 1024 * 1024
_NOT_MODIFIED = 304
_TOKEN_CHARACTERS = frozenset(string.ascii_letters + string.digits + string.punctuation)
_CODE_CHARACTERS = frozenset(string.ascii_lowercase + string.digits + "-")


class AttestationClient:
    """Requests to the attestation backend.

    Thread-safe, keeps its TLS connection alive, follows no redirect, and opens nothing before the
    first request, so it may be made before a process forks but then has to be made anew if it was
    already used.

    :param endpoint: ``https://HOST:PORT``, possibly with a path, without the version.
    :param token: service token, sent as ``Authorization: Bearer``.
    :param username: with ``password``: HTTP Basic.
    :param keystone: tokens of Keystone instead.
    :param auth_blob: sent as ``x-auth-blob``, the way OAT clients do.
    :param cacert: PEM file with the CA certificates; None: those of the system.
    :param certificate: PEM files of a client certificate and its key.
    :param insecure: do not check the server's certificate.
    :param timeout: seconds a request may take in all, from name look-up to the last byte.
    :raises ClientError: ``endpoint-invalid``, ``ca-file-missing``, ``ca-file-invalid``,
        ``certificate-invalid`` or ``credential-invalid``.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        token: str | None = None,
        username: str | None = None,
        password: str | None = None,
        keystone: KeystoneCredential | None = None,
        auth_blob: str | None = None,
        cacert: str | os.PathLike[str] | None = None,
        certificate: tuple[str, str] | None = None,
        insecure: bool = False,
        timeout: float = 30.0,
    ) -> None:
        self.endpoint = _checked_endpoint(endpoint)
        self.timeout = _checked_timeout(timeout)
        self._credential = _credential_headers(token, username, password, auth_blob)
        if keystone is not None and "Authorization" in self._credential:
            raise ClientError("credential-invalid", "tokens of Keystone or another one, not both")
        verify: str | bool = not insecure
        if verify and cacert:
            verify = _checked_ca_file(os.fspath(cacert))
        if certificate is not None:
            _check_certificate(*certificate)
        self._transport = Transport(
            self.endpoint, verify=verify, certificate=certificate, credential=keystone
        )

    def close(self) -> None:
        """Close idle connections."""
        self._transport.close()

    def request(
        self,
        method: str,
        path: str,
        json: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> tuple[int, Mapping[str, str], Any]:
        """Send a request; return status, headers and the decoded JSON body (None if empty).

        :param path: from the root of the backend, ``/v1/hosts`` for instance.
        :param timeout: seconds in all; None: that of the client.
        :raises BackendUnreachable: no complete reply in time, or not from the backend.
        :raises BackendRefused: the reply is an error.
        :raises BadReply: the reply is not one of the backend.
        """
        reply = self._exchange(method, path, json, headers, timeout=timeout)
        return reply.status, reply.headers, _decoded(reply)

    def get_verdicts(
        self, since: str | None = None, etag: str | None = None, timeout: float | None = None
    ) -> VerdictReply:
        """Ask for the verdicts, or for what has changed.

        :param since: ``<epoch>:<cursor>`` of what is known already; None: everything.
        :param etag: the entity tag of what is known already.
        :param timeout: seconds in all; None: that of the client.
        :raises ClientError: as :meth:`request`.
        """
        path = "/v1/verdicts" if since is None else f"/v1/verdicts?since={quote(since, safe='')}"
        headers = {} if etag is None else {"If-None-Match": etag}
        reply = self._exchange(
            "GET", path, None, headers, timeout=timeout, largest=LARGEST_VERDICTS
        )
        if reply.status == _NOT_MODIFIED:
            if etag is None:
                raise BadReply("reply-invalid", "304 to a request that was not conditional")
            return parse_not_modified(reply.headers, reply.sent_at)
        return parse_reply(_decoded(reply), reply.headers, reply.sent_at)

    def _exchange(
        self,
        method: str,
        path: str,
        json: Any,
        headers: Mapping[str, str] | None,
        *,
        timeout: float | None,
        largest: int = LARGEST_BODY,
    ) -> Reply:
        sent = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            **self._credential,
            **(headers or {}),
        }
        data = None
        if json is not None:
            data = json_codec.dumps(json, separators=(",", ":")).encode()
            sent["Content-Type"] = "application/json"
        seconds = self.timeout if timeout is None else _checked_timeout(timeout)
        reply = self._transport.exchange(
            method, self.endpoint + path, sent, data, timeout=seconds, largest=largest
        )
        if 200 <= reply.status < 300 or reply.status == _NOT_MODIFIED:
            return reply
        if reply.status < 400:
            raise BadReply("reply-redirect", f"the server answers {reply.status}, a redirect")
        raise _refusal(reply)


def _checked_endpoint(endpoint: str) -> str:
    try:
        parts = urlsplit(endpoint)
        usable = bool(
            parts.scheme in ("http", "https")
            and parts.hostname
            and (parts.port is None or 0 < parts.port < 65536)
            and "@" not in parts.netloc
            and not parts.query
            and not parts.fragment
            and not any(character.isspace() for character in endpoint)
        )
    except (ValueError, AttributeError, TypeError):
        usable = False
    if not usable:
        raise ClientError("endpoint-invalid", f"{endpoint!r} is no URL like https://HOST:PORT")
    return endpoint.rstrip("/")


def _checked_timeout(timeout: float) -> float:
    if not math.isfinite(timeout) or not 0 < timeout <= LONGEST_TIMEOUT:
        raise ValueError(f"a time-out of {timeout!r} seconds is not possible")
    return float(timeout)


def _checked_ca_file(path: str) -> str:
    """The path, if the file holds certificates; otherwise the first request would say so badly."""
    try:
        ssl.create_default_context(cafile=path)
    except ssl.SSLError as error:
        raise ClientError(
            "ca-file-invalid", f"the CA file {path} holds no PEM certificate"
        ) from error
    except OSError as error:
        raise ClientError(
            "ca-file-missing", f"the CA file {path} cannot be read: {error.strerror}"
        ) from error
    return path


def _check_certificate(certificate: str, key: str) -> None:
    try:
        ssl.create_default_context().load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "they are no PEM certificate with its key"
        raise ClientError(
            "certificate-invalid", f"the files {certificate} and {key} cannot be used: {why}"
        ) from error


def _credential_headers(
    token: str | None, username: str | None, password: str | None, auth_blob: str | None
) -> dict[str, str]:
    headers: dict[str, str] = {}
    if token and (username or password):
        raise ClientError("credential-invalid", "a token or a user name, not both")
    for name, value in (("token", token), ("x-auth-blob", auth_blob)):
        # The value is not named: it is a secret.
        if value and not _TOKEN_CHARACTERS.issuperset(value.replace(" ", "")):
            raise ClientError("credential-invalid", f"the {name} has characters no header can hold")
    if token:
        headers["Authorization"] = f"Bearer {token}"
    elif username or password:
        if not username or password is None or ":" in username:
            raise ClientError(
                "credential-invalid", "a user name (without colon) and a password go together"
            )
        pair = base64.b64encode(f"{username}:{password}".encode()).decode("ascii")
        headers["Authorization"] = f"Basic {pair}"
    if auth_blob:
        headers["x-auth-blob"] = auth_blob
    return headers


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _decoded(reply: Reply) -> Any:
    if not reply.body:
        return None
    try:
        return json_codec.loads(reply.body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadReply("reply-not-json", f"the reply is not JSON: {error}"[:300]) from error


def _refusal(reply: Reply) -> BackendRefused:
    try:
        problem = _decoded(reply)
    except BadReply:
        problem = None
    if not isinstance(problem, Mapping):
        problem = {}
    code = problem.get("code")
    if not isinstance(code, str) or not code or not _CODE_CHARACTERS.issuperset(code):
        code = f"http-{reply.status}"
    detail = problem.get("detail") or problem.get("title")
    if not isinstance(detail, str):
        detail = "the backend answered with an error"
    return BackendRefused(reply.status, code, detail, problem)
