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
"""All routes: who may call each of them, what it takes, and what comes of it."""

import functools
from typing import Any

import falcon
import msgspec

from oat_trusted_filter.backend.api import (
    audit,
    authorities,
    bindings,
    challenges,
    ek_authorities,
    enforcers,
    enrolment_tokens,
    enrolments,
    evidence,
    health,
    hosts,
    metrics,
    openapi,
    policies,
    queries,
    rebinding,
    reference_sets,
    registrations,
    replies,
    reports,
    results,
    snapshots,
    submission,
    tags,
    verdicts,
    versions,
)
from oat_trusted_filter.backend.api.exchange import answer
from oat_trusted_filter.backend.api.route import PUBLIC, Route
from oat_trusted_filter.backend.api.service import Service
from oat_trusted_filter.backend.store.credentials import ADMIN, READER, SERVICE

__all__ = ["PUBLIC", "ROUTES", "Route"]

_HOST = ("host-unknown", "host-ambiguous")
_REPORT = ("report-unknown", "report-without-evidence")


def describe(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """The description of this interface, OpenAPI 3.1."""
    answer(resp, _description())


@functools.cache
def _description() -> bytes:
    return msgspec.json.encode(openapi.describe(ROUTES))


ROUTES = (
    Route("GET", "/", PUBLIC, versions.index, reply=replies.VersionsDocument),
    Route("GET", "/v1/", PUBLIC, versions.show, reply=replies.OneVersionDocument),
    Route("GET", "/healthz", PUBLIC, health.live, reply=replies.HealthDocument),
    Route(
        "GET", "/healthcheck", PUBLIC, health.check,
        reply=replies.HealthChecksDocument, problems=("clock-behind",),
    ),
    Route("GET", "/metrics", READER, metrics.show),
    Route("GET", "/v1/openapi.json", PUBLIC, describe, reply=dict[str, Any]),
    Route(
        "GET", "/v1/authorities", PUBLIC, authorities.index,
        reply=replies.AuthoritiesDocument, problems=("authority-unknown",),
    ),
    Route(
        "POST", "/v1/enrolments", PUBLIC, enrolments.create,
        body=enrolments.EnrolmentBody, reply=replies.EnrolmentBegun, status=201,
        problems=("banks-invalid", "ek-software-tpm"), passed_on=(400, 403), limit="enrolments",
    ),
    Route(
        "PUT", "/v1/enrolments/{number}", PUBLIC, enrolments.activate,
        body=enrolments.SecretBody, reply=replies.EnrolmentDone,
        problems=(
            "enrolment-unknown", "activation-failed", "banks-changed", "ek-certificate-missing",
        ),
        limit="activations",
    ),
    Route(
        "GET", "/v1/enrolment-tokens", READER, enrolment_tokens.index,
        reply=replies.EnrolmentTokensDocument, query=queries.EnrolmentTokensQuery,
        problems=("marker-unknown",),
    ),
    Route(
        "POST", "/v1/enrolment-tokens", ADMIN, enrolment_tokens.create,
        body=enrolment_tokens.TokenBody, reply=replies.EnrolmentTokenDocument, status=201,
    ),
    Route(
        "DELETE", "/v1/enrolment-tokens/{number}", ADMIN, enrolment_tokens.revoke,
        status=204, problems=("enrolment-token-unknown",),
    ),
    Route(
        "POST", "/v1/challenges", PUBLIC, challenges.create,
        body=challenges.ChallengeRequest, reply=replies.ChallengeDocument, limit="challenges",
    ),
    Route(
        "POST", "/v1/evidence", PUBLIC, evidence.submit,
        body=submission.EvidenceBody, reply=replies.Judgement,
        problems=(
            "challenge-malformed", "challenge-invalid", "challenge-expired", "challenge-spent",
            "host-unknown", "host-pending", "policy-ambiguous",
            "boot-log-digest", "boot-log-needed",
            "ima-offset", "tpm-cleared", "ek-software-tpm", "verifier-error", "service-busy",
        ),
        passed_on=(400, 403, 422),
    ),
    Route(
        "GET", "/v1/hosts", READER, hosts.index,
        reply=replies.HostsDocument, query=queries.HostsQuery, problems=("marker-unknown",),
        regional=True,
    ),
    Route(
        "POST", "/v1/hosts", ADMIN, hosts.register,
        body=hosts.RegisterBody, reply=replies.HostDocument, status=201,
        problems=("host-already-approved", "ek-already-approved"), regional=True,
    ),
    Route(
        "POST", "/v1/registrations", ADMIN, registrations.create,
        body=registrations.RegistrationsBody, reply=registrations.RegistrationsDocument,
        status=201, problems=("import-refused",),
    ),
    Route(
        "GET", "/v1/hosts/{name}", READER, hosts.show,
        reply=replies.HostDocument, query=queries.RegionQuery, problems=_HOST, regional=True,
    ),
    Route(
        "PATCH", "/v1/hosts/{name}", ADMIN, bindings.change,
        body=bindings.ChangeBody, reply=replies.HostDocument,
        problems=(*_HOST, "policy-unknown", "policy-ambiguous", "service-busy"), passed_on=(400,),
        regional=True,
    ),
    Route(
        "DELETE", "/v1/hosts/{name}", ADMIN, hosts.delete,
        status=204, query=queries.BindingQuery, problems=_HOST, regional=True,
    ),
    Route(
        "POST", "/v1/hosts/{name}/approve", ADMIN, hosts.approve,
        body=hosts.ApproveBody, reply=replies.HostDocument,
        problems=(
            *_HOST, "host-already-approved", "ek-already-approved", "host-not-enrolled"
        ),
        regional=True,
    ),
    Route(
        "POST", "/v1/hosts/{name}/rebind", ADMIN, rebinding.rebind,
        body=rebinding.RebindBody, reply=replies.HostDocument,
        problems=(*_HOST, "host-pending", "ek-already-approved", "host-not-enrolled"),
        regional=True,
    ),
    Route(
        "POST", "/v1/hosts/{name}/rename", ADMIN, rebinding.rename,
        body=rebinding.RenameBody, reply=replies.HostDocument,
        problems=(*_HOST, "host-pending", "host-already-approved", "ek-certificate-missing"),
    ),
    Route(
        "GET", "/v1/hosts/{name}/boot-log", READER, hosts.boot_log,
        reply=replies.BootLogDocument, query=queries.RegionQuery,
        problems=(*_HOST, "host-without-evidence"), regional=True,
    ),
    Route(
        "PUT", "/v1/hosts/{name}/override", ADMIN, bindings.override,
        body=bindings.OverrideBody, reply=replies.HostDocument,
        problems=(*_HOST, "host-pending", "override-invalid", "service-busy"), regional=True,
    ),
    Route(
        "DELETE", "/v1/hosts/{name}/override", ADMIN, bindings.clear_override,
        status=204, query=queries.RegionQuery, problems=(*_HOST, "service-busy"), regional=True,
    ),
    Route(
        "GET", "/v1/hosts/{name}/verdict.jwt", SERVICE, results.show,
        query=queries.RegionQuery, problems=(*_HOST, "host-pending"), regional=True,
    ),
    Route("GET", "/.well-known/jwks.json", PUBLIC, results.keys, reply=dict[str, Any]),
    Route(
        "GET", "/v1/audit", READER, audit.index,
        reply=audit.AuditDocument, query=audit.AuditQuery,
    ),
    Route("GET", "/v1/audit/head", READER, audit.show_head, reply=audit.HeadDocument),
    Route(
        "GET", "/v1/reports", READER, reports.index,
        reply=reports.ReportsDocument, query=reports.ReportsQuery,
    ),
    Route(
        "GET", "/v1/reports/{number}", READER, reports.show,
        reply=reports.FullReport, problems=("report-unknown",),
    ),
    Route(
        "GET", "/v1/reports/{number}/appraisal", READER, reports.appraise,
        reply=reports.Appraisal, problems=_REPORT,
    ),
    Route(
        "GET", "/v1/reports/{number}/differences/{other}", READER, reports.differences,
        reply=reports.Differences, problems=_REPORT,
    ),
    Route(
        "PUT", "/v1/hosts/{name}/tags", ADMIN, tags.assign,
        body=tags.AssignBody, reply=replies.HostTagsDocument,
        problems=(*_HOST, "host-pending", "tag-not-created", "service-busy"), passed_on=(400,),
        regional=True,
    ),
    Route(
        "DELETE", "/v1/hosts/{name}/tags", ADMIN, tags.revoke,
        status=204, query=queries.RegionQuery,
        problems=(*_HOST, "host-pending", "host-without-tags", "service-busy"), regional=True,
    ),
    Route(
        "GET", "/v1/tags", READER, tags.index,
        reply=replies.TagsDocument, query=queries.NamesQuery, problems=("marker-unknown",),
    ),
    Route(
        "POST", "/v1/tags", ADMIN, tags.create,
        body=tags.TagBody, reply=replies.TagDocument, status=201, passed_on=(400,),
    ),
    Route(
        "GET", "/v1/tags/{name}", READER, tags.show,
        reply=replies.TaggedDocument, problems=("tag-unknown",),
    ),
    Route(
        "DELETE", "/v1/tags/{name}", ADMIN, tags.delete, status=204, problems=("tag-unknown",),
    ),
    Route(
        "GET", "/v1/reference-sets", READER, reference_sets.index,
        reply=replies.ReferenceSetsDocument, query=queries.ReferenceSetsQuery,
        problems=("marker-unknown",),
    ),
    Route(
        "POST", "/v1/reference-sets", ADMIN, reference_sets.create,
        body=reference_sets.ReferenceSetBody, reply=dict[str, Any], status=201,
        problems=(
            *_HOST, "host-pending", "host-without-evidence", "reference-set-exists", "service-busy",
        ),
        passed_on=(400,),
    ),
    Route(
        "GET", "/v1/reference-sets/{name}", READER, reference_sets.show,
        reply=dict[str, Any], problems=("reference-set-unknown",),
    ),
    Route(
        "PATCH", "/v1/reference-sets/{name}", ADMIN, reference_sets.change,
        body=reference_sets.ValidityBody, reply=dict[str, Any],
        problems=("reference-set-unknown", "edit-conflict", "service-busy"), passed_on=(400,),
    ),
    Route(
        "DELETE", "/v1/reference-sets/{name}", ADMIN, reference_sets.delete,
        status=204, problems=("reference-set-unknown", "edit-conflict", "service-busy"),
    ),
    Route(
        "GET", "/v1/policies", READER, policies.index,
        reply=replies.PoliciesDocument, query=queries.NamesQuery, problems=("marker-unknown",),
    ),
    Route(
        "GET", "/v1/policies/{name}", READER, policies.show,
        reply=dict[str, Any], problems=("policy-unknown",),
    ),
    Route(
        "PUT", "/v1/policies/{name}", ADMIN, policies.put,
        body=dict[str, Any], reply=dict[str, Any],
        problems=("edit-conflict", "policy-ambiguous", "service-busy"), passed_on=(400,),
    ),
    Route(
        "DELETE", "/v1/policies/{name}", ADMIN, policies.delete,
        status=204, problems=("policy-unknown", "policy-in-use", "edit-conflict", "service-busy"),
    ),
    Route(
        "POST", "/v1/policies/{name}/check", ADMIN, policies.check,
        body=policies.CheckBody, reply=replies.PolicyCheckDocument,
        problems=("policy-unknown", "policy-ambiguous"), passed_on=(400,),
    ),
    Route(
        "GET", "/v1/ek-authorities", READER, ek_authorities.index,
        reply=replies.EkAuthoritiesDocument, query=queries.EkAuthoritiesQuery,
    ),
    Route(
        "GET", "/v1/verdicts", SERVICE, verdicts.index,
        reply=snapshots.Snapshot, query=queries.SinceQuery, regional=True,
    ),
    Route(
        "GET", "/v1/enforcers", READER, enforcers.index,
        reply=replies.EnforcersDocument, query=queries.EnforcersQuery,
        problems=("marker-unknown",),
    ),
    Route(
        "PUT", "/v1/enforcers/{name}", SERVICE, enforcers.report,
        body=enforcers.ReportBody, reply=replies.EnforcerDocument,
        problems=("too-many-enforcers",), regional=True,
    ),
)  # fmt: skip
