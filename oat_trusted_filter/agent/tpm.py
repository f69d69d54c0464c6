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
"""The TPM of this host, through the Enhanced System API of tpm2-pytss.

A :class:`Tpm` is one short connection: opened for a round, closed after it, every transient object
flushed on the way, because a TPM without resource manager has three slots for all programs. What
the TPM or the stack reports becomes a :class:`TpmError` that says what was tried and what to do.

Structures: TCG "TPM 2.0 Library Specification", part 2; commands: part 3.
"""

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from tpm2_pytss import (
    ESAPI,
    ESYS_TR,
    TPM2_ALG,
    TPM2_CAP,
    TPM2_PT,
    TPM2_PT_FIRMWARE,
    TPM2_PT_NV,
    TPM2_PT_VENDOR,
    TPM2_RC,
    TPM2B_DATA,
    TPMA_NV,
    TPML_PCR_SELECTION,
    TPMS_PCR_SELECTION,
    TSS2_Exception,
)

from oat_trusted_filter.agent.errors import TpmError, check_tcti, translated
from oat_trusted_filter.tcg import algorithms

_MAX_PCR_BANKS = 16
_MAX_HANDLES = 254
_PERSISTENT_EK_FIRST = 0x81010000
_PERSISTENT_EK_LAST = 0x8101FFFF
_NV_LARGEST = 64 * 1024
_DEFAULT_NV_BUFFER = 512
_PCR_COUNT = 24


@dataclass(frozen=True, slots=True)
class TpmProperties:
    """What the TPM says of itself."""

    manufacturer: str
    model: str
    firmware: str


