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

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import falcon
import msgspec
from oslo_log import log as logging
from sqlalchemy import Connection

from oat_trusted_filter.backend.api import ima
from oat_trusted_filter.backend.api.exchange import (
    LARGE_BODY,
    answer,
    decoded_strictly,
    read_body,
)
from oat_trusted_filter.backend.api.fields import HostName, Region, pcr_values
from oat_trusted_filter.backend.api.hosts import chosen_approved
from oat_trusted_filter.backend.api.problems import Problem
from oat_trusted_filter.backend.api.rules import Rules, parsed
from oat_trusted_filter.backend.api.service import Service
from oat_trusted_filter.backend.appraisal.allow_list import (
    IMA_KIND,
    AllowList,
    derive_allow_list,
)
from oat_trusted_filter.backend.appraisal.boot_log import read_boot_log
from oat_trusted_filter.backend.appraisal.records import ReferenceSet, SeenFile
from oat_trusted_filter.backend.appraisal.reference import (
    BOOT_PCRS,
    DEFAULT_KIND,
    DifferingPcr,
    GoodBoot,
    derive_reference,
    from_document,
    to_document,
)
from oat_trusted_filter.backend.store import audit, listing, rules, verdicts
from oat_trusted_filter.backend.store.errors import ReferenceSetExists

LOG = logging.getLogger(__name__)

_MOST_HOSTS = 100


class ReferenceSetBody(msgspec.Struct, forbid_unknown_fields=True):
    """A set from hosts that are known to be good, or from a document."""

    name: str
    kind: str = DEFAULT_KIND
    from_hosts: list[HostName] | None = None
    region: Region | None = None
    pcrs: list[int] | None = None
    document: dict[str, Any] | None = None


def index(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """All sets; of allow lists only how many files are on them, for they are long."""
    found = _rules(service).references.values()
    answer(resp, {"reference_sets": [_listed(reference) for reference in found]})


def show(service: Service, req: falcon.Request, resp: falcon.Response, name: str) -> None:
    """One set, as a document that can be created again."""
    answer(resp, to_document(_existing(_rules(service), name)))


def create(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """Add a set, and judge all hosts anew."""
    body = decoded_strictly(read_body(req, LARGE_BODY), ReferenceSetBody)
    if (body.from_hosts is None) == (body.document is None):
        raise Problem("field-invalid", "either from_hosts or document has to be given")
    differing: tuple[DifferingPcr, ...] = ()
    if body.from_hosts is None:
        reference = from_document({**_document(body.document or {}), "name": body.name})
    elif body.kind == IMA_KIND:
        reference = _allow_list(service, body, body.from_hosts)
    else:
        reference, differing = _derived(service, body, body.from_hosts)
    _add(service, reference, req.context.holder.name)
    LOG.info("%s created reference set %s", req.context.holder.name, reference.name)
    answer(
        resp,
        {**to_document(reference), "differing": [item.as_dict() for item in differing]},
        201,
    )


def delete(service: Service, req: falcon.Request, resp: falcon.Response, name: str) -> None:
    """Withdraw a set, and judge all hosts anew."""

    def edit(before: Rules) -> Rules:
        gone = _existing(before, name)
        left = {key: value for key, value in before.references.items() if value is not gone}
        return replace(before, references=left)

    def write(connection: Connection) -> None:
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


def _add(service: Service, reference: ReferenceSet, actor: str) -> None:
    name = reference.name
    text = msgspec.json.encode(to_document(reference)).decode()
    now = service.clock()

    def edit(before: Rules) -> Rules:
        if name in before.references:
            raise ReferenceSetExists(
                f"there is a reference set {name} already; delete it or choose another name"
            )
        return replace(before, references={**before.references, name: reference})

    def write(connection: Connection) -> None:
        rules.add_reference_set(connection, name, text, now)
        audit.record(
            connection,
            actor=actor,
            action="reference-set.create",
            details={"reference_set": name, "sha256": audit.document_digest(text)},
        )

    service.rule_changer.change(edit, write, now)


def _document(document: Mapping[str, Any]) -> dict[str, Any]:
    """A document as it was shown when the set was created."""
    return {key: value for key, value in document.items() if key != "differing"}


def _listed(reference: ReferenceSet) -> dict[str, Any]:
    document = to_document(replace(reference, files={}))
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
    excluding = AllowList("", (), known.policy(host.policy).ima.exclude)
    return (file for file in files if not excluding.excludes(file.path))


def _derived(
    service: Service, body: ReferenceSetBody, names: list[str]
) -> tuple[ReferenceSet, tuple[DifferingPcr, ...]]:
    _check_number(names)
    pcrs = BOOT_PCRS if body.pcrs is None else body.pcrs
    if not set(pcrs) <= set(BOOT_PCRS):
        raise Problem(
            "field-invalid",
            f"only PCRs that follow from the boot log can be taken: {BOOT_PCRS}",
        )
    with service.store.read() as connection:
        boots = [
            _good_boot(connection, name, body.region) for name in dict.fromkeys(names)
        ]  # fmt: skip
    return derive_reference(body.name, body.kind, pcrs, boots)


def _check_number(names: list[str]) -> None:
    if not names or len(names) > _MOST_HOSTS:
        raise Problem("field-invalid", f"from_hosts names 1 to {_MOST_HOSTS} hosts")


def _good_boot(connection: Connection, name: str, region: str | None) -> GoodBoot:
    host = chosen_approved(connection, name, region)
    found = listing.one(connection, host.id)
    verdict = None if found is None else found.verdict
    data = None
    if verdict is not None and verdict.boot_log_digest is not None:
        data = verdicts.boot_log(connection, verdict.boot_log_digest)
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
