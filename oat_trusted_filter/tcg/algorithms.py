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
"""Hash algorithms, named as the Linux kernel and tpm2-tools name the PCR banks.

Source: TCG Algorithm Registry, section "TPM_ALG_ID".
"""

import hashlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

#: Name of a PCR bank -> TPM_ALG_ID.
BANKS: Mapping[str, int] = MappingProxyType(
    {"sha1": 0x0004, "sha256": 0x000B, "sha384": 0x000C, "sha512": 0x000D}
)

_NAMES = {number: name for name, number in BANKS.items()}
_SIZES = {"sha1": 20, "sha256": 32, "sha384": 48, "sha512": 64}
# A new one by name would be looked up each time; a copy takes a third less than a new one.
_EMPTY = {
    # SHA-1 is what old banks hold; nothing is trusted because of it alone.
    "sha1": hashlib.sha1(usedforsecurity=False),
    "sha256": hashlib.sha256(),
    "sha384": hashlib.sha384(),
    "sha512": hashlib.sha512(),
}


def bank_name(algorithm: int) -> str | None:
    """The bank of a TPM_ALG_ID, None for those not used for PCRs here."""
    return _NAMES.get(algorithm)


def digest_size(bank: str) -> int:
    """Size of a digest in bytes.

    :raises KeyError: no such bank.
    """
    return _SIZES[bank]


def new_hash(bank: str) -> Any:
    """A hash object of :mod:`hashlib`.

    :raises KeyError: no such bank.
    """
    return _EMPTY[bank].copy()


def _digester(copy: Callable[[], Any]) -> Callable[[bytes], bytes]:
    def digest(data: bytes) -> bytes:
        hashed = copy()
        hashed.update(data)
        result: bytes = hashed.digest()
        return result

    return digest


#: Name of a PCR bank -> what computes a digest of it.
DIGESTERS: Mapping[str, Callable[[bytes], bytes]] = {
    bank: _digester(empty.copy) for bank, empty in _EMPTY.items()
}
