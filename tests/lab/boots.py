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
"""The recorded boots under tests/data/boots, and replaying one into a software TPM.

``tools/record-boot`` made them, or :mod:`tests.lab.derived` from one of them; each folder's
``provenance.json`` says how and what it shows. After :func:`replay` a software TPM has the PCRs of
the machine that was recorded, so it can quote them, and ``boot.boot_log`` is the log that explains
them: a booted host, in ten milliseconds.
"""

import hashlib
import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oat_trusted_filter.tcg import bootlog

if TYPE_CHECKING:
    from tpm2_pytss import ESAPI

    from tests.lab.swtpm import SoftwareTpm

BOOTS_DIR = Path(__file__).resolve().parent.parent / "data" / "boots"

#: The names of the recordings whose IMA list leads to PCR 10; the first two are good machines with
#: the same software.
BOOTS = (
    "machine-a", "machine-b", "machine-a-cmdline", "machine-a-loader", "direct",
    "machine-c", "sha384", "uki",
)  # fmt: skip
#: Kernel and IMA list are not those that the boot log tells of.
KEXEC_BOOT = "kexec"
#: Made from a recording, see :mod:`tests.lab.derived`.
DERIVED_BOOTS = ("h-crtm", "locality-3", "sha1-log")

_EV_NO_ACTION = 3
_IMA_PCR = 10
_PCRS = range(24)
# TPM2_PCR_Read returns eight digests at most.
_READ_AT_ONCE = 8


class ReplayError(Exception):
    """The boot cannot be replayed into this TPM; the text says why."""


class Boot:
    """One recording.

    :param name: a name of :data:`BOOTS`, or of a folder under ``folder``.
    """

    def __init__(self, name: str, folder: Path = BOOTS_DIR) -> None:
        self.name = name
        self.folder = folder / name

    def __repr__(self) -> str:
        return f"Boot({self.name!r})"

    @cached_property
    def boot_log(self) -> bytes:
        """The TCG boot log as securityfs gave it."""
        return (self.folder / "boot_log.bin").read_bytes()

    @property
    def boot_log_path(self) -> Path:
        """The file of the boot log, for an agent's configuration."""
        return self.folder / "boot_log.bin"

    @cached_property
    def ima_log(self) -> bytes:
        """IMA's binary_runtime_measurements."""
        return (self.folder / "ima_log.bin").read_bytes()

    @cached_property
    def pcrs(self) -> Mapping[str, Mapping[int, bytes]]:
        """All 24 PCRs of each bank as the booted system read them from its TPM."""
        banks = json.loads((self.folder / "pcrs.json").read_bytes())
        return {
            bank: {int(pcr): bytes.fromhex(value) for pcr, value in values.items()}
            for bank, values in banks.items()
        }

    @cached_property
    def provenance(self) -> Mapping[str, Any]:
        """How the recording was made."""
        return json.loads((self.folder / "provenance.json").read_bytes())


@dataclass(frozen=True, slots=True)
class ImaEntry:
    """One entry of an IMA log: the PCR, the SHA-1 template digest, and what it was taken over."""

    pcr: int
    template_digest: bytes
    template: str
    data: bytes


def ima_entries(log: bytes) -> Iterator[ImaEntry]:
    """Read a binary IMA log of templates with a length field (all but the oldest, "ima").

    :raises struct.error: the log ends inside an entry.
    """
    offset = 0
    while offset < len(log):
        pcr, digest, name_length = struct.unpack_from("<I20sI", log, offset)
        offset += 28
        name = log[offset : offset + name_length].decode("ascii")
        offset += name_length
        (data_length,) = struct.unpack_from("<I", log, offset)
        offset += 4
        yield ImaEntry(pcr, digest, name, log[offset : offset + data_length])
        offset += data_length


def power_on(boot: Boot, software: "SoftwareTpm") -> None:
    """Reboot a host: its TPM starts the way it did when the boot was recorded, and all is replayed.

    :raises ReplayError: as :func:`replay`.
    """
    log = bootlog.parse_boot_log(boot.boot_log)
    software.power_cycle(
        locality=0 if log.h_crtm else log.startup_locality, h_crtm=boot.provenance.get("h_crtm")
    )
    replay(boot, software.tcti)


