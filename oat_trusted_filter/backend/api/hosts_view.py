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
"""Hosts as the interface shows them."""

from typing import Any

import msgspec

from oat_trusted_filter.backend.api.fields import moment, pcr_values
from oat_trusted_filter.backend.api.problems import Problem
from oat_trusted_filter.backend.api.rules import (
    Rules,
    milliseconds,
    moment_of,
    parsed_override,
)
from oat_trusted_filter.backend.store.hosts import Host
from oat_trusted_filter.backend.store.listing import ListedHost


def host_document(
    listed: ListedHost, known: Rules, now: int, *, complete: bool = False
) -> dict[str, Any]:
    """A host in JSON.

    :param now: milliseconds since 1970.
    :param complete: with what only one host at a time is shown with.
    """
    host, verdict = listed.host, listed.verdict
    document: dict[str, Any] = {
        "id": str(host.id),
        "region": host.region,
        "host": host.host,
        "service_host": host.service_host,
        "resource_provider": host.resource_provider,
        "state": host.state,
        "ek_fingerprint": host.ek_fingerprint,
        "software_tpm": host.software_tpm,
        "ek_certificate_status": host.ek_certificate_status,
        "manufacturer": host.manufacturer,
        "level": "unknown" if verdict is None else verdict.level,
        "findings": [] if verdict is None else msgspec.json.decode(verdict.findings),
        "appraised_at": None if verdict is None else moment(verdict.appraised_at),
        "expires_at": None if verdict is None else moment(verdict.deadline),
        "policy": _policy_name(host, known),
        "bound_policy": host.policy or None,
        "labels": {} if host.labels is None else msgspec.json.decode(host.labels),
        "override": _override(host, now),
        "created_at": moment(host.created_at),
    }
    if complete and verdict is not None:
        document["reference_sets"] = msgspec.json.decode(verdict.reference_sets)
        document["boot_log_digest"] = verdict.boot_log_digest
        document["pcrs"] = _pcrs(verdict.pcrs)
    return document


def _policy_name(host: Host, known: Rules) -> str | None:
    """The policy the host is judged by; None if that cannot be told."""
    try:
        return known.policy_of(host.policy, host.labels).name
    except Problem:
        return None


def _override(host: Host, now: int) -> dict[str, Any] | None:
    """The override in force."""
    override = parsed_override(host.override)
    if override is None or override.until <= moment_of(now):
        return None
    return {
        "level": override.level,
        "reason": override.reason,
        "by": override.by,
        "made_at": moment(milliseconds(override.made_at)),
        "until": moment(milliseconds(override.until)),
    }


def _pcrs(text: str | None) -> dict[str, dict[str, str]] | None:
    if text is None:
        return None
    return {
        bank: {str(pcr): value.hex() for pcr, value in sorted(values.items())}
        for bank, values in pcr_values(msgspec.Raw(text.encode())).items()
    }
