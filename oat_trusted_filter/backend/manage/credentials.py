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
"""Tokens of programs and passwords of people."""

import datetime
import os
import pwd
import secrets
from collections.abc import Mapping
from typing import Any

import bcrypt
from sqlalchemy import Connection

from oat_trusted_filter.backend.settings import StartError
from oat_trusted_filter.backend.store import audit, credentials
from oat_trusted_filter.backend.store.engine import Store

_TOKEN_BYTES = 32
#: By which people and scanners know a secret of this product when they see one.
_PREFIX = "oat_"
#: Passwords shorter than this are guessed, longer ones bcrypt would cut off.
PASSWORD_SHORTEST = 8
PASSWORD_LONGEST_BYTES = 72
_NAME_LONGEST = 255


def create_token(store: Store, name: str, role: str, *, replace: bool = False) -> str:
    """Make a token and store its digest.

    :returns: the token, which nobody can find out afterwards.
    :raises StartError: ``credential-exists`` or ``configuration`` for an odd name.
    """
    _check_name(name)
    if not replace:
        with store.read() as connection:
            if credentials.has_token(connection, name):
                raise StartError(
                    "credential-exists",
                    f"there is a token {name} already; --replace makes the old one invalid",
                )
    token = _PREFIX + secrets.token_urlsafe(_TOKEN_BYTES)
    keep_token(store, name, role, token)
    return token


def keep_token(store: Store, name: str, role: str, token: str) -> None:
    """Let a token be valid that exists already."""
    now = _now()

    def work(connection: Connection) -> None:
        if credentials.holder_of(connection, token) != (name, role):
            credentials.put_token(connection, name, token, role, now)
            record_act(connection, "token.create", {"name": name, "role": role})

    store.write(work)


def create_user(store: Store, name: str, role: str, password: str) -> None:
    """Let a person in, or give one another password or role.

    :raises StartError: ``password-invalid`` or ``configuration`` for an odd name.
    """
    _check_name(name)
    data = password.encode()
    if len(password) < PASSWORD_SHORTEST or len(data) > PASSWORD_LONGEST_BYTES or b"\0" in data:
        raise StartError(
            "password-invalid",
            f"a password has at least {PASSWORD_SHORTEST} characters and at most "
            f"{PASSWORD_LONGEST_BYTES} bytes",
        )
    person = credentials.User(name, bcrypt.hashpw(data, bcrypt.gensalt()).decode("ascii"), role)
    now = _now()

    def work(connection: Connection) -> None:
        credentials.put_user(connection, person, now)
        record_act(connection, "user.create", {"name": name, "role": role})

    store.write(work)


def record_act(connection: Connection, action: str, details: Mapping[str, Any]) -> None:
    """Record in the audit trail what somebody did with oat-manage."""
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = str(os.getuid())
    audit.record(connection, actor=f"oat-manage:{user}", action=action, details=details)


def _check_name(name: str) -> None:
    if not 0 < len(name) <= _NAME_LONGEST or not name.isprintable() or ":" in name:
        raise StartError("configuration", f"{name!r} cannot be the name of a credential")


def _now() -> int:
    return int(datetime.datetime.now(datetime.UTC).timestamp() * 1000)