def replay(boot: Boot, tcti: str) -> None:
    """Extend a freshly started TPM with all the boot measured, so its PCRs are the recorded ones.

    :raises ReplayError: the TPM is not as fresh as the recorded one was: power-cycle it first, with
        :func:`power_on` if the boot did not begin at locality 0.
    """
    from tpm2_pytss import ESAPI

    log = bootlog.parse_boot_log(boot.boot_log)
    events = [event for event in log.events if event.type != _EV_NO_ACTION]
    before = [event for event in events if event.type == bootlog.EV_EFI_HCRTM_EVENT]
    with ESAPI(tcti) as tpm:
        for bank in boot.pcrs:
            size = hashlib.new(bank).digest_size
            value = bytes(size - 1) + bytes([log.startup_locality])
            for event in before:
                value = hashlib.new(bank, value + event.digests[bank]).digest()
            if dict(_read(tpm, bank, (0, _IMA_PCR))) != {0: value, _IMA_PCR: bytes(size)}:
                raise ReplayError("the TPM's PCRs are in use already: power-cycle it first")
        for event in events:
            if event not in before:
                _extend(tpm, event.pcr, event.digests)
        for pcr, digests in _ima_extends(boot):
            _extend(tpm, pcr, digests)


def launch_dynamically(software: "SoftwareTpm", loader: str, kernel: str) -> None:
    """Launch as Intel TXT does: the processor measures SINIT into PCR 17, which measures more.

    :param loader: what is measured into PCR 17, by name.
    :param kernel: what is measured into PCR 18.
    """
    from tpm2_pytss import ESAPI

    software.hash_sequence(loader)
    with ESAPI(software.tcti) as tpm:
        # Locality 2 is that of the launched environment; others may not extend these.
        tpm.tcti.set_locality(2)
        for pcr, text in ((17, f"policy of {loader}"), (18, kernel)):
            digests = {
                bank: hashlib.new(bank, text.encode()).digest() for bank in software.banks
            }
            _extend(tpm, pcr, digests)


def extend_pcr(tcti: str, pcr: int, digests: Mapping[str, bytes]) -> None:
    """Extend a PCR once in each of these banks, as the running system does."""
    from tpm2_pytss import ESAPI

    with ESAPI(tcti) as tpm:
        _extend(tpm, pcr, digests)


def read_pcrs(tcti: str, banks: tuple[str, ...]) -> dict[str, dict[int, bytes]]:
    """Read all 24 PCRs of the banks from a TPM."""
    from tpm2_pytss import ESAPI

    with ESAPI(tcti) as tpm:
        return {
            bank: {
                pcr: value
                for first in range(0, len(_PCRS), _READ_AT_ONCE)
                for pcr, value in _read(tpm, bank, _PCRS[first : first + _READ_AT_ONCE])
            }
            for bank in banks
        }


def _ima_extends(boot: Boot) -> Iterator[tuple[int, dict[str, bytes]]]:
    """What IMA extended for each of its entries.

    Linux extends a bank with the bank's own hash of the template data if it had that hash at hand
    when it started, otherwise with the SHA-1 digest and zeros; which one, only PCR 10 tells.
    """
    if not boot.ima_log:
        return
    entries = list(ima_entries(boot.ima_log))
    columns: dict[str, list[bytes]] = {}
    for bank, values in boot.pcrs.items():
        for column in (
            [_ima_digest(entry, bank, padded=False) for entry in entries],
            [_ima_digest(entry, bank, padded=True) for entry in entries],
        ):
            if _extended(bank, column) == values[_IMA_PCR]:
                columns[bank] = column
                break
        else:
            raise ReplayError(f"the IMA log of {boot.name} does not lead to its PCR 10 ({bank})")
    for number, entry in enumerate(entries):
        yield entry.pcr, {bank: column[number] for bank, column in columns.items()}


def _ima_digest(entry: ImaEntry, bank: str, *, padded: bool) -> bytes:
    size = hashlib.new(bank).digest_size
    if not any(entry.template_digest):
        # A violation is logged as zeros and extended as ones.
        return b"\xff" * size
    if padded:
        return entry.template_digest.ljust(size, b"\0")
    return hashlib.new(bank, entry.data).digest()


def _extended(bank: str, digests: list[bytes]) -> bytes:
    value = bytes(hashlib.new(bank).digest_size)
    for digest in digests:
        value = hashlib.new(bank, value + digest).digest()
    return value


def _extend(tpm: "ESAPI", pcr: int, digests: Mapping[str, bytes]) -> None:
    from tpm2_pytss import (
        ESYS_TR,
        TPM2_ALG,
        TPML_DIGEST_VALUES,
        TPMT_HA,
        TPMU_HA,
    )

    tpm.pcr_extend(
        ESYS_TR(pcr),
        TPML_DIGEST_VALUES(
            [
                TPMT_HA(hashAlg=TPM2_ALG.parse(bank), digest=TPMU_HA(**{bank: digest}))
                for bank, digest in digests.items()
            ]
        ),
    )


def _read(tpm: "ESAPI", bank: str, pcrs: range | tuple[int, ...]) -> Iterator[tuple[int, bytes]]:
    from tpm2_pytss import TPML_PCR_SELECTION

    wanted = f"{bank}:{','.join(map(str, pcrs))}"
    _, _, values = tpm.pcr_read(TPML_PCR_SELECTION.parse(wanted))
    return zip(pcrs, (bytes(value) for value in values), strict=True)
