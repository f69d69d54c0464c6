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
"""``/v1/reference-sets``: which boots are good."""

import datetime
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import falcon
import msgspec
from oslo_log import log as logging
from sqlalchemy import Connection

from oat_trusted_filter.backend.api import ima, queries
from oat_trusted_filter.backend.api.exchange import (
    LARGE_BODY,
    answer,
    decoded_strictly,
    entity_tag,
    expected_generation,
    read_body,
)
from oat_trusted_filter.backend.api.fields import HostName, Region, pcr_values
from oat_trusted_filter.backend.api.hosts import chosen_approved
from oat_trusted_filter.backend.api.problems import Problem
from oat_trusted_filter.backend.api.rules import Rules, moment_of, parsed
from oat_trusted_filter.backend.api.service import Service
from oat_trusted_filter.backend.appraisal.allow_list import (
    IMA_KIND,
    AllowList,
    derive_allow_list,
)
from oat_trusted_filter.backend.appraisal.boot_log import read_boot_log
from oat_trusted_filter.backend.appraisal.derivation import (
    DifferingPcr,
    GoodBoot,
    derive_reference,
)
from oat_trusted_filter.backend.appraisal.expiry import validity
from oat_trusted_filter.backend.appraisal.records import SeenFile
from oat_trusted_filter.backend.appraisal.reference import (
    BOOT_PCRS,
    DEFAULT_KIND,
    KIND_PCRS,
    LAUNCH_PCRS,
    from_document,
    to_document,
)
from oat_trusted_filter.backend.appraisal.rule_records import Provenance, ReferenceSet
from oat_trusted_filter.backend.store import audit, listing, proven_boot_logs, rules
from oat_trusted_filter.backend.store.errors import ReferenceSetExists

LOG = logging.getLogger(__name__)

_MOST_HOSTS = 100
#: Fields of replies that are no part of a document.
_OF_REPLIES = frozenset({"differing", "generation", "validity"})


class ReferenceSetBody(msgspec.Struct, forbid_unknown_fields=True):
    """A set from hosts that are known to be good, or from a document."""

    name: str
    kind: str = DEFAULT_KIND
    from_hosts: list[HostName] | None = None
    region: Region | None = None
    pcrs: list[int] | None = None
    take: list[int] = []
    """PCRs of which each host's value is taken although they differ."""
    from_files: list[str] | None = None
    """The document was computed from files of these names."""
    valid_from: str | None = None
    valid_until: str | None = None
    """When a set from hosts counts; a document says so itself."""
    preview: bool = False
    """Only show what would be created."""
    document: dict[str, Any] | None = None


class ValidityBody(msgspec.Struct, forbid_unknown_fields=True):
    """When a set counts; None takes a limit away."""

    valid_from: str | None | msgspec.UnsetType = msgspec.UNSET
    valid_until: str | None | msgspec.UnsetType = msgspec.UNSET


