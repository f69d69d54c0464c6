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
"""Boots that no firmware at hand makes: a recorded log changed, and a TPM that started that way.

    python -m tests.lab.derived [--out FOLDER]

The log is rewritten as firmware would have written it; the PCRs are those of a software TPM that
was started and extended accordingly, so they do not follow from this project's own replay.
There is no IMA list: the recorded one begins with a digest over the PCRs of the recorded boot.
"""

import argparse
import dataclasses
import json
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from oat_trusted_filter.tcg.algorithms import DIGESTERS, digest_size
from oat_trusted_filter.tcg.bootlog import EV_EFI_HCRTM_EVENT, EV_NO_ACTION, Event, parse_boot_log
from tests.lab.boots import BOOTS_DIR, DERIVED_BOOTS, Boot, power_on, read_pcrs
from tests.lab.swtpm import SoftwareTpm
from tests.unit.tcg.logs import encode, encode_sha1, first_event

_FROM = "machine-a"
_BANKS = ("sha1", "sha256", "sha384")
_H_CRTM = "lab H-CRTM"


@dataclasses.dataclass(frozen=True)
class Derivation:
    """How a boot comes from the recorded one."""

    shows: str
    log: Callable[[list[Event]], bytes]
    banks: tuple[str, ...] = _BANKS
    h_crtm: str | None = None


def _locality(number: int) -> Event:
    """The event that tells where TPM2_Startup came from (PFP 1.06, 10.4.5.3)."""
    digests = {bank: bytes(digest_size(bank)) for bank in _BANKS}
    return Event(0, 0, EV_NO_ACTION, digests, b"StartupLocality\0" + bytes([number]))


def _with_h_crtm(events: list[Event]) -> bytes:
    digests = {bank: DIGESTERS[bank](_H_CRTM.encode()) for bank in _BANKS}
    # The data is this text whatever was measured (PFP 1.06, 10.4.1).
    return encode([_locality(4), Event(0, 0, EV_EFI_HCRTM_EVENT, digests, b"HCRTM"), *events])


def _in_sha1_format(events: list[Event]) -> bytes:
    return first_event(b"Spec ID Event02\0" + bytes(12)) + encode_sha1(events)


DERIVATIONS = {
    "h-crtm": Derivation(
        "A hardware root of trust measures before TPM2_Startup: PCR 0 begins at 4.",
        _with_h_crtm,
        h_crtm=_H_CRTM,
    ),
    "locality-3": Derivation(
        "TPM2_Startup comes from locality 3: PCR 0 begins at 3.",
        lambda events: encode([_locality(3), *events]),
    ),
    "sha1-log": Derivation(
        "A log in the SHA-1 format, and a TPM with only that bank.", _in_sha1_format, ("sha1",)
    ),
}


def derive(name: str, target: Path) -> None:
    """Write the folder of a derived boot."""
    derivation = DERIVATIONS[name]
    events = list(parse_boot_log(Boot(_FROM).boot_log).events[1:])
    provenance = {
        "name": name,
        "shows": derivation.shows,
        "command": "python -m tests.lab.derived",
        "derived_from": _FROM,
        "secure_boot": True,
        "packages": Boot(_FROM).provenance["packages"],
    }
    if derivation.h_crtm is not None:
        provenance["h_crtm"] = derivation.h_crtm
    folder = target / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "boot_log.bin").write_bytes(derivation.log(events))
    (folder / "ima_log.bin").write_bytes(b"")
    _write_json(folder / "provenance.json", provenance)
    # The values are not known before there are any; the banks are.
    _write_json(folder / "pcrs.json", {bank: {} for bank in derivation.banks})
    with tempfile.TemporaryDirectory() as work:
        tpm = SoftwareTpm(Path(work) / "tpm", Path(work) / "ca", banks=derivation.banks)
        with tpm:
            power_on(Boot(name, target), tpm)
            pcrs = read_pcrs(tpm.tcti, derivation.banks)
    _write_json(
        folder / "pcrs.json",
        {bank: {pcr: value.hex() for pcr, value in of.items()} for bank, of in pcrs.items()},
    )


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n")


def main(arguments: Iterable[str] | None = None) -> None:
    """Derive all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=BOOTS_DIR, help="folder of the recordings")
    options = parser.parse_args(None if arguments is None else list(arguments))
    for name in DERIVED_BOOTS:
        derive(name, options.out)


if __name__ == "__main__":
    main()
