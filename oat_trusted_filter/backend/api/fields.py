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
"""What values on the wire may look like, and reading them.

Patterns end with ``\\Z``: a dollar sign would let a newline through.
"""

import binascii
import datetime
import re
from typing import Annotated

import msgspec

from oat_trusted_filter.backend.api.problems import Problem
from oat_trusted_filter.tcg.algorithms import BANKS, digest_size

_NAME = r"\A(?!.*\.\.)[A-Za-z0-9](?:[A-Za-z0-9._:-]{0,253}[A-Za-z0-9])?\Z"
_NAME_PATTERN = re.compile(_NAME)
_DIGEST = r"\A[0-9a-f]{64}\Z"
_UUID = r"\A[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}\Z"
_PCR_NUMBERS = {str(number): number for number in range(24)}

#: Name of a host or a service: ASCII, so nothing can look like something else.
HostName = Annotated[str, msgspec.Meta(pattern=_NAME)]
#: Region of a cloud; the empty one is the default.
Region = Annotated[str, msgspec.Meta(pattern=rf"\A\Z|{_NAME}")]
Digest = Annotated[str, msgspec.Meta(pattern=_DIGEST)]
ResourceProvider = Annotated[str, msgspec.Meta(pattern=_UUID)]
BankName = Annotated[str, msgspec.Meta(pattern=rf"\A(?:{'|'.join(BANKS)})\Z")]
#: Base64 of something that fits a TPM's buffers with room to spare.
SmallBlob = Annotated[str, msgspec.Meta(max_length=8192)]
Certificate = Annotated[str, msgspec.Meta(max_length=32_768)]

Pcrs = dict[str, dict[int, bytes]]


def checked_host(name: str) -> str:
    """A host name out of a path.

    :raises Problem: ``field-invalid``.
    """
    if not _NAME_PATTERN.match(name):
        raise Problem("field-invalid", "the path holds no name of a host")
    return name


def binary(text: str, field: str) -> bytes:
    """Decode base64; only the one canonical text of the data is taken.

    :raises Problem: ``field-invalid``.
    """
    try:
        data = binascii.a2b_base64(text, strict_mode=True)
        if binascii.b2a_base64(data, newline=False) == text.encode("ascii"):
            return data
    except (binascii.Error, ValueError):
        pass
    raise Problem("field-invalid", f"{field} is not base64 in its canonical form")


def pcr_values(raw: msgspec.Raw) -> Pcrs:
    """Read the PCR values of evidence.

    :raises Problem: ``field-invalid``.
    """
    try:
        banks = msgspec.json.decode(raw, type=dict[str, dict[str, str]])
    except (msgspec.DecodeError, RecursionError) as error:
        raise Problem("field-invalid", f"pcrs: {error}") from error
    # A key that comes twice leaves one entry but brings its quotation marks twice.
    marks = sum(2 + 4 * len(values) for values in banks.values())
    if bytes(raw).count(b'"') != marks:
        raise Problem("field-invalid", "pcrs names something twice")
    return {bank: _bank_values(bank, values) for bank, values in banks.items()}


def _bank_values(bank: str, values: dict[str, str]) -> dict[int, bytes]:
    if bank not in BANKS:
        raise Problem("field-invalid", "pcrs names a bank that is not known")
    size = digest_size(bank)
    text = "".join(values.values())
    data = _from_hex(text)
    right = (
        values.keys() <= _PCR_NUMBERS.keys()
        and set(map(len, values.values())) <= {2 * size}
        # It takes capitals and blanks, too.
        and data.hex() == text
    )
    if not right:
        raise Problem(
            "field-invalid",
            f"pcrs.{bank} is not an object of PCR numbers and {2 * size} lower-case hex digits",
        )
    return {
        _PCR_NUMBERS[key]: data[start : start + size]
        for key, start in zip(values, range(0, len(data), size), strict=True)
    }


def _from_hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""


def printable(text: object) -> str:
    """Words of strangers for a log: nothing in them ends a line or moves the cursor."""
    return "".join(char if char.isprintable() else "?" for char in str(text))


def moment(milliseconds: int | None) -> str | None:
    """Milliseconds since 1970 as RFC 3339."""
    if milliseconds is None:
        return None
    seconds, rest = divmod(milliseconds, 1000)
    text = datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat()
    return f"{text[:19]}.{rest:03d}Z"