def index(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """All sets; of allow lists only how many files are on them, for they are long."""
    known, query = _rules(service), req.context.query
    names = sorted(
        name
        for name, reference in known.references.items()
        if query.kind in (None, reference.kind)
    )
    page, links = queries.page_of(req, query, names)
    found = [_listed(service, known, known.references[name]) for name in page]
    answer(resp, {"reference_sets": found, **links})


def show(service: Service, req: falcon.Request, resp: falcon.Response, name: str) -> None:
    """One set, as a document that can be created again."""
    known = _rules(service)
    document = _document(service, known, _existing(known, name))
    answer(resp, document, headers={"ETag": entity_tag(document["generation"])})


def create(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """Add a set, and judge all hosts anew."""
    body = decoded_strictly(read_body(req, LARGE_BODY), ReferenceSetBody)
    if (body.from_hosts is None) == (body.document is None):
        raise Problem("field-invalid", "either from_hosts or document has to be given")
    differing: tuple[DifferingPcr, ...] = ()
    if body.from_hosts is None:
        reference = from_document({**_bare(body.document or {}), "name": body.name})
    elif body.kind == IMA_KIND:
        reference = _allow_list(service, body, body.from_hosts)
    else:
        reference, differing = _derived(service, body, body.from_hosts)
    if body.valid_from is not None or body.valid_until is not None:
        limits = {"valid_from": body.valid_from, "valid_until": body.valid_until}
        reference = from_document({**to_document(reference), **limits})
    now, by = service.clock(), req.context.holder.name
    reference = replace(reference, provenance=_provenance(body, reference, by, now))
    document = to_document(reference)
    if not body.preview:
        document["generation"] = _add(service, reference, by, now)
        LOG.info("%s created reference set %s", by, reference.name)
    shown = {**document, "differing": [item.as_dict() for item in differing]}
    answer(resp, shown, 200 if body.preview else 201)


def change(service: Service, req: falcon.Request, resp: falcon.Response, name: str) -> None:
    """Set when a set counts, and judge all hosts anew."""
    body = decoded_strictly(read_body(req), ValidityBody)
    changes = {
        field: value
        for field in body.__struct_fields__
        if (value := getattr(body, field)) is not msgspec.UNSET
    }
    expected = expected_generation(req)
    changed: list[str] = []

    def edit(before: Rules) -> Rules:
        before.check_generation("reference_sets", name, expected)
        known = _existing(before, name)
        reference = from_document({**to_document(known), **changes})
        changed[:] = [msgspec.json.encode(to_document(reference)).decode()]
        return replace(before, references={**before.references, name: reference})

    def write(connection: Connection, generation: int) -> None:
        rules.replace_reference_set(connection, name, changed[0], generation)
        audit.record(
            connection,
            actor=req.context.holder.name,
            action="reference-set.change",
            details={"reference_set": name, "sha256": audit.document_digest(changed[0])},
        )

    service.rule_changer.change(edit, write, service.clock())
    LOG.info("%s changed the validity of reference set %s", req.context.holder.name, name)
    show(service, req, resp, name)


def delete(service: Service, req: falcon.Request, resp: falcon.Response, name: str) -> None:
    """Withdraw a set, and judge all hosts anew."""

    expected = expected_generation(req)

    def edit(before: Rules) -> Rules:
        before.check_generation("reference_sets", name, expected)
        gone = _existing(before, name)
        left = {key: value for key, value in before.references.items() if value is not gone}
        return replace(before, references=left)

    def write(connection: Connection, generation: int) -> None:
        rules.remove_reference_set(connection, name)
        audit.record(
            connection,
            actor=req.context.holder.name,
            action="reference-set.delete",
            details={"reference_set": name},
        )

    service.rule_changer.change(edit, write, service.clock())
    LOG.info("%s deleted reference set %s", req.context.holder.name, name)
    resp.status = 204


def _add(service: Service, reference: ReferenceSet, actor: str, now: int) -> int:
    """Store a set; its generation."""
    name = reference.name
    text = msgspec.json.encode(to_document(reference)).decode()
    stored: list[int] = []

    def edit(before: Rules) -> Rules:
        if name in before.references:
            raise ReferenceSetExists(
                f"there is a reference set {name} already; delete it or choose another name"
            )
        return replace(before, references={**before.references, name: reference})

    def write(connection: Connection, generation: int) -> None:
        rules.add_reference_set(connection, name, text, generation, now)
        audit.record(
            connection,
            actor=actor,
            action="reference-set.create",
            details={"reference_set": name, "sha256": audit.document_digest(text)},
        )
        stored[:] = [generation]

    service.rule_changer.change(edit, write, now)
    return stored[0]


def _provenance(
    body: ReferenceSetBody, reference: ReferenceSet, by: str, now: int
) -> Provenance:
    at, known = moment_of(now), reference.provenance
    if body.from_hosts is not None:
        hosts = tuple(dict.fromkeys(body.from_hosts))
        return Provenance("hosts", by, at, hosts=hosts, region=body.region or "")
    if body.from_files is not None:
        return Provenance("files", by, at, files=tuple(body.from_files))
    if known is not None:
        return Provenance("imported", by, at, origin=known.origin or replace(known, origin=None))
    return Provenance("typed", by, at)


def _bare(document: Mapping[str, Any]) -> dict[str, Any]:
    """A document without what replies add to it."""
    return {key: value for key, value in document.items() if key not in _OF_REPLIES}


def _document(service: Service, known: Rules, reference: ReferenceSet) -> dict[str, Any]:
    lead = datetime.timedelta(seconds=service.settings.expiry_warning)
    return {
        **to_document(reference),
        "generation": known.generation("reference_sets", reference.name),
        "validity": validity(
            reference.valid_from, reference.valid_until, moment_of(service.clock()), lead
        ),
    }


def _listed(service: Service, known: Rules, reference: ReferenceSet) -> dict[str, Any]:
    document = _document(service, known, replace(reference, files={}))
    return document | {"file_count": len(reference.files)} if reference.files else document


def _allow_list(service: Service, body: ReferenceSetBody, names: list[str]) -> ReferenceSet:
    _check_number(names)
    if body.pcrs is not None:
        raise Problem("field-invalid", f"a set of kind {IMA_KIND} has no PCRs")
    with service.store.read() as connection:
        known = parsed(rules.load(connection))
        return derive_allow_list(
            body.name,
            (
                file
                for name in dict.fromkeys(names)
                for file in _seen_files(connection, known, name, body.region)
            ),
        )


def _seen_files(
    connection: Connection, known: Rules, name: str, region: str | None
) -> Iterator[SeenFile]:
    """The files a host has used, but for those that may be anything there."""
    host = chosen_approved(connection, name, region)
    files = ima.files_shown(connection, host.id)
    if files is None:
        raise Problem(
            "host-without-evidence",
            f"host {name} has not shown its whole IMA log, or more files than are kept",
        )
    excluding = AllowList("", (), known.policy_of(host.policy, host.labels).ima.exclude)
    return (file for file in files if not excluding.excludes(file.path))


def _derived(
    service: Service, body: ReferenceSetBody, names: list[str]
) -> tuple[ReferenceSet, tuple[DifferingPcr, ...]]:
    _check_number(names)
    pcrs = KIND_PCRS.get(body.kind, BOOT_PCRS) if body.pcrs is None else body.pcrs
    if not {*pcrs, *body.take} <= {*BOOT_PCRS, *LAUNCH_PCRS}:
        raise Problem(
            "field-invalid",
            "only PCRs that follow from the boot log or a dynamic launch can be taken: "
            f"{(*BOOT_PCRS, *LAUNCH_PCRS)}",
        )
    with service.store.read() as connection:
        boots = [
            _good_boot(connection, name, body.region) for name in dict.fromkeys(names)
        ]  # fmt: skip
    return derive_reference(body.name, body.kind, pcrs, boots, body.take)


def _check_number(names: list[str]) -> None:
    if not names or len(names) > _MOST_HOSTS:
        raise Problem("field-invalid", f"from_hosts names 1 to {_MOST_HOSTS} hosts")


def _good_boot(connection: Connection, name: str, region: str | None) -> GoodBoot:
    host = chosen_approved(connection, name, region)
    found = listing.one(connection, host.id)
    verdict = None if found is None else found.verdict
    data = None
    if verdict is not None and verdict.boot_log_digest is not None:
        data = proven_boot_logs.data_of(connection, verdict.boot_log_digest)
    if verdict is None or verdict.pcrs is None or data is None:
        raise Problem(
            "host-without-evidence",
            f"host {name} has sent no evidence that values could be taken from",
        )
    return GoodBoot(
        name, read_boot_log(data).log, pcr_values(msgspec.Raw(verdict.pcrs.encode()))
    )  # fmt: skip


def _existing(known: Rules, name: str) -> ReferenceSet:
    reference = known.references.get(name)
    if reference is None:
        raise Problem("reference-set-unknown", "there is no reference set of this name")
    return reference


def _rules(service: Service) -> Rules:
    with service.store.read() as connection:
        return parsed(rules.load(connection))
