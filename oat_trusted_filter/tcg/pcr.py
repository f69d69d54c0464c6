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
"""PCR values, and the digest over them that a quote signs.

Source: TCG TPM 2.0 Library, Part 1, section "Selecting Multiple PCR"; Part 2, TPMS_QUOTE_INFO.
"""

from collections.abc import Iterable, Mapping

from oat_trusted_filter.tcg.algorithms import digest_size, new_hash
from oat_trusted_filter.tcg.attestation import PcrSelection
from oat_trusted_filter.tcg.errors import FormatError

#: Name of the bank -> PCR -> value.
PcrValues = Mapping[str, Mapping[int, bytes]]

PCR_COUNT = 24


def pcr_digest(selections: Iterable[PcrSelection], values: PcrValues, bank: str) -> bytes:
    """The digest a TPM computes over the selected PCRs: bank after bank, PCR after PCR.

    :param bank: the hash of the signature's scheme, by the name of a bank.
    :raises FormatError: ``pcr-missing``, a selected PCR has no value; ``pcr-length``, a value has
        not the size of its bank's digest.
    """
    digest = new_hash(bank)
    for selection in selections:
        if not selection.mask:
            continue
        name = selection.bank
        of_bank = values.get(name) if name is not None else None
        if name is None or of_bank is None:
            raise FormatError("pcr-missing", f"there are no values of PCR bank {_title(selection)}")
        size = digest_size(name)
        for pcr in selection.pcrs:
            value = of_bank.get(pcr)
            if value is None:
                raise FormatError("pcr-missing", f"the value of PCR {pcr} ({name}) is missing")
            if len(value) != size:
                raise FormatError(
                    "pcr-length",
                    f"the value of PCR {pcr} ({name}) has {len(value)} bytes, not {size}",
                )
            digest.update(value)
    result: bytes = digest.digest()
    return result


def _title(selection: PcrSelection) -> str:
    return selection.bank or f"{selection.algorithm:#06x}"
