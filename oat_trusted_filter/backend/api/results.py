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
"""Verdicts as signed attestation results, for relying parties that want proof.

The token is an EAR ("EAT Attestation Results", draft-ietf-rats-ear), a profile of the Entity
Attestation Token (RFC 9711), as a JWT (RFC 7519). What EAR has no claim for stands under names of
our own that begin with ``oat.``.
"""

import importlib.metadata
from typing import Any

import falcon
import msgspec

from oat_trusted_filter.backend.api.exchange import answer
from oat_trusted_filter.backend.api.fields import checked_host
from oat_trusted_filter.backend.api.hosts import chosen_approved
from oat_trusted_filter.backend.api.problems import Problem
from oat_trusted_filter.backend.api.service import Service
from oat_trusted_filter.backend.appraisal.override import OVERRIDE
from oat_trusted_filter.backend.store import listing
from oat_trusted_filter.backend.store.hosts import Host
from oat_trusted_filter.backend.store.listing import ListedVerdict

TOKEN_TYPE = "eat+jwt"  # noqa: S105  RFC 9711, section 9.4 names the media type
CONTENT_TYPE = "application/eat+jwt"
JWKS_TYPE = "application/jwk-set+json"
#: The profile the implementations of the draft have in common.
PROFILE = "tag:github.com,2023:veraison/ear"
_DEVELOPER = "https://opendev.org/x/oat-trusted-filter"

# Tiers of AR4SI (draft-ietf-rats-ar4si): affirming, contraindicated, none.
_STATUS = {"trusted": "affirming", "untrusted": "contraindicated", "unknown": "none"}
# Claims of AR4SI this verifier can make: 2 is in the affirming tier, 96 in the contraindicated one.
_RECOGNISED, _TAMPERED, _NOTHING = 2, 96, 0


def show(service: Service, req: falcon.Request, resp: falcon.Response, name: str) -> None:
    """The verdict about a host as a signed attestation result (EAR)."""
    now = service.clock()
    service.snapshots.settle(now)
    with service.store.read() as connection:
        host = chosen_approved(connection, checked_host(name), req.context.query.region)
        found = listing.one(connection, host.id)
    if found is None or found.verdict is None:
        raise Problem("host-unknown", f"there is no host {name}")
    token = service.signing.sign(_claims(host, found.verdict, now), TOKEN_TYPE)
    resp.content_type = CONTENT_TYPE
    resp.set_header("Cache-Control", "no-store")
    resp.text = token


def keys(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """The public keys that verify what this backend has signed (RFC 7517)."""
    answer(resp, msgspec.json.encode(service.signing.jwks()))


def _claims(host: Host, verdict: ListedVerdict, now: int) -> dict[str, Any]:
    claims: dict[str, Any] = {
        "eat_profile": PROFILE,
        "iat": now // 1000,
        "ear.verifier-id": {
            "developer": _DEVELOPER,
            "build": f"oat-trusted-filter {importlib.metadata.version('oat-trusted-filter')}",
        },
        "submods": {host.host: _submodule(host, verdict)},
    }
    if verdict.deadline is not None:
        # Never later than the verdict itself.
        claims["exp"] = verdict.deadline // 1000
    return claims


def _submodule(host: Host, verdict: ListedVerdict) -> dict[str, Any]:
    findings = [item["code"] for item in msgspec.json.decode(verdict.findings)]
    value = {"trusted": _RECOGNISED, "untrusted": _TAMPERED}.get(verdict.level, _NOTHING)
    if OVERRIDE in findings:
        # An operator vouches for the host; nobody has recognised what it runs.
        value = _NOTHING
    identity = _NOTHING if verdict.level == "unknown" else _RECOGNISED
    return {
        "ear.status": _STATUS[verdict.level],
        "ear.trustworthiness-vector": {
            # The attestation key was bound to an approved endorsement key.
            "instance-identity": identity,
            "configuration": value,
            "executables": value,
        },
        "ear.appraisal-policy-id": host.policy or "default",
        "oat.level": verdict.level,
        "oat.region": host.region,
        "oat.ek-fingerprint": host.ek_fingerprint,
        "oat.software-tpm": host.software_tpm,
        "oat.appraised-at": None if verdict.appraised_at is None else verdict.appraised_at // 1000,
        "oat.findings": findings,
        "oat.reference-sets": msgspec.json.decode(verdict.reference_sets),
    }
