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
"""``/v1/registrations``: many hosts announced at once, all of them or none."""

from collections.abc import Sequence
from typing import Annotated, Any

import falcon
import msgspec
from oslo_log import log as logging
from sqlalchemy import Connection

from oat_trusted_filter.backend.api.exchange import LARGE_BODY, answer, decoded_strictly, read_body
from oat_trusted_filter.backend.api.fields import Digest, HostName, Region
from oat_trusted_filter.backend.api.problems import Problem
from oat_trusted_filter.backend.api.service import Service
from oat_trusted_filter.backend.appraisal.document import DocumentError, check_labels
from oat_trusted_filter.backend.store import changes, registrations
from oat_trusted_filter.backend.store.registrations import (
    Announced,
    Conflict,
    ImportConflicts,
    Imported,
)

LOG = logging.getLogger(__name__)

MOST_HOSTS = 50_000
#: Errors an answer lists; an operator mends these first.
_MOST_ERRORS = 200


class Registration(msgspec.Struct, forbid_unknown_fields=True):
    """A host that is expected."""

    host: HostName
    ek_fingerprint: Digest
    """Or the hash of the key alone."""
    region: Region = ""
    policy: Annotated[str, msgspec.Meta(min_length=1, max_length=255)] | None = None
    labels: dict[str, str] = {}
    accept_expired: bool = False


class RegistrationsBody(msgspec.Struct, forbid_unknown_fields=True):
    """Hosts that are expected. Each is read by itself, so that every mistake has its place."""

    hosts: Annotated[list[dict[str, Any]], msgspec.Meta(min_length=1, max_length=MOST_HOSTS)]
    dry_run: bool = False


class RegistrationsDocument(msgspec.Struct):
    """What has become of them, in numbers."""

    registered: int
    approved: int
    """They waited."""
    unchanged: int


def create(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """Announce hosts: each is approved as soon as its key has proven itself."""
    body = decoded_strictly(read_body(req, LARGE_BODY), RegistrationsBody)
    wanted, conflicts = _read(body.hosts)
    if conflicts:
        raise _refused(conflicts)
    actor, now = req.context.holder.name, service.clock()

    def work(connection: Connection) -> Imported:
        # Nobody changes a policy meanwhile.
        known = service.rules.current(connection, changes.lock_rules(connection))

        def against(policy: str, labels: str | None) -> tuple[str, str] | None:
            try:
                known.policy_of(policy, labels)
            except Problem as problem:
                return problem.code, problem.detail
            return None

        return registrations.register_all(
            connection, wanted, against, actor, now, dry_run=body.dry_run
        )

    try:
        done = service.store.write(work)
    except ImportConflicts as error:
        raise _refused(error.conflicts) from error
    if not body.dry_run:
        LOG.info(
            "%s announced %d hosts: %d registered, %d approved, %d known before",
            actor, len(wanted), *done,
        )  # fmt: skip
    answer(resp, RegistrationsDocument(*done), 200 if body.dry_run else 201)


def _read(hosts: list[dict[str, Any]]) -> tuple[list[Announced], list[Conflict]]:
    wanted, conflicts = [], []
    for place, item in enumerate(hosts):
        try:
            one = msgspec.convert(item, Registration)
            labels = check_labels(one.labels, "labels") if one.labels else None
        except msgspec.ValidationError as error:
            conflicts.append(Conflict(place, "field-invalid", str(error)))
        except DocumentError as error:
            conflicts.append(Conflict(place, error.code, str(error)))
        else:
            text = None if labels is None else msgspec.json.encode(labels).decode()
            wanted.append(
                Announced(
                    one.region, one.host, one.ek_fingerprint, one.policy, text, one.accept_expired
                )
            )
    return wanted, conflicts


def _refused(conflicts: Sequence[Conflict]) -> Problem:
    return Problem(
        "import-refused",
        f"{len(conflicts)} of the hosts cannot be registered, so none of them was",
        extra={
            "errors": [
                {"index": place, "code": code, "detail": detail}
                for place, code, detail in conflicts[:_MOST_ERRORS]
            ],
            "error_count": len(conflicts),
        },
    )
