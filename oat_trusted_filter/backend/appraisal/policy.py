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
"""Policies as documents (JSON, YAML) and back."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from oat_trusted_filter.backend.appraisal.document import (
    DocumentError,
    check_keys,
    check_labels,
    check_name,
    pcr_number,
)
from oat_trusted_filter.backend.appraisal.patterns import PatternError, Patterns
from oat_trusted_filter.backend.appraisal.rule_records import (
    ImaPolicy,
    Policy,
    Requirement,
    TagPolicy,
)
from oat_trusted_filter.backend.appraisal.tpm_state import firmware_version
from oat_trusted_filter.tcg.errors import FormatError
from oat_trusted_filter.tcg.file_signature import FileKeys
from oat_trusted_filter.traits import TraitError, check_tag

DEFAULT_POLICY = Policy("default")

_FIELDS = {
    "secure_boot", "requirements", "kernel_command_line", "certificates", "dbx_minimum", "images",
    "boot_files", "dynamic_launch", "ima", "orderly_shutdown", "tpm_firmware", "max_age", "labels",
    "tags",
}  # fmt: skip
_LONGEST_PATTERN = 2000
_MOST_PATTERNS = 500
_MOST_KEYS = 16
_LONGEST_KEY = 32_768
_MOST_TAGS = 64
_MOST_VALUES = 1000
_AGES = range(10, 86_401)
_VERSION = re.compile(r"0[xX][0-9a-fA-F]{1,16}", re.ASCII)
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


def to_document(policy: Policy) -> dict[str, Any]:
    """The policy as plain data."""
    return {
        "name": policy.name,
        "secure_boot": policy.secure_boot,
        "requirements": [
            {"kind": requirement.kind, "pcrs": list(requirement.pcrs)}
            for requirement in policy.requirements
        ],
        "kernel_command_line": policy.kernel_command_line,
        "certificates": {name: sorted(known) for name, known in policy.certificates.items()},
        "dbx_minimum": sorted(policy.dbx_minimum),
        "images": list(policy.images),
        "boot_files": list(policy.boot_files),
        "dynamic_launch": policy.dynamic_launch,
        "ima": {
            "mode": policy.ima.mode,
            "exclude": list(policy.ima.exclude),
            "keys": list(policy.ima.keys),
        },
        "orderly_shutdown": policy.orderly_shutdown,
        "tpm_firmware": [firmware_version(number) for number in sorted(policy.tpm_firmware)],
        "max_age": policy.max_age,
        "labels": dict(policy.labels),
        "tags": {
            "require": {name: sorted(values) for name, values in policy.tags.require.items()},
            "nvram": policy.tags.nvram,
        },
    }


def from_document(document: Any, *, stored: bool = False) -> Policy:
    """The policy a document describes.

    :param stored: by this release or an earlier one, whose patterns may be none any more; whoever
        uses them finds out, so that one policy cannot keep the others from being read.
    :raises DocumentError: it describes none; the message names the field.
    """
    check_keys(document, "policy", {"name"}, _FIELDS, whole=True)
    requirements = document.get("requirements", to_document(DEFAULT_POLICY)["requirements"])
    if not isinstance(requirements, list):
        raise _invalid("requirements", "is not a list")
    policy = Policy(
        name=check_name(document["name"], "name"),
        secure_boot=_demand(document, "secure_boot", "required"),
        requirements=tuple(
            _requirement(item, f"requirements[{number}]")
            for number, item in enumerate(requirements)
        ),
        kernel_command_line=(
            None
            if document.get("kernel_command_line") is None
            else _pattern(document["kernel_command_line"], "kernel_command_line", stored=stored)
        ),
        certificates=_certificates(document.get("certificates", {})),
        dbx_minimum=_fingerprints(document.get("dbx_minimum", []), "dbx_minimum"),
        images=_kinds(document.get("images", []), "images"),
        boot_files=_kinds(document.get("boot_files", []), "boot_files"),
        dynamic_launch=_demand(document, "dynamic_launch", "optional"),
        ima=_ima(document.get("ima", {}), stored=stored),
        tags=_tags(document.get("tags", {})),
        orderly_shutdown=_demand(document, "orderly_shutdown", "optional"),
        tpm_firmware=_versions(document.get("tpm_firmware", [])),
        max_age=_max_age(document.get("max_age")),
        labels=check_labels(document.get("labels", {}), "labels"),
    )
    if policy.labels and policy.name == DEFAULT_POLICY.name:
        raise DocumentError(
            "policy-invalid",
            f"policy {policy.name} is for the hosts no other one is for: it has no labels",
            "labels",
        )
    demanding = replace(policy, max_age=None, labels={})
    if policy.ima.mode != "enforce":
        demanding = replace(demanding, ima=ImaPolicy())
    if demanding == Policy(policy.name, "optional", ()):
        raise _invalid("requirements", "is empty and secure_boot optional: it asks for nothing")
    return policy


def _invalid(field: str, what: str) -> DocumentError:
    return DocumentError("policy-invalid", f"{field} {what}", field)


def _demand(
    document: Mapping[str, Any], name: str, default: Literal["required", "optional"]
) -> Literal["required", "optional"]:
    value = document.get(name, default)
    if value == "required":
        return "required"
    if value == "optional":
        return "optional"
    raise _invalid(name, "is neither required nor optional")


def _certificates(value: Any) -> dict[str, frozenset[str]]:
    check_keys(value, "certificates", set(), {"PK", "KEK", "db"})
    return {name: _fingerprints(known, f"certificates.{name}") for name, known in value.items()}


def _fingerprints(value: Any, where: str) -> frozenset[str]:
    if not isinstance(value, list) or not all(
        isinstance(item, str) and _FINGERPRINT.fullmatch(item.lower()) for item in value
    ):
        raise _invalid(where, "is not a list of SHA-256 digests (64 hexadecimal digits)")
    return frozenset(item.lower() for item in value)


def _kinds(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise _invalid(where, "is not a list of kinds of reference sets")
    return tuple(check_name(kind, f"{where}[{number}]") for number, kind in enumerate(value))


def _versions(value: Any) -> frozenset[int]:
    if not isinstance(value, list):
        raise _invalid("tpm_firmware", "is not a list of versions")
    return frozenset(_version(item, f"tpm_firmware[{number}]") for number, item in enumerate(value))


def _version(value: Any, where: str) -> int:
    # YAML takes 0x7000200110000 for a number.
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**64:
        return value
    if isinstance(value, str) and _VERSION.fullmatch(value):
        return int(value, 16)
    raise _invalid(where, "is not a version (0x and up to 16 hexadecimal digits)")


def _max_age(value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value not in _AGES:
        raise _invalid("max_age", f"is not a number of seconds from {_AGES[0]} to {_AGES[-1]}")
    return value


def _requirement(item: Mapping[str, Any], where: str) -> Requirement:
    check_keys(item, where, {"kind", "pcrs"}, set())
    pcrs = item["pcrs"]
    if not isinstance(pcrs, list) or not pcrs:
        raise _invalid(f"{where}.pcrs", "is not a list of PCRs")
    numbers = tuple(pcr_number(pcr, f"{where}.pcrs") for pcr in pcrs)
    if len(set(numbers)) != len(numbers):
        raise _invalid(f"{where}.pcrs", "names a PCR twice")
    return Requirement(check_name(item["kind"], f"{where}.kind"), numbers)


def _ima(value: Any, *, stored: bool) -> ImaPolicy:
    check_keys(value, "ima", set(), {"mode", "exclude", "keys"})
    mode = value.get("mode", "off")
    if mode not in ("off", "report", "enforce"):
        raise _invalid("ima.mode", "is none of off, report and enforce")
    exclude = _texts(value.get("exclude", []), "ima.exclude", _MOST_PATTERNS, _LONGEST_PATTERN)
    keys = _texts(value.get("keys", []), "ima.keys", _MOST_KEYS, _LONGEST_KEY)
    for number, pattern in enumerate(exclude):
        _pattern(pattern, f"ima.exclude[{number}]", stored=stored)
    for number, key in enumerate(keys):
        try:
            FileKeys([key])
        except FormatError as error:
            raise _invalid(f"ima.keys[{number}]", f"is not a public key: {error}") from error
    return ImaPolicy(mode, exclude, keys)


def _tags(value: Any) -> TagPolicy:
    check_keys(value, "tags", set(), {"require", "nvram"})
    require = value.get("require", {})
    if not isinstance(require, Mapping) or len(require) > _MOST_TAGS:
        raise _invalid("tags.require", f"is not an object of up to {_MOST_TAGS} names of tags")
    nvram = value.get("nvram", "optional")
    if nvram not in ("required", "optional"):
        raise _invalid("tags.nvram", "is neither required nor optional")
    return TagPolicy({name: _tag(name, wanted) for name, wanted in require.items()}, nvram)


def _tag(name: Any, values: Any) -> frozenset[str]:
    where = f"tags.require.{name}"
    texts = _texts(values, where, _MOST_VALUES, _LONGEST_PATTERN)
    if not texts:
        raise _invalid(where, "lists no value")
    try:
        for text in texts:
            check_tag(str(name), text)
    except TraitError as error:
        raise _invalid(where, f"is no tag: {error}") from error
    return frozenset(texts)


def _texts(value: Any, where: str, most: int, longest: int) -> tuple[str, ...]:
    if (
        not isinstance(value, list)
        or len(value) > most
        or not all(isinstance(item, str) and len(item) <= longest for item in value)
    ):
        raise _invalid(where, f"is not a list of up to {most} texts of {longest} characters")
    return tuple(value)


def _pattern(pattern: Any, where: str, *, stored: bool) -> str:
    if not isinstance(pattern, str) or len(pattern) > _LONGEST_PATTERN:
        raise _invalid(where, "is not a regular expression")
    if stored:
        return pattern
    try:
        Patterns([pattern])
    except PatternError as error:
        raise _invalid(where, f"is not a regular expression: {error}") from error
    return pattern
