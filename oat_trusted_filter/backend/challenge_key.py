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
"""The keys challenges are made with, in a file all API hosts of one backend have.

A line is a key in hexadecimal, and the moment (milliseconds since 1970) from which challenges are
made with it; none: always. All keys in the file are known again. So a new key is put into the file
with a moment that lies ahead, the file is copied to the other hosts, and at that moment all of them
go over to the new key while challenges of the old one still run.
"""

import re
import secrets
from pathlib import Path
from typing import NamedTuple

from oat_trusted_filter.backend.settings import StartError

KEY_BYTES = 32
_LINE = re.compile(rf"([0-9a-fA-F]{{{2 * KEY_BYTES}}})(?: ([0-9]{{1,15}}))?")


class ChallengeKey(NamedTuple):
    """A key, and from when on it is used, in milliseconds since 1970."""

    secret: bytes
    since: int


def read_challenge_keys(path: Path) -> tuple[ChallengeKey, ...]:
    """The keys in a file, at least one.

    :raises StartError: ``challenge-key-missing`` or ``challenge-key-invalid``.
    """
    try:
        lines = path.read_bytes().decode().split("\n")
    except FileNotFoundError as error:
        raise StartError(
            "challenge-key-missing",
            f"{path} does not exist: run oat-manage --config-file FILE init",
        ) from error
    except OSError as error:
        raise StartError(
            "challenge-key-missing", f"{path} cannot be read: {error.strerror}"
        ) from error  # fmt: skip
    except UnicodeDecodeError as error:
        raise StartError("challenge-key-invalid", f"{path} holds no key") from error
    found = [_LINE.fullmatch(line.strip()) for line in lines if line.strip()]
    keys = [ChallengeKey(bytes.fromhex(m[1]), int(m[2] or 0)) for m in found if m is not None]
    if not keys or len(keys) != len(found):
        raise StartError("challenge-key-invalid", f"{path} holds no key of {KEY_BYTES} bytes")
    return tuple(keys)


def in_use(keys: tuple[ChallengeKey, ...], now: int) -> ChallengeKey:
    """The key challenges are made with at a moment."""
    started = [key for key in keys if key.since <= now]
    return max(started or keys[:1], key=lambda key: key.since)


def rotated(keys: tuple[ChallengeKey, ...], now: int, since: int) -> bytes:
    """Contents of the file with a new key.

    :param keys: those so far; the one in use is kept, so that its challenges still count.
    :param now: milliseconds since 1970.
    :param since: when the new one takes over.
    """
    kept = [in_use(keys, now)] if keys else []
    new = ChallengeKey(secrets.token_bytes(KEY_BYTES), since)
    return "".join(f"{key.secret.hex()} {key.since}\n" for key in (new, *kept)).encode()
