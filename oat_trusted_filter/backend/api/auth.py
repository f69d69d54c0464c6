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
"""Who calls.

A strategy looks at a request and says who has sent it. What he may do is for
:mod:`oat_trusted_filter.backend.api.access`.
"""

import base64
import binascii
import hashlib
import hmac
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

import falcon
from oslo_context.context import RequestContext

from oat_trusted_filter.backend import passwords
from oat_trusted_filter.backend.api.client_certificate import CertificateHolders
from oat_trusted_filter.backend.api.limits import Limit
from oat_trusted_filter.backend.api.problems import Problem
from oat_trusted_filter.backend.settings import Settings
from oat_trusted_filter.backend.store import credentials
from oat_trusted_filter.backend.store.credentials import ADMIN, Holder
from oat_trusted_filter.backend.store.engine import Store

_BEARER = 'Bearer realm="oat"'
_BASIC = 'Basic realm="oat", charset="UTF-8"'
_LONGEST_CREDENTIAL = 1024
#: Seconds a password that was right is not checked again.
_REMEMBER_SECONDS = 60.0
_REMEMBER_MOST = 256
#: Log-ins of a worker at one time: one is checked, the others wait for it. Each holds a thread, and
#: most threads are to be left for those who need no password.
_LOGINS = 3
#: Passwords of an address that are checked in a minute.
_LOGINS_PER_MINUTE = 30


class Authenticator(Protocol):
    """A strategy."""

    def holder(self, req: falcon.Request) -> Holder:
        """Who has sent the request.

        :raises Problem: ``credential-missing``, ``credential-wrong``, ``too-many-attempts`` or
            ``too-many-requests``.
        """


class NoAuthenticator:
    """Everybody is an administrator; only for a service on a loopback address."""

    def holder(self, req: falcon.Request) -> Holder:
        """Whoever asks."""
        return Holder("noauth", frozenset({ADMIN}))


class _Programs:
    """What every other strategy takes from programs: tokens (``Bearer``) and certificates."""

    challenges = _BEARER

    def __init__(
        self, store: Store, certificates: CertificateHolders, clock: Callable[[], int]
    ) -> None:
        self._store = store
        self._certificates = certificates
        self._clock = clock

    def holder(self, req: falcon.Request) -> Holder:
        """Whose token, password or certificate it is."""
        header = req.get_header("Authorization")
        if header:
            scheme, _, value = header.strip().partition(" ")
            value = value.strip()
            holder = None
            if value and len(value) <= _LONGEST_CREDENTIAL:
                holder = self._shown(req, scheme.lower(), value)
            if holder is None:
                raise self._refused("credential-wrong", "the credential is not valid")
            return holder
        holder = self._certificates.holder(req)
        if holder is None:
            raise self._refused("credential-missing", "this route needs a credential")
        return holder

    def _shown(self, req: falcon.Request, scheme: str, value: str) -> Holder | None:
        if scheme != "bearer":
            return None
        with self._store.read() as connection:
            return credentials.holder_of(connection, value, self._clock())

    def _refused(self, code: str, detail: str) -> Problem:
        return Problem(code, detail, headers={"WWW-Authenticate": self.challenges})


class StoredCredentials(_Programs):
    """Passwords of people as well (``Basic``)."""

    challenges = f"{_BEARER}, {_BASIC}"

    def __init__(
        self, store: Store, certificates: CertificateHolders, clock: Callable[[], int]
    ) -> None:
        super().__init__(store, certificates, clock)
        self._passwords = PasswordCheck()
        # A hash no password has; checked in place of that of a person there is not.
        self._nobody = passwords.password_hash(secrets.token_urlsafe())

    def _shown(self, req: falcon.Request, scheme: str, value: str) -> Holder | None:
        return self._person(req, value) if scheme == "basic" else super()._shown(req, scheme, value)

    def _person(self, req: falcon.Request, value: str) -> Holder | None:
        try:
            name, colon, password = base64.b64decode(value, validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            return None
        if not colon or "\0" in name:  # not every database can look for that
            return None
        with self._store.read() as connection:
            person = credentials.user(connection, name)
        known = person.password_hash if person else self._nobody
        right = self._passwords.right(req, password, known)
        return Holder(name, frozenset({person.role})) if person is not None and right else None


class KeystoneTokens(_Programs):
    """Tokens of keystone (``X-Auth-Token``), which keystonemiddleware has looked at before."""

    challenges = f"Keystone, {_BEARER}"

    def holder(self, req: falcon.Request) -> Holder:
        """Whose token it is, with the roles he has where the token is for."""
        if req.get_header("X-Auth-Token") is None:
            return super().holder(req)
        if req.get_header("X-Identity-Status") != "Confirmed":
            raise self._refused("credential-wrong", "keystone does not know this token")
        values = RequestContext.from_environ(req.env).to_policy_values()
        name = req.get_header("X-User-Name") or values["user_id"] or "unknown"
        return Holder(name, frozenset(values["roles"]), values=values)


class PasswordCheck:
    """Checks passwords, one at a time, and remembers for a short while which were right.

    A check takes a fifth of a second of a processor on purpose. Done one after the other they
    slow a guesser down and leave the rest of the service alone: few may wait, and each address has
    so many checks a minute.
    """

    def __init__(self) -> None:
        self._limit = Limit(_LOGINS_PER_MINUTE)
        self._places = threading.BoundedSemaphore(_LOGINS)
        self._turn = threading.Lock()
        self._key = secrets.token_bytes(32)
        self._known: OrderedDict[bytes, float] = OrderedDict()

    def right(self, req: falcon.Request, password: str, password_hash: str) -> bool:
        """Whether the password that came with a request has this hash.

        :raises Problem: ``too-many-attempts`` or ``too-many-requests``.
        """
        # Under the hash as well: after a change of the password nothing is remembered.
        mark = hmac.new(
            self._key, f"{password_hash}\0{password}".encode(), hashlib.sha256
        ).digest()  # fmt: skip
        if self._known.get(mark, 0.0) > time.monotonic():
            return True
        self._limit.count(req)
        if not self._places.acquire(blocking=False):
            raise Problem(
                "too-many-attempts",
                "too many people log in at this moment",
                headers={"Retry-After": "1"},
            )
        try:
            with self._turn:
                right = passwords.matches(password, password_hash)
                if right:
                    self._known[mark] = time.monotonic() + _REMEMBER_SECONDS
                    if len(self._known) > _REMEMBER_MOST:
                        self._known.popitem(last=False)
                return right
        finally:
            self._places.release()


def make_authenticator(settings: Settings, store: Store, clock: Callable[[], int]) -> Authenticator:
    """The strategy the configuration names."""
    if settings.auth_strategy == "noauth":
        return NoAuthenticator()
    kind = KeystoneTokens if settings.auth_strategy == "keystone" else StoredCredentials
    return kind(store, CertificateHolders(settings.client_certificates), clock)
