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
"""Errors of the HTTP interface: one registry of codes, and how every failure becomes a document.

The documents are those of RFC 9457. A code never changes its meaning or its string. Codes that the
parts below give to what they refuse (a quote, a certificate, a document) pass through; those parts
document them.
"""

import http
from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy.exc import DBAPIError, IntegrityError

from oat_trusted_filter.backend.appraisal.document import DocumentError
from oat_trusted_filter.backend.store import errors as store_errors
from oat_trusted_filter.tcg.errors import FormatError
from oat_trusted_filter.traits import TraitError

CONTENT_TYPE = "application/problem+json"

#: Code -> HTTP status, for what the service itself refuses.
STATUS: Mapping[str, int] = {
    # the request
    "request-invalid": 400,
    "body-missing": 400,
    "body-invalid": 400,
    "body-too-slow": 408,
    "body-length-missing": 411,
    "body-too-large": 413,
    "content-type": 415,
    "content-encoding": 415,
    "field-invalid": 400,
    "route-unknown": 404,
    "method-not-allowed": 405,
    "marker-unknown": 400,
    "authority-unknown": 404,
    # the caller
    "credential-missing": 401,
    "credential-wrong": 401,
    "role-insufficient": 403,
    "region-insufficient": 403,
    "too-many-attempts": 429,
    "too-many-requests": 429,
    # challenges and evidence
    "challenge-malformed": 400,
    "challenge-invalid": 403,
    "challenge-expired": 403,
    "challenge-spent": 403,
    "host-unknown": 404,
    "host-pending": 403,
    "host-ambiguous": 409,
    "boot-log-digest": 400,
    "boot-log-needed": 409,
    "ima-offset": 409,
    "tpm-cleared": 409,
    "verifier-error": 500,
    # enrolment
    "enrolment-unknown": 404,
    "activation-failed": 403,
    "ek-software-tpm": 403,
    "ek-certificate-missing": 403,
    "banks-invalid": 400,
    "banks-changed": 409,
    "host-already-approved": 409,
    "ek-already-approved": 409,
    "host-not-enrolled": 409,
    "enrolment-token-unknown": 404,
    "import-refused": 422,
    # rules
    "reference-set-unknown": 404,
    "reference-set-exists": 409,
    "policy-unknown": 404,
    "policy-ambiguous": 409,
    "policy-in-use": 409,
    "edit-conflict": 409,
    "override-invalid": 400,
    "host-without-evidence": 409,
    # history
    "report-unknown": 404,
    "report-without-evidence": 409,
    # enforcers
    "too-many-enforcers": 409,
    # tags
    "tag-unknown": 404,
    "tag-not-created": 409,
    "host-without-tags": 404,
    # the service
    "conflict": 409,
    "service-busy": 503,
    "keystone-unavailable": 503,
    "database-unavailable": 503,
    "clock-behind": 503,
    "internal-error": 500,
}


class ProblemDocument(msgspec.Struct):
    """A problem document (RFC 9457). ``code`` is for programs, ``detail`` for people."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str


class Problem(Exception):
    """An answer that is an error.

    :param code: one of :data:`STATUS`, unless ``status`` is given.
    :param detail: a sentence for people.
    :param status: HTTP status, for codes of other parts.
    :param extra: more fields of the document.
    :param headers: more headers of the answer.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        status: int | None = None,
        extra: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.status = STATUS[code] if status is None else status
        self.extra = dict(extra or {})
        self.headers = dict(headers or {})

    def document(self, request_id: str) -> bytes:
        """The body of the answer."""
        return msgspec.json.encode(
            {
                "type": "about:blank",
                "title": http.HTTPStatus(self.status).phrase,
                "status": self.status,
                "detail": self.detail,
                "code": self.code,
                "request_id": request_id,
                **self.extra,
            }
        )


def from_error(error: Exception) -> Problem | None:
    """The answer to an error of the parts below; None if it is none that was foreseen."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, store_errors.Refused):
        return Problem(error.code, str(error))
    if isinstance(error, DocumentError):
        return Problem(error.code, str(error), status=400, extra={"field": error.field})
    if isinstance(error, FormatError | TraitError):
        return Problem(error.code, str(error), status=400)
    if isinstance(error, IntegrityError):
        return Problem("conflict", "somebody else has changed the same thing at this moment")
    if isinstance(error, DBAPIError):
        return Problem(
            "database-unavailable",
            "the database cannot be used at this moment",
            headers={"Retry-After": "1"},
        )
    return None
