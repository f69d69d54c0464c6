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
"""Passwords of people as they are stored: PBKDF2 (RFC 8018) with HMAC-SHA256.

Of the functions that make guessing slow it is the one FIPS 140 approves (NIST SP 800-132). Hashes
of earlier releases are bcrypt's and stay valid until the password is set again.
"""

import base64
import binascii
import hashlib
import hmac
import secrets

import bcrypt

_SCHEME = "pbkdf2-sha256"
#: What OWASP recommends for this function; a check takes about a fifth of a second.
_ITERATIONS = 600_000
_MOST_ITERATIONS = 10_000_000
_SALT_BYTES = 16


def password_hash(password: str) -> str:
    """What is stored of a password: ``pbkdf2-sha256$ITERATIONS$SALT$HASH``."""
    salt = secrets.token_bytes(_SALT_BYTES)
    found = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _ITERATIONS)
    return f"{_SCHEME}${_ITERATIONS}${_b64(salt)}${_b64(found)}"


def matches(password: str, known: str) -> bool:
    """Whether it is the password of this hash."""
    try:
        if known.startswith("$2"):
            return bcrypt.checkpw(password.encode(), known.encode("ascii"))
        scheme, iterations, salt, wanted = known.split("$")
        if scheme != _SCHEME or not 0 < int(iterations) <= _MOST_ITERATIONS:
            return False
        found = hashlib.pbkdf2_hmac(
            "sha256", password.encode(), base64.b64decode(salt), int(iterations)
        )
        return hmac.compare_digest(found, base64.b64decode(wanted))
    except (ValueError, binascii.Error):
        return False  # no hash, or a password bcrypt cannot take


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
