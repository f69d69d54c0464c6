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
"""Who calls, and what the caller may do.

A strategy looks at a request and says who has sent it. There are two so far; one for keystone's
tokens would be a third class here and a third name in :func:`make_authenticator`.
"""

import base64
import binascii
import hashlib
import hmac
import secrets
import threading
import time
from collections import OrderedDict
from typing import Protocol

import bcrypt
import falcon

from oat_trusted_filter.backend.api.problems import Problem
from oat_trusted_filter.backend.store import credentials
from oat_trusted_filter.backend.store.credentials import ADMIN, ROLES, Holder
from oat_trusted_filter.backend.store.engine import Store

_CHALLENGES = 'Bearer realm="oat", Basic realm="oat", charset="UTF-8"'
_LONGEST_CREDENTIAL = 1024
#: Seconds a password that was right is not checked with bcrypt again.
_REMEMBER_SECONDS = 60.0
_REMEMBER_MOST = 256
#: Seconds a log-in waits for others that are being checked.
_QUEUE_SECONDS = 3.0
# A hash no password has; checked in place of that of a person there is not.
_NOBODY = bcrypt.hashpw(secrets.token_bytes(16), bcrypt.gensalt()).decode("ascii")


class Authenticator(Protocol):
    """A strategy."""

    def holder(self, req: falcon.Request) -> Holder:
        """Who has sent the request.

        :raises Problem: ``credential-missing``, ``credential-wrong`` or ``too-many-attempts``.
        """


class NoAuthenticator:
    """Everybody is an administrator; only for a service on a loopback address."""

    def holder(self, req: falcon.Request) -> Holder:
        """Whoever asks."""
        return Holder("noauth", ADMIN)


class StoredCredentials:
    """Tokens of programs (``Bearer``) and passwords of people (``Basic``)."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._passwords = PasswordCheck()

    def holder(self, req: falcon.Request) -> Holder:
        """Whose token or password it is."""
        header = req.get_header("Authorization")
        if not header:
            raise _unauthorized("credential-missing", "this route needs a credential")
        scheme, _, value = header.strip().partition(" ")
        value = value.strip()
        holder = None
        if value and len(value) <= _LONGEST_CREDENTIAL:
            if scheme.lower() == "bearer":
                with self._store.read() as connection:
                    holder = credentials.holder_of(connection, value)
            elif scheme.lower() == "basic":
                holder = self._person(value)
        if holder is None:
            raise _unauthorized("credential-wrong", "the credential is not valid")
        return holder

    def _person(self, value: str) -> Holder | None:
        try:
            name, colon, password = base64.b64decode(value, validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            return None
        if not colon:
            return None
        with self._store.read() as connection:
            person = credentials.user(connection, name)
        right = self._passwords.right(password, person.password_hash if person else _NOBODY)
        return Holder(person.name, person.role) if person is not None and right else None


class PasswordCheck:
    """Checks passwords, one at a time, and remembers for a short while which were right.

    A check takes a fifth of a second of a processor on purpose. Done one after the other they
    slow a guesser down and leave the rest of the service alone.
    """

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._key = secrets.token_bytes(32)
        self._known: OrderedDict[bytes, float] = OrderedDict()

    def right(self, password: str, password_hash: str) -> bool:
        """Whether the password has this hash.

        :raises Problem: ``too-many-attempts``.
        """
        # Under the hash as well: after a change of the password nothing is remembered.
        mark = hmac.new(
            self._key, f"{password_hash}\0{password}".encode(), hashlib.sha256
        ).digest()  # fmt: skip
        if self._known.get(mark, 0.0) > time.monotonic():
            return True
        if not self._turn.acquire(timeout=_QUEUE_SECONDS):
            raise Problem(
                "too-many-attempts",
                "too many people log in at this moment",
                headers={"Retry-After": str(int(_QUEUE_SECONDS))},
            )
        try:
            right = _matches(password, password_hash)
            if right:
                self._known[mark] = time.monotonic() + _REMEMBER_SECONDS
                if len(self._known) > _REMEMBER_MOST:
                    self._known.popitem(last=False)
            return right
        finally:
            self._turn.release()


def make_authenticator(strategy: str, store: Store) -> Authenticator:
    """The strategy of this name, as in ``[api] auth_strategy``."""
    return NoAuthenticator() if strategy == "noauth" else StoredCredentials(store)


def authorise(holder: Holder, role: str) -> None:
    """Check that the caller has a role or one that includes it.

    :raises Problem: ``role-insufficient``.
    """
    if ROLES.index(holder.role) < ROLES.index(role):
        raise Problem(
            "role-insufficient",
            f"{holder.name} has the role {holder.role}, and this takes the role {role}",
        )


def _matches(password: str, password_hash: str) -> bool:
    try:
        return bcrypt.checkpw(password.encode(), password_hash.encode("ascii"))
    except ValueError:
        return False  # longer than any password can be, or with a NUL


def _unauthorized(code: str, detail: str) -> Problem:
    return Problem(code, detail, headers={"WWW-Authenticate": _CHALLENGES})
