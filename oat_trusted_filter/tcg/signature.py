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
"""TPMT_SIGNATURE.

Source: TCG TPM 2.0 Library, Part 2 (Structures), section 11.3.4 TPMT_SIGNATURE.
"""

import struct
from typing import NamedTuple

from oat_trusted_filter.tcg.errors import FormatError

TPM_ALG_RSASSA = 0x0014
TPM_ALG_RSAPSS = 0x0016
TPM_ALG_ECDSA = 0x0018

_U16 = struct.Struct(">H")
_HEAD = struct.Struct(">HH")
# The longest key that may attest is RSA-4096.
_MAX_RSA_BYTES = 512
_MAX_ECC_BYTES = 66


class Signature(NamedTuple):
    """A signature; ``rsa`` for RSA schemes, ``r`` and ``s`` for ECDSA."""

    scheme: int
    """TPM_ALG_RSASSA, TPM_ALG_RSAPSS or TPM_ALG_ECDSA."""
    hash_algorithm: int
    """TPM_ALG_ID of the hash that was signed."""
    rsa: bytes | None = None
    r: int = 0
    s: int = 0


def parse_signature(data: bytes) -> Signature:
    """Take a signature apart.

    :param data: the bytes of TPMT_SIGNATURE.
    :raises FormatError: ``signature-truncated``, ``signature-trailing-bytes`` or
        ``signature-scheme``.
    """
    try:
        scheme, hash_algorithm = _HEAD.unpack_from(data, 0)
        if scheme in (TPM_ALG_RSASSA, TPM_ALG_RSAPSS):
            rsa, end = _sized(data, 4, _MAX_RSA_BYTES)
            signature = Signature(scheme, hash_algorithm, rsa=rsa)
        elif scheme == TPM_ALG_ECDSA:
            r, end = _sized(data, 4, _MAX_ECC_BYTES)
            s, end = _sized(data, end, _MAX_ECC_BYTES)
            signature = Signature(
                scheme, hash_algorithm, r=int.from_bytes(r, "big"), s=int.from_bytes(s, "big")
            )
        else:
            raise FormatError(
                "signature-scheme",
                f"signature scheme {scheme:#06x} is none of RSASSA, RSAPSS and ECDSA",
            )
    except struct.error:
        raise FormatError(
            "signature-truncated", "the signature ends in the middle of a field"
        ) from None
    if end != len(data):
        raise FormatError(
            "signature-trailing-bytes",
            f"{len(data) - end} bytes are left over after the signature",
        )
    return signature


def _sized(data: bytes, offset: int, longest: int) -> tuple[bytes, int]:
    (size,) = _U16.unpack_from(data, offset)
    end = offset + 2 + size
    if size > longest or end > len(data):
        raise FormatError(
            "signature-truncated", f"a field of {size} bytes at {offset} goes beyond the signature"
        )
    return data[offset + 2 : end], end
