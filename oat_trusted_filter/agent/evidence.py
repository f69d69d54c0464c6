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
"""Evidence: a quote, the PCR values that explain it, and the boot log that explains those."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from oat_trusted_filter.agent.attestation_key import AttestationKey
from oat_trusted_filter.agent.errors import BootLogError, TpmError
from oat_trusted_filter.agent.tpm import Tpm
from oat_trusted_filter.tcg.attestation import parse_quote
from oat_trusted_filter.tcg.errors import FormatError
from oat_trusted_filter.tcg.pcr import pcr_digest
from oat_trusted_filter.tcg.public import parse_public, signing_bank

#: A boot log of real firmware is 20 to 100 kB; a file this large is something else.
BOOT_LOG_LARGEST = 8 * 1024 * 1024

# The kernel extends PCR 10 whenever IMA measures a file, so a quote and the values read after it
# may be of two states. On a busy host the next attempt or the one after fits.
_ATTEMPTS = 10


@dataclass(frozen=True, slots=True)
class SignedPcrs:
    """A quote with the values of all PCRs in it."""

    quote: bytes
    """TPMS_ATTEST."""
    signature: bytes
    """TPMT_SIGNATURE."""
    pcrs: dict[str, dict[int, bytes]]
    tags: tuple[bytes, bytes] | None = None
    """What the TPM certifies of the NV index for tags: TPMS_ATTEST and TPMT_SIGNATURE."""


@dataclass(frozen=True, slots=True)
class BootLogFile:
    """The boot log as the firmware left it."""

    data: bytes
    digest: str
    """SHA-256, hexadecimal: how a log is named that the backend has seen."""


def sign_pcrs(tpm: Tpm, key: AttestationKey, pcrs: Sequence[int], nonce: bytes) -> SignedPcrs:
    """Quote the PCRs in all banks the TPM implements, and read the values that fit the quote.

    Banks that are not allocated are asked for as well: the TPM signs that they are empty.

    :raises TpmError: the TPM refused, or ``tpm-pcrs-moving`` if no values fitted a quote.
    """
    banks = tpm.banks()
    # TPM2_Quote digests the PCRs with the hash the key signs with.
    bank = signing_bank(parse_public(key.public))
    for _ in range(_ATTEMPTS):
        attest, signature = tpm.quote(key.handle, banks, pcrs, nonce)
        try:
            quote = parse_quote(attest)
            values = tpm.read_pcrs(
                {item.bank: item.pcrs for item in quote.selections if item.bank and item.pcrs}
            )
            if pcr_digest(quote.selections, values, bank) == quote.pcr_digest:
                return SignedPcrs(attest, signature, values)
        except FormatError as error:
            raise TpmError("tpm-answer", f"the TPM signed an odd quote: {error}") from error
    raise TpmError(
        "tpm-pcrs-moving", f"the PCRs changed after each of {_ATTEMPTS} quotes before being read"
    )


def read_boot_log(path: Path) -> BootLogFile:
    """Read the boot log.

    :raises BootLogError: there is none, it is empty or far too large, or may not be read.
    """
    try:
        with path.open("rb") as file:
            # Files under securityfs have no size, so the limit has to be on what is read.
            data = file.read(BOOT_LOG_LARGEST + 1)
    except OSError as error:
        advice = {
            FileNotFoundError: "; is securityfs mounted, and does the firmware log to a TPM?",
            PermissionError: "; under /sys only root or CAP_DAC_READ_SEARCH may read it",
        }.get(type(error), "")
        raise BootLogError(
            "boot-log-unreadable",
            f"[agent] boot_log {path} cannot be read: {error.strerror}{advice}",
        ) from error
    if not data:
        raise BootLogError("boot-log-empty", f"[agent] boot_log {path} is empty")
    if len(data) > BOOT_LOG_LARGEST:
        raise BootLogError(
            "boot-log-too-large",
            f"[agent] boot_log {path} is larger than {BOOT_LOG_LARGEST} bytes, so it is none",
        )
    return BootLogFile(data, hashlib.sha256(data).hexdigest())
