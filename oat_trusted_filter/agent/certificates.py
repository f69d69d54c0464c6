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
"""Certificates of endorsement keys as they are found: in the TPM, or in a file.

They are only told apart here, not decoded: makers' certificates are not always what strict decoders
take, and whether one holds good is for the backend to say.
"""

import re
import ssl
from pathlib import Path

from oat_trusted_filter.agent.errors import ConfigurationError

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
# A certificate with all its authorities is a few kB.
_LARGEST_FILE = 256 * 1024


def read_certificates(file: Path) -> tuple[bytes, ...]:
    """The certificates in a file, PEM or DER, as DER and in their order.

    :raises ConfigurationError: it cannot be read, or holds none.
    """
    try:
        with file.open("rb") as opened:
            data = opened.read(_LARGEST_FILE)
        blocks = _PEM.findall(data.decode("ascii", "replace"))
        found = tuple(map(ssl.PEM_cert_to_DER_cert, blocks)) if blocks else split_der(data)
    except OSError as error:
        raise ConfigurationError(
            f"[agent] ek_certificate {file} cannot be read: {error.strerror}"
        ) from error
    except ValueError:
        found = ()
    if not found:
        raise ConfigurationError(f"[agent] ek_certificate {file} holds no certificate")
    return found


def split_der(data: bytes) -> tuple[bytes, ...]:
    """The DER structures that stand one after the other; makers pad NV indices with 00 or ff."""
    found: list[bytes] = []
    position = 0
    while position < len(data):
        if data[position] in (0x00, 0xFF):
            position += 1
            continue
        if data[position] != 0x30 or position + 4 > len(data):
            break
        # A certificate is longer than 255 bytes, so its length takes two bytes or, absurdly, more.
        if data[position + 1] != 0x82:
            break
        end = position + 4 + int.from_bytes(data[position + 2 : position + 4], "big")
        if end > len(data):
            break
        found.append(data[position:end])
        position = end
    return tuple(found)
