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

import functools
import operator
from collections.abc import Callable, Iterable, Mapping

from oat_trusted_filter.tcg.algorithms import DIGESTERS, bank_name, digest_size
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
    selected: list[bytes] = []
    for selection in selections:
        if not selection.mask:
            continue
        name = bank_name(selection.algorithm)
        of_bank = values.get(name) if name is not None else None
        if name is None or of_bank is None:
            raise FormatError("pcr-missing", f"there are no values of PCR bank {_title(selection)}")
        try:
            found = _picker(selection.mask)(of_bank)
        except KeyError as error:
            raise FormatError(
                "pcr-missing", f"the value of PCR {error.args[0]} ({name}) is missing"
            ) from None
        if [*map(len, found)] != [digest_size(name)] * len(found):
            raise _wrong_length(name, selection, found)
        selected += found
    # At once: an update for each of 66 values takes longer than the hash itself.
    return DIGESTERS[bank](b"".join(selected))


# Of all hosts the same; the whole check of a quote has microseconds beside that of its signature.
@functools.lru_cache(maxsize=64)
def _picker(mask: int) -> Callable[[Mapping[int, bytes]], tuple[bytes, ...]]:
    """What takes the values of these PCRs out of those of a bank, in ascending order."""
    pcrs = PcrSelection(0, mask).pcrs
    if len(pcrs) == 1:
        return lambda values: (values[pcrs[0]],)
    return operator.itemgetter(*pcrs)


def _wrong_length(bank: str, selection: PcrSelection, values: tuple[bytes, ...]) -> FormatError:
    size = digest_size(bank)
    pcr, value = next(
        (pcr, value)
        for pcr, value in zip(selection.pcrs, values, strict=True)
        if len(value) != size
    )
    return FormatError(
        "pcr-length", f"the value of PCR {pcr} ({bank}) has {len(value)} bytes, not {size}"
    )


def _title(selection: PcrSelection) -> str:
    return selection.bank or f"{selection.algorithm:#06x}"
