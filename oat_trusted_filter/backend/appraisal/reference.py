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
"""Reference sets: taking them from hosts, and as documents (JSON, YAML) and back."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from oat_trusted_filter.backend.appraisal.allow_list import IMA_KIND, files_of
from oat_trusted_filter.backend.appraisal.document import (
    DocumentError,
    check_keys,
    check_name,
    pcr_number,
)
from oat_trusted_filter.backend.appraisal.rule_records import (
    Provenance,
    ReferenceEvent,
    ReferenceSet,
)
from oat_trusted_filter.tcg.algorithms import BANKS, digest_size

#: PCRs that firmware and boot loader extend, so that the boot log explains them.
BOOT_PCRS: tuple[int, ...] = (*range(10), 14)
#: What a dynamic launch measures; no log explains it, but machines of one kind have one value.
LAUNCH_PCRS: tuple[int, ...] = (17, 18)
DEFAULT_KIND = "platform"
#: PCRs that are taken for a kind unless others are asked for; for all other kinds BOOT_PCRS.
KIND_PCRS: Mapping[str, tuple[int, ...]] = {
    "firmware": (0, 2),
    "boot-loader": (4,),
    "kernel": (4,),
    "os": (8, 9, 14),
    "txt": LAUNCH_PCRS,
}
_MAX_EVENTS = 2_000
_MOST_NAMES = 1_000
_FIELDS = {
    "kind", "pcrs", "images", "boot_files", "events", "files", "valid_from", "valid_until",
    "provenance",
}  # fmt: skip


def to_document(reference: ReferenceSet) -> dict[str, Any]:
    """The set as plain data."""
    return {
        "name": reference.name,
        "kind": reference.kind,
        "pcrs": {
            bank: {
                str(pcr): sorted(value.hex() for value in values)
                for pcr, values in sorted(of_bank.items())
            }
            for bank, of_bank in reference.pcrs.items()
        },
        "images": {
            bank: sorted(digest.hex() for digest in digests)
            for bank, digests in reference.images.items()
            if digests
        },
        "boot_files": {
            bank: sorted(digest.hex() for digest in digests)
            for bank, digests in reference.boot_files.items()
            if digests
        },
        "events": [
            {
                "pcr": event.pcr,
                "type": event.type,
                "digest": event.digest,
                "description": event.description,
            }
            for event in reference.events
        ],
        **({"files": _files_document(reference)} if reference.files else {}),
        "valid_from": _moment_text(reference.valid_from),
        "valid_until": _moment_text(reference.valid_until),
        **(
            {"provenance": _provenance_document(reference.provenance)}
            if reference.provenance
            else {}
        ),
    }


def _provenance_document(provenance: Provenance) -> dict[str, Any]:
    origin = provenance.origin
    return {
        "source": provenance.source,
        "by": provenance.by,
        "at": _moment_text(provenance.at),
        **({"hosts": list(provenance.hosts)} if provenance.hosts else {}),
        **({"region": provenance.region} if provenance.region else {}),
        **({"files": list(provenance.files)} if provenance.files else {}),
        **({"origin": _provenance_document(origin)} if origin else {}),
    }


def _files_document(reference: ReferenceSet) -> dict[str, list[str]]:
    return {digest: list(paths) for digest, paths in reference.files.items()}


def from_document(document: Any) -> ReferenceSet:
    """The set a document describes.

    :raises DocumentError: it describes none; the message names the field.
    """
    check_keys(document, "reference set", {"name"}, _FIELDS, whole=True)
    valid_from = _moment(document.get("valid_from"), "valid_from")
    valid_until = _moment(document.get("valid_until"), "valid_until")
    if valid_from and valid_until and valid_until <= valid_from:
        raise _invalid("valid_until", "is not after valid_from")
    events = document.get("events") or []
    if not isinstance(events, list) or len(events) > _MAX_EVENTS:
        raise _invalid("events", f"is not a list of up to {_MAX_EVENTS}")
    kind = check_name(document.get("kind", DEFAULT_KIND), "kind")
    pcrs = _pcrs(document.get("pcrs", {}))
    images = _digests(document.get("images", {}), "images")
    boot_files = _digests(document.get("boot_files", {}), "boot_files")
    provenance = document.get("provenance")
    if ("files" in document) != (kind == IMA_KIND):
        raise _invalid("files", f"go with kind {IMA_KIND}, and only with it")
    files = files_of(document["files"]) if kind == IMA_KIND else {}
    if not (pcrs or images or boot_files or files):
        raise DocumentError(
            "reference-invalid", "the set has neither pcrs nor images nor boot_files", ""
        )
    return ReferenceSet(
        name=check_name(document["name"], "name"),
        kind=kind,
        pcrs=pcrs,
        images=images,
        boot_files=boot_files,
        files=files,
        events=tuple(_event(item, f"events[{number}]") for number, item in enumerate(events)),
        valid_from=valid_from,
        valid_until=valid_until,
        provenance=None if provenance is None else _provenance(provenance, "provenance"),
    )


def _invalid(field: str, what: str) -> DocumentError:
    return DocumentError("reference-invalid", f"{field} {what}", field)


def _pcrs(value: Any) -> dict[str, dict[int, frozenset[bytes]]]:
    check_keys(value, "pcrs", set(), set(BANKS))
    found: dict[str, dict[int, frozenset[bytes]]] = {}
    for bank, of_bank in value.items():
        if not isinstance(of_bank, dict) or not of_bank:
            raise _invalid(f"pcrs.{bank}", "is not an object of PCRs")
        found[bank] = {
            pcr_number(pcr, f"pcrs.{bank}"): _values(values, bank, f"pcrs.{bank}.{pcr}")
            for pcr, values in of_bank.items()
        }
    return found


def _digests(value: Any, where: str) -> dict[str, frozenset[bytes]]:
    check_keys(value, where, set(), set(BANKS))
    return {bank: _values(digests, bank, f"{where}.{bank}") for bank, digests in value.items()}


def _provenance(value: Any, where: str) -> Provenance:
    check_keys(value, where, {"source", "by", "at"}, {"hosts", "region", "files", "origin"})
    source, at, origin = value["source"], _moment(value["at"], f"{where}.at"), value.get("origin")
    if source not in ("hosts", "files", "imported", "typed"):
        raise _invalid(f"{where}.source", "is none of hosts, files, imported and typed")
    if at is None:
        raise _invalid(f"{where}.at", "is not a time (RFC 3339)")
    # A document says where its values came from first, and who brought them here.
    if origin is not None and where != "provenance":
        raise _invalid(f"{where}.origin", "is one too many")
    return Provenance(
        source,
        _names([value["by"]], f"{where}.by")[0],
        at,
        _names(value.get("hosts", []), f"{where}.hosts"),
        _names([value.get("region", "")], f"{where}.region")[0],
        _names(value.get("files", []), f"{where}.files"),
        None if origin is None else _provenance(origin, f"{where}.origin"),
    )


def _names(value: Any, where: str) -> tuple[str, ...]:
    if (
        not isinstance(value, list)
        or len(value) > _MOST_NAMES
        or not all(isinstance(x, str) and len(x) <= 300 and x.isprintable() for x in value)
    ):
        raise _invalid(where, "is not a short printable text, or a list of those")
    return tuple(value)


def _values(values: Any, bank: str, where: str) -> frozenset[bytes]:
    if isinstance(values, str):
        values = [values]
    if not isinstance(values, list) or not values:
        raise _invalid(where, "is not a list of values")
    return frozenset(_digest(value, digest_size(bank), where) for value in values)


def _digest(value: Any, size: int, where: str) -> bytes:
    try:
        digest = bytes.fromhex(value)
    except (TypeError, ValueError):
        digest = b""
    if len(digest) != size or digest.hex() != value.lower():
        raise _invalid(where, f"has a value that is not {size} bytes")
    return digest


def _event(item: Any, where: str) -> ReferenceEvent:
    check_keys(item, where, {"pcr", "type", "digest"}, {"description"})
    texts = {name: item.get(name, "") for name in ("type", "digest", "description")}
    for name, text in texts.items():
        if not isinstance(text, str) or len(text) > 300 or not text.isascii():
            raise _invalid(f"{where}.{name}", "is not a short ASCII text")
    return ReferenceEvent(pcr_number(item["pcr"], f"{where}.pcr"), **texts)


def _moment_text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _moment(value: Any, where: str) -> datetime | None:
    if value is None:
        return None
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise _invalid(where, "is not a time (RFC 3339)") from None
    if moment.tzinfo is None:
        raise _invalid(where, "has no time zone")
    return moment


def known_events(reference: ReferenceSet) -> Mapping[int, tuple[ReferenceEvent, ...]]:
    """The events of a set by PCR, in their order."""
    found: dict[int, list[ReferenceEvent]] = {}
    for event in reference.events:
        found.setdefault(event.pcr, []).append(event)
    return {pcr: tuple(events) for pcr, events in found.items()}
