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
"""Challenges without a memory: a MAC over host, time and random bytes.

A challenge is 72 bytes: 8 of issue time (milliseconds since 1970), 32 random ones, and 32 of
HMAC-SHA256 over these and the name of the host. 72 is a multiple of three, so its base64url text
has no padding and no spare bits: exactly one text of 96 characters stands for one challenge. What
the TPM signs is the SHA-256 of the 72 bytes.
"""

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from oat_trusted_filter.backend.api.problems import Problem
from oat_trusted_filter.backend.challenge_key import ChallengeKey, in_use

_TIME_BYTES = 8
_RANDOM_BYTES = 32
_MAC_BYTES = 32
_TEXT = re.compile(rf"[A-Za-z0-9_-]{{{(_TIME_BYTES + _RANDOM_BYTES + _MAC_BYTES) * 4 // 3}}}")
_LABEL = b"oat challenge 1"
#: Milliseconds the clock of another API server may be ahead of ours.
_AHEAD_MS = 2_000


@dataclass(frozen=True, slots=True)
class Challenge:
    """A challenge that is ours, for this host and not too old."""

    nonce: bytes
    """What has to be in the quote."""
    issued_at: int
    """Milliseconds since 1970."""

    @property
    def digest(self) -> str:
        """What it is kept under once it is spent."""
        return self.nonce.hex()


class Challenges:
    """Makes challenges and knows its own again.

    :param keys: says the keys, which all servers of one backend share.
    :param lifetime: milliseconds.
    """

    def __init__(self, keys: Callable[[], tuple[ChallengeKey, ...]], lifetime: int) -> None:
        self._keys = keys
        self._lifetime = lifetime

    def issue(self, region: str, host: str, now: int) -> str:
        """A new challenge, as text."""
        body = now.to_bytes(_TIME_BYTES, "big") + secrets.token_bytes(_RANDOM_BYTES)
        data = body + _mac(in_use(self._keys(), now), body, region, host)
        return base64.urlsafe_b64encode(data).decode("ascii")

    def check(self, text: str, region: str, host: str, now: int) -> Challenge:
        """Know a challenge again.

        :raises Problem: ``challenge-malformed``, ``challenge-invalid`` (not ours, or for another
            host) or ``challenge-expired``.
        """
        if not _TEXT.fullmatch(text):
            raise Problem("challenge-malformed", "the challenge is not one of this backend")
        data = base64.urlsafe_b64decode(text)
        body, mac = data[:-_MAC_BYTES], data[-_MAC_BYTES:]
        if not any(
            hmac.compare_digest(mac, _mac(key, body, region, host)) for key in self._keys()
        ):
            raise Problem("challenge-invalid", "the challenge was not issued to this host")
        issued_at = int.from_bytes(body[:_TIME_BYTES], "big")
        if not issued_at - _AHEAD_MS <= now < issued_at + self._lifetime:
            raise Problem("challenge-expired", "the challenge is too old; ask for another one")
        return Challenge(hashlib.sha256(data).digest(), issued_at)

    def expires_at(self, challenge: Challenge) -> int:
        """When nobody can use it any more, in milliseconds since 1970."""
        return challenge.issued_at + self._lifetime + _AHEAD_MS


def _mac(key: ChallengeKey, body: bytes, region: str, host: str) -> bytes:
    message = b"\0".join((_LABEL, region.encode(), host.encode(), body))
    return hmac.digest(key.secret, message, "sha256")
