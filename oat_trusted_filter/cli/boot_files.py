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
"""Reference values out of files: what of a boot can be told before anybody boots it.

Firmware and shim measure each EFI image they start by its Authenticode digest (PCR 4). GRUB, and
the EFI stub of Linux for the initrd, measure each file they load as it is (PCR 9). Both digests
follow from the file. The values of PCRs do not: they depend on order and number of all that was
measured, on configuration and firmware, so they have to be taken from a host.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from oat_trusted_filter.cli.errors import UsageError
from oat_trusted_filter.tcg.algorithms import DIGESTERS
from oat_trusted_filter.tcg.authenticode import image_digests, is_image
from oat_trusted_filter.tcg.errors import FormatError

#: Banks there are TPMs with; SHA-1 is for those that have it beside another one.
_BANKS = ("sha1", "sha256", "sha384")
_LARGEST_FILE = 1024 * 1024 * 1024
_IMAGE_EVENT = "EV_EFI_BOOT_SERVICES_APPLICATION"
_FILE_EVENT = "EV_IPL"


def document_of(kind: str, names: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """A set with the digests of files, and a sentence about each of these.

    :raises UsageError: a file cannot be read, or is an EFI image that is broken.
    """
    images: dict[str, set[str]] = {}
    files: dict[str, set[str]] = {}
    events, said = [], []
    for name in names:
        data = _content(name)
        shown = ascii(Path(name).name)[1:-1][:200]
        for bank in _BANKS:
            files.setdefault(bank, set()).add(DIGESTERS[bank](data).hex())
        events.append(_event(9, _FILE_EVENT, DIGESTERS["sha256"](data), shown))
        if not is_image(data):
            said.append(
                f"{name}: no EFI image; its digest is for boot_files (PCR 9), where GRUB and the "
                "EFI stub of Linux measure what they load"
            )
            continue
        try:
            for bank in _BANKS:
                found = image_digests(data, bank)
                images.setdefault(bank, set()).update(digest.hex() for digest in found)
                if bank == "sha256":
                    events += [_event(4, _IMAGE_EVENT, digest, shown) for digest in found]
        except FormatError as error:
            raise UsageError(f"{name}: {error}") from error
        said.append(
            f"{name}: EFI image; its Authenticode digest is for images (PCR 4), that of the file "
            "for boot_files (PCR 9)"
        )
    said.append("values of PCRs do not follow from files: take them from a host, --from-host")
    document = {
        "kind": kind,
        "boot_files": {bank: sorted(digests) for bank, digests in files.items()},
        "events": events,
    }
    if images:
        document["images"] = {bank: sorted(digests) for bank, digests in images.items()}
    return document, said


def _event(pcr: int, kind: str, digest: bytes, description: str) -> dict[str, Any]:
    return {"pcr": pcr, "type": kind, "digest": digest.hex(), "description": description}


def _content(name: str) -> bytes:
    try:
        with Path(name).open("rb") as file:
            data = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise UsageError(f"cannot read {name}: {error.strerror}") from error
    if not 0 < len(data) <= _LARGEST_FILE:
        raise UsageError(f"{name} is empty, or larger than {_LARGEST_FILE} bytes")
    return data
