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

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import falcon
import msgspec
from oslo_log import log as logging
from sqlalchemy import Connection

from oat_trusted_filter.backend.api import queries
from oat_trusted_filter.backend.api.exchange import (
    answer,
    decoded_strictly,
    entity_tag,
    expected_generation,
    read_body,
)
from oat_trusted_filter.backend.api.fields import HostName, Region
from oat_trusted_filter.backend.api.problems import Problem
from oat_trusted_filter.backend.api.rules import Rules, parsed
from oat_trusted_filter.backend.api.service import Service
from oat_trusted_filter.backend.appraisal.policy import (
    DEFAULT_POLICY,
    from_document,
    to_document,
)
from oat_trusted_filter.backend.appraisal.rule_records import Policy
from oat_trusted_filter.backend.store import audit, hosts, rules
from oat_trusted_filter.backend.store.revising import Appraisable

LOG = logging.getLogger(__name__)


class CheckBody(msgspec.Struct, forbid_unknown_fields=True):
    """A draft, or nothing for the policy as it is, and the hosts to look at as if it were theirs;
    without these all the hosts it is for."""

    document: dict[str, Any] | None = None
    hosts: list[HostName] | None = None
    region: Region | None = None
    all: bool = False


def index(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """All policies."""
    known = _rules(service)
    page, links = queries.page_of(req, req.context.query, sorted(known.policies))
    shown = [_document(known, known.policies[name]) for name in page]
    answer(resp, {"policies": shown, **links})


def show(service: Service, req: falcon.Request, resp: falcon.Response, name: str) -> None:
    """One policy; ``default`` always exists."""
    known = _rules(service)
    document = _document(known, _existing(known, name))
    answer(resp, document, headers={"ETag": entity_tag(document["generation"])})


def put(service: Service, req: falcon.Request, resp: falcon.Response, name: str) -> None:
    """Create or replace a policy, and judge all hosts anew. The name in the path is what counts."""
    policy = _drafted(decoded_strictly(read_body(req), dict[str, Any]), name)
    text = msgspec.json.encode(to_document(policy)).decode()
    expected, now = expected_generation(req), service.clock()

    def edit(before: Rules) -> Rules:
        before.check_generation("policies", name, expected)
        return replace(before, policies={**before.policies, name: policy})

    def write(connection: Connection, generation: int) -> None:
        rules.put_policy(connection, name, text, generation, now)
        audit.record(
            connection,
            actor=req.context.holder.name,
            action="policy.set",
            details={"policy": name, "sha256": audit.document_digest(text)},
        )

    service.rule_changer.change(edit, write, now)
    LOG.info("%s set policy %s", req.context.holder.name, name)
    show(service, req, resp, name)


def delete(service: Service, req: falcon.Request, resp: falcon.Response, name: str) -> None:
    """Forget a policy that no host is judged by."""
    if name == DEFAULT_POLICY.name:
        raise Problem("policy-in-use", f"policy {name} is for all hosts no other one is for")
    expected = expected_generation(req)
    known: list[Rules] = []

    def edit(before: Rules) -> Rules:
        before.check_generation("policies", name, expected)
        _existing(before, name)
        known[:] = [before]
        with service.store.read() as connection:
            _check_unused(connection, before, name)
        left = {key: value for key, value in before.policies.items() if key != name}
        return replace(before, policies=left)

    def write(connection: Connection, generation: int) -> None:
        _check_unused(connection, known[0], name)
        rules.remove_policy(connection, name)
        audit.record(
            connection,
            actor=req.context.holder.name,
            action="policy.delete",
            details={"policy": name},
        )

    service.rule_changer.change(edit, write, service.clock())
    LOG.info("%s deleted policy %s", req.context.holder.name, name)
    resp.status = 204


def check(service: Service, req: falcon.Request, resp: falcon.Response, name: str) -> None:
    """What a policy, as it is or as it is drafted, would make of the evidence there is."""
    body = decoded_strictly(read_body(req), CheckBody)
    known = _rules(service)
    policy = _existing(known, name) if body.document is None else _drafted(body.document, name)
    after = replace(known, policies={**known.policies, name: policy})
    found = service.rule_changer.preview(known, after, name, service.clock(), as_if=_as_if(body))
    shown = [
        {
            "region": row.region,
            "host": row.host,
            "level": row.level,
            "would_be": verdict.level,
            "changes": verdict.level != row.level,
            "findings": verdict.findings,
        }
        for row, verdict in found
    ]
    answer(resp, {"policy": name, "hosts": shown})


def _as_if(body: CheckBody) -> Callable[[Appraisable], bool] | None:
    """Which hosts are looked at as if they were bound to the policy; None: those that are."""
    if body.all:
        return lambda row: True
    if body.hosts is None:
        return None
    names = frozenset(body.hosts)
    return lambda row: row.host in names and body.region in (None, row.region)


def _drafted(document: dict[str, Any], name: str) -> Policy:
    return from_document(
        {key: value for key, value in document.items() if key != "generation"} | {"name": name}
    )


def _document(known: Rules, policy: Policy) -> dict[str, Any]:
    return {**to_document(policy), "generation": known.generation("policies", policy.name)}


def _check_unused(connection: Connection, known: Rules, name: str) -> None:
    for host, bound, labels in hosts.bindings(connection):
        if known.policy_of(bound, labels).name == name:
            raise Problem("policy-in-use", f"host {host} is judged by policy {name}")


def _existing(known: Rules, name: str) -> Policy:
    policy = known.policies.get(name)
    if policy is None:
        raise Problem("policy-unknown", f"there is no policy {name}")
    return policy


def _rules(service: Service) -> Rules:
    with service.store.read() as connection:
        return parsed(rules.load(connection))
