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
from typing import Any

from oat_trusted_filter.backend.appraisal.document import (
    DocumentError,
    check_keys,
    check_name,
    pcr_number,
)
from oat_trusted_filter.backend.appraisal.records import Policy, Requirement

DEFAULT_POLICY = Policy("default")

_LONGEST_PATTERN = 2000


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
    }


def from_document(document: Any) -> Policy:
    """The policy a document describes.

    :raises DocumentError: it describes none; the message names the field.
    """
    check_keys(
        document, "policy", {"name"}, {"secure_boot", "requirements", "kernel_command_line"}
    )
    secure_boot = document.get("secure_boot", "required")
    if secure_boot not in ("required", "optional"):
        raise DocumentError("policy-invalid", "secure_boot is neither required nor optional")
    requirements = document.get("requirements", to_document(DEFAULT_POLICY)["requirements"])
    if not isinstance(requirements, list):
        raise DocumentError("policy-invalid", "requirements is not a list")
    policy = Policy(
        name=check_name(document["name"], "name"),
        secure_boot=secure_boot,
        requirements=tuple(
            _requirement(item, f"requirements[{number}]")
            for number, item in enumerate(requirements)
        ),
        kernel_command_line=_pattern(document.get("kernel_command_line")),
    )
    if policy.secure_boot == "optional" and not policy.requirements:
        raise DocumentError(
            "policy-invalid", "requirements is empty and secure_boot optional: it asks for nothing"
        )
    return policy


def _requirement(item: Mapping[str, Any], where: str) -> Requirement:
    check_keys(item, where, {"kind", "pcrs"}, set())
    pcrs = item["pcrs"]
    if not isinstance(pcrs, list) or not pcrs:
        raise DocumentError("policy-invalid", f"{where}.pcrs is not a list of PCRs")
    numbers = tuple(pcr_number(pcr, f"{where}.pcrs") for pcr in pcrs)
    if len(set(numbers)) != len(numbers):
        raise DocumentError("policy-invalid", f"{where}.pcrs names a PCR twice")
    return Requirement(check_name(item["kind"], f"{where}.kind"), numbers)


def _pattern(pattern: Any) -> str | None:
    if pattern is None:
        return None
    if not isinstance(pattern, str) or len(pattern) > _LONGEST_PATTERN:
        raise DocumentError("policy-invalid", "kernel_command_line is not a regular expression")
    try:
        re.compile(pattern)
    except re.error as error:
        raise DocumentError(
            "policy-invalid", f"kernel_command_line is not a regular expression: {error}"
        ) from error
    return pattern
