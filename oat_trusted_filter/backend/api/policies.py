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
"""``/v1/policies``: what hosts have to show."""

from dataclasses import replace
from typing import Any

import falcon
import msgspec
from oslo_log import log as logging
from sqlalchemy import Connection

from oat_trusted_filter.backend.api.exchange import answer, decoded_strictly, read_body
from oat_trusted_filter.backend.api.problems import Problem
from oat_trusted_filter.backend.api.rules import Rules, parsed
from oat_trusted_filter.backend.api.service import Service
from oat_trusted_filter.backend.appraisal.policy import from_document, to_document
from oat_trusted_filter.backend.store import audit, rules

LOG = logging.getLogger(__name__)


def index(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """All policies."""
    found = _rules(service).policies.values()
    answer(resp, {"policies": [to_document(policy) for policy in found]})


def show(service: Service, req: falcon.Request, resp: falcon.Response, name: str) -> None:
    """One policy; ``default`` always exists."""
    policy = _rules(service).policies.get(name)
    if policy is None:
        raise Problem("policy-unknown", "there is no policy of this name")
    answer(resp, to_document(policy))


def put(service: Service, req: falcon.Request, resp: falcon.Response, name: str) -> None:
    """Create or replace a policy, and judge all hosts anew. The name in the path is what counts."""
    document = decoded_strictly(read_body(req), dict[str, Any])
    policy = from_document({**document, "name": name})
    text = msgspec.json.encode(to_document(policy)).decode()
    now = service.clock()

    def edit(before: Rules) -> Rules:
        return replace(before, policies={**before.policies, name: policy})

    def write(connection: Connection) -> None:
        rules.put_policy(connection, name, text, now)
        audit.record(
            connection,
            actor=req.context.holder.name,
            action="policy.set",
            details={"policy": name, "sha256": audit.document_digest(text)},
        )

    service.rule_changer.change(edit, write, now)
    LOG.info("%s set policy %s", req.context.holder.name, name)
    answer(resp, to_document(policy))


def _rules(service: Service) -> Rules:
    with service.store.read() as connection:
        return parsed(rules.load(connection))
