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
"""How errors are told to clients of OpenAttestation: ``{"error_code": …, "error_message": …}``."""

import falcon
import msgspec

from oat_trusted_filter.backend.api.problems import Problem

CONTENT_TYPE = "application/json"

ATTESTATION = "/AttestationService/resources"
WHITE_LISTS = "/WLMService/resources"
#: Where OpenAttestation 1.5 had its services, and where 1.6 and newer had them.
ROOTS = ("/OpenAttestationWebServices/V1.0", ATTESTATION, WHITE_LISTS)
_TAG_CERTIFICATES = ("assetTagCert", "tag-certificate", "tag-kv-attributes")

#: What a client has asked for in a way nobody can make sense of, and faults of the service.
SYSTEM_ERROR = "SYSTEM_ERROR"
_OF_THE_REQUEST = 400
_OF_THE_SERVICE = 500


class OatError(Problem):
    """A refusal that OpenAttestation knew.

    :param name: of its error, as ``AS_HOST_NOT_FOUND``.
    :param message: a sentence for people.
    """

    def __init__(self, name: str, message: str) -> None:
        super().__init__(name, message, status=_OF_THE_REQUEST)


def answers(req: falcon.Request) -> bool:
    """Whether a path is one of OpenAttestation."""
    return any(req.path.startswith(f"{root}/") for root in ROOTS)


def not_served(req: falcon.Request, problem: Problem) -> Problem:
    """What to say of a path or a method of OpenAttestation that there is not.

    :param problem: what is said of any other.
    """
    path = req.path.removeprefix(f"{ATTESTATION}/")
    if path.startswith(_TAG_CERTIFICATES):
        return OatError(
            "AS_INVALID_ASSET_TAG_CERTIFICATE",
            "This service has no tag certificates; tags are assigned with oat tag assign.",
        )
    if problem.code == "method-not-allowed" and req.method != "GET":
        instead = "oat reference and oat policy" if path == req.path else "oat host"
        return Problem(problem.code, f"{problem.detail}; use {instead}")
    return problem


def document(problem: Problem) -> bytes:
    """The body that says what went wrong.

    Refusals OpenAttestation did not know, such as a missing credential, have the codes of ``/v1``
    in the spelling of those of OpenAttestation: ``CREDENTIAL_MISSING``.
    """
    if isinstance(problem, OatError):
        code, message = problem.code, problem.detail
    elif problem.status in (_OF_THE_REQUEST, _OF_THE_SERVICE):
        code, message = SYSTEM_ERROR, f"System error: {problem.detail}"
    else:
        code, message = problem.code.upper().replace("-", "_"), problem.detail
    return msgspec.json.encode({"error_code": code, "error_message": message})