class Tpm:
    """A connection to the TPM; use it as a context manager.

    :param tcti: how to reach it, ``name:configuration`` of the TPM2 software stack.
    """

    def __init__(
        self, tcti: str, *, endorsement_password: str = "", owner_password: str = ""
    ) -> None:
        self.tcti = tcti
        self._endorsement_password = endorsement_password
        self._owner_password = owner_password
        self._esapi: Any = None

    def __enter__(self) -> Self:
        check_tcti(self.tcti)
        # The stack logs every refused command to stderr, wanted probes among them. It looks at
        # the variable when it logs for the first time.
        os.environ.setdefault("TSS2_LOG", "all+NONE")
        try:
            self._esapi = ESAPI(self.tcti)
        except (TSS2_Exception, RuntimeError, ValueError, TypeError) as error:
            raise TpmError(
                "tpm-unreachable",
                f"no TPM at [agent] tcti {self.tcti}: {error}",
            ) from error
        try:
            if self._endorsement_password:
                self.esapi.tr_set_auth(ESYS_TR.ENDORSEMENT, self._endorsement_password)
            if self._owner_password:
                self.esapi.tr_set_auth(ESYS_TR.OWNER, self._owner_password)
        except (TSS2_Exception, ValueError) as error:
            self._close()
            raise TpmError(
                "tpm-authorization", f"a password of [agent] cannot be used: {error}"
            ) from error
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close()

    def _close(self) -> None:
        esapi, self._esapi = self._esapi, None
        if esapi is not None:
            esapi.close()

    @property
    def esapi(self) -> Any:
        """The ESAPI context; only while the connection is open."""
        if self._esapi is None:
            raise RuntimeError("the connection to the TPM is not open")
        return self._esapi

    # -- what the TPM is -----------------------------------------------------------------------

    def properties(self) -> TpmProperties:
        """Manufacturer, model and firmware version.

        :raises TpmError: the TPM refused.
        """
        with translated("reading the properties of the TPM"):
            values = self._fixed_properties()
        vendor = b"".join(
            values.get(int(TPM2_PT_VENDOR.STRING_1) + index, 0).to_bytes(4, "big")
            for index in range(4)
        )
        major, minor = (
            values.get(int(tag), 0)
            for tag in (TPM2_PT_FIRMWARE.VERSION_1, TPM2_PT_FIRMWARE.VERSION_2)
        )
        return TpmProperties(
            manufacturer=_text(values.get(int(TPM2_PT.MANUFACTURER), 0).to_bytes(4, "big")),
            model=_text(vendor),
            firmware=f"{major >> 16}.{major & 0xFFFF}.{minor >> 16}.{minor & 0xFFFF}",
        )

    def banks(self) -> tuple[str, ...]:
        """Names of the PCR banks the TPM implements, allocated or not, in its own order.

        The ones that are not allocated are quoted as well: that they show up empty under the
        signature proves that there is no bank for a forger to fill.

        :raises TpmError: the TPM refused, or implements no bank this program knows.
        """
        with translated("reading the PCR banks"):
            _, capability = self.esapi.get_capability(TPM2_CAP.PCRS, 0, _MAX_PCR_BANKS)
            found = [int(bank.hash) for bank in capability.data.assignedPCR]
        names = [algorithms.bank_name(algorithm) for algorithm in found]
        known = tuple(name for name in names if name is not None)
        if not known:
            raise TpmError("tpm-answer", "the TPM has no PCR bank with SHA-1 or SHA-2")
        return known

    # -- PCRs and quotes -----------------------------------------------------------------------

    def quote(
        self, key: Any, banks: Sequence[str], pcrs: Sequence[int], nonce: bytes
    ) -> tuple[bytes, bytes]:
        """Sign the PCRs of all banks named: TPMS_ATTEST and TPMT_SIGNATURE.

        :param key: handle of a loaded signing key.
        :raises TpmError: the TPM refused.
        """
        with translated("TPM2_Quote"):
            attest, signature = self.esapi.quote(
                key, _selection({bank: pcrs for bank in banks}), TPM2B_DATA(nonce)
            )
            return bytes(attest), bytes(signature.marshal())

    def read_pcrs(self, wanted: Mapping[str, Sequence[int]]) -> dict[str, dict[int, bytes]]:
        """The values of PCRs; banks or PCRs that are not allocated are left out.

        The TPM returns about eight values a call, so two values may be from different moments;
        only the digest in a quote says that they belong together.

        :raises TpmError: the TPM refused.
        """
        values: dict[str, dict[int, bytes]] = {}
        for bank, numbers in wanted.items():
            left = sorted(set(numbers))
            while left:
                with translated("TPM2_PCR_Read"):
                    _, selected, digests = self.esapi.pcr_read(_selection({bank: left}))
                    got = _selected(selected[0]) if len(selected) else []
                    read = [bytes(digest) for digest in digests]
                if not got or len(got) != len(read):
                    break  # what is left is not allocated
                values.setdefault(bank, {}).update(zip(got, read, strict=True))
                left = [number for number in left if number not in got]
        return values

    def flush(self, handle: Any) -> None:
        """Free the slot of a transient object or session; harmless if the TPM is gone."""
        with contextlib.suppress(TSS2_Exception):
            self.esapi.flush_context(handle)

    # -- non-volatile memory and persistent keys -----------------------------------------------

    def read_nv(self, index: int) -> bytes | None:
        """All bytes of an NV index, None if there is no such index or nothing was written to it.

        :raises TpmError: the TPM refused.
        """
        with translated(f"reading NV index {index:#010x}", "owner_password"):
            try:
                handle = self.esapi.tr_from_tpmpublic(index)
            except TSS2_Exception as error:
                if error.error == int(TPM2_RC.HANDLE):
                    return None
                raise
            try:
                public, _ = self.esapi.nv_read_public(handle)
                attributes = TPMA_NV(public.nvPublic.attributes)
                if not attributes & TPMA_NV.WRITTEN:
                    return None
                # Certificates are readable with the index' own empty authorization as a rule.
                auth = handle if attributes & TPMA_NV.AUTHREAD else ESYS_TR.OWNER
                size = min(int(public.nvPublic.dataSize), _NV_LARGEST)
                chunk = self._nv_buffer_size()
                data = b""
                while len(data) < size:
                    part = bytes(
                        self.esapi.nv_read(
                            handle, min(chunk, size - len(data)), len(data), auth_handle=auth
                        )
                    )
                    if not part:
                        raise TpmError("tpm-answer", f"NV index {index:#010x} ends early")
                    data += part
                return data
            finally:
                self.esapi.tr_close(handle)

    def nv_indices(self, first: int, last: int) -> list[int]:
        """The NV indices defined in a range.

        :raises TpmError: the TPM refused.
        """
        return self._handles("reading the list of NV indices", first, last)

    def persistent_endorsement_keys(self) -> list[int]:
        """Handles of the keys kept in the range set aside for endorsement keys.

        :raises TpmError: the TPM refused.
        """
        return self._handles(
            "reading the list of persistent keys", _PERSISTENT_EK_FIRST, _PERSISTENT_EK_LAST
        )

    def _handles(self, doing: str, first: int, last: int) -> list[int]:
        with translated(doing):
            _, capability = self.esapi.get_capability(TPM2_CAP.HANDLES, first, _MAX_HANDLES)
            return [int(handle) for handle in capability.data.handles if handle <= last]

    def _fixed_properties(self) -> dict[int, int]:
        _, capability = self.esapi.get_capability(TPM2_CAP.TPM_PROPERTIES, int(TPM2_PT.FIXED), 64)
        return {int(item.property): int(item.value) for item in capability.data.tpmProperties}

    def _nv_buffer_size(self) -> int:
        size = self._fixed_properties().get(int(TPM2_PT_NV.BUFFER_MAX), 0)
        return size if size > 0 else _DEFAULT_NV_BUFFER


def _selection(wanted: Mapping[str, Sequence[int]]) -> TPML_PCR_SELECTION:
    return TPML_PCR_SELECTION(
        [
            TPMS_PCR_SELECTION(hash=TPM2_ALG(algorithms.BANKS[bank]), pcrs=list(pcrs))
            for bank, pcrs in wanted.items()
        ]
    )


def _selected(selection: TPMS_PCR_SELECTION) -> list[int]:
    bitmap = bytes(selection.pcrSelect)[: int(selection.sizeofSelect)]
    return [number for number in range(_PCR_COUNT) if _bit(bitmap, number)]


def _bit(bitmap: bytes, number: int) -> bool:
    return number // 8 < len(bitmap) and bool(bitmap[number // 8] >> (number % 8) & 1)


def _text(data: bytes) -> str:
    return data.split(b"\0")[0].decode("ascii", "replace").strip()
