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

from sqlalchemy import Connection

from oat_trusted_filter.backend.passwords import password_hash
from oat_trusted_filter.backend.settings import StartError
from oat_trusted_filter.backend.store import audit, credentials
from oat_trusted_filter.backend.store.credentials import Token, token_digest
from oat_trusted_filter.backend.store.engine import Store

_TOKEN_BYTES = 32
#: By which people and scanners know a secret of this product when they see one.
_PREFIX = "oat_"
#: Passwords shorter than this are guessed; there is no point in longer ones.
PASSWORD_SHORTEST = 8
PASSWORD_LONGEST_BYTES = 1024
_NAME_LONGEST = 255
_DAY_MS = 24 * 60 * 60 * 1000


def create_token(
    store: Store,
    name: str,
    role: str,
    *,
    replace: bool = False,
    region: str | None = None,
    days: int | None = None,
) -> str:
    """Make a token and store its digest.

    :param region: the only region of the cloud it is good for; None: all.
    :param days: how long it is valid; None: until it is revoked.
    :returns: the token, which nobody can find out afterwards.
    :raises StartError: ``credential-exists`` or ``configuration`` for an odd name.
    """
    _check_name(name)
    token = _new_token()
    now = now_ms()
    new = Token(name, token_digest(token), role, region, now, _end(now, days), None, None)

    def work(connection: Connection) -> None:
        if not replace and credentials.token(connection, name) is not None:
            raise StartError(
                "credential-exists",
                f"there is a token {name} already; --replace makes the old one invalid",
            )
        _put(connection, new, "token.create")

    store.write(work)
    return token


def keep_token(store: Store, name: str, role: str, token: str) -> None:
    """Let a token be valid that exists already, unless there is one of this name."""
    new = Token(name, token_digest(token), role, None, now_ms(), None, None, None)

    def work(connection: Connection) -> None:
        if credentials.token(connection, name) is None:
            _put(connection, new, "token.create")

    store.write(work)


def rotate_token(store: Store, name: str, *, overlap: float, days: int | None = None) -> str:
    """Make a new token; the old one stays valid for a while, so that nobody is locked out.

    :param overlap: seconds; an older one that was still valid is not any more.
    :param days: how long the new one is valid; None: until it is revoked.
    :raises StartError: ``credential-unknown``.
    """
    token = _new_token()
    now = now_ms()

    def work(connection: Connection) -> None:
        known = credentials.token(connection, name, locked=True)
        if known is None:
            raise _unknown(name)
        old_end = now + int(overlap * 1000)
        if known.expires_at is not None:
            old_end = min(old_end, known.expires_at)
        new = known._replace(
            digest=token_digest(token),
            created_at=now,
            expires_at=_end(now, days),
            old_digest=known.digest,
            old_expires_at=old_end,
        )
        _put(connection, new, "token.rotate")

    store.write(work)
    return token


def revoke_token(store: Store, name: str) -> None:
    """Let a token, and the one it has replaced, be valid no longer.

    :raises StartError: ``credential-unknown``.
    """

    def work(connection: Connection) -> None:
        if not credentials.remove_token(connection, name):
            raise _unknown(name)
        record_act(connection, "token.revoke", {"name": name})

    store.write(work)


def list_tokens(store: Store) -> list[str]:
    """What is known of all tokens, a line each under a heading; the tokens themselves are not."""
    with store.read() as connection:
        known = credentials.all_tokens(connection)
    rows = [("NAME", "ROLE", "REGION", "MADE", "VALID UNTIL", "PREVIOUS VALID UNTIL")]
    for token in known:
        old = _day(token.old_expires_at) if token.old_digest else "-"
        region = "-" if token.region is None else token.region or '""'
        until = "-" if token.expires_at is None else _day(token.expires_at)
        rows.append((token.name, token.role, region, _day(token.created_at), until, old))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def create_user(store: Store, name: str, role: str, password: str) -> None:
    """Let a person in, or give one another password or role.

    :raises StartError: ``password-invalid`` or ``configuration`` for an odd name.
    """
    _check_name(name)
    if len(password) < PASSWORD_SHORTEST or len(password.encode()) > PASSWORD_LONGEST_BYTES:
        raise StartError(
            "password-invalid",
            f"a password has at least {PASSWORD_SHORTEST} characters and at most "
            f"{PASSWORD_LONGEST_BYTES} bytes",
        )
    person = credentials.User(name, password_hash(password), role)
    now = now_ms()

    def work(connection: Connection) -> None:
        credentials.put_user(connection, person, now)
        record_act(connection, "user.create", {"name": name, "role": role})

    store.write(work)


def record_act(connection: Connection, action: str, details: Mapping[str, Any]) -> None:
    """Record in the audit trail what somebody did with oat-manage."""
    audit.record(connection, actor=actor(), action=action, details=details)


def actor() -> str:
    """Who runs oat-manage, for the audit trail."""
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = str(os.getuid())
    return f"oat-manage:{user}"


def _put(connection: Connection, token: Token, action: str) -> None:
    details = {
        "name": token.name,
        "role": token.role,
        "region": token.region,
        "expires_at": token.expires_at,
    }

    credentials.put_token(connection, token)
    record_act(connection, action, {k: v for k, v in details.items() if v is not None})


def _unknown(name: str) -> StartError:
    return StartError("credential-unknown", f"there is no token {name!r}")


def _new_token() -> str:
    return _PREFIX + secrets.token_urlsafe(_TOKEN_BYTES)


def _check_name(name: str) -> None:
    if not 0 < len(name) <= _NAME_LONGEST or not name.isprintable() or ":" in name:
        raise StartError("configuration", f"{name!r} cannot be the name of a credential")


def _end(now: int, days: int | None) -> int | None:
    return None if days is None else now + days * _DAY_MS


def _day(milliseconds: int | None) -> str:
    if milliseconds is None:
        return "-"
    moment = datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def now_ms() -> int:
    """Milliseconds since 1970."""
    return int(datetime.datetime.now(datetime.UTC).timestamp() * 1000)
