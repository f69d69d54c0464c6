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
"""All routes, and which role each of them takes."""

from collections.abc import Callable
from typing import Any, NamedTuple

from oat_trusted_filter.backend.api import (
    challenges,
    enrolments,
    evidence,
    hosts,
    policies,
    reference_sets,
    verdicts,
    versions,
)
from oat_trusted_filter.backend.store.credentials import ADMIN, READER, SERVICE

#: No credential needed: versions, and agents, whose TPM signs what they send.
PUBLIC = None


class Route(NamedTuple):
    """A method of a path."""

    method: str
    path: str
    role: str | None
    handler: Callable[..., Any]


ROUTES = (
    Route("GET", "/", PUBLIC, versions.show),
    Route("GET", "/healthz", PUBLIC, versions.health),
    Route("POST", "/v1/enrolments", PUBLIC, enrolments.create),
    Route("PUT", "/v1/enrolments/{number}", PUBLIC, enrolments.activate),
    Route("POST", "/v1/challenges", PUBLIC, challenges.create),
    Route("POST", "/v1/evidence", PUBLIC, evidence.submit),
    Route("GET", "/v1/hosts", READER, hosts.index),
    Route("POST", "/v1/hosts", ADMIN, hosts.register),
    Route("GET", "/v1/hosts/{name}", READER, hosts.show),
    Route("DELETE", "/v1/hosts/{name}", ADMIN, hosts.delete),
    Route("POST", "/v1/hosts/{name}/approve", ADMIN, hosts.approve),
    Route("GET", "/v1/hosts/{name}/boot-log", READER, hosts.boot_log),
    Route("GET", "/v1/reference-sets", READER, reference_sets.index),
    Route("POST", "/v1/reference-sets", ADMIN, reference_sets.create),
    Route("GET", "/v1/reference-sets/{name}", READER, reference_sets.show),
    Route("DELETE", "/v1/reference-sets/{name}", ADMIN, reference_sets.delete),
    Route("GET", "/v1/policies", READER, policies.index),
    Route("GET", "/v1/policies/{name}", READER, policies.show),
    Route("PUT", "/v1/policies/{name}", ADMIN, policies.put),
    Route("GET", "/v1/verdicts", SERVICE, verdicts.index),
)
