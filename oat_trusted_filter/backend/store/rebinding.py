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
"""Rebinding: an approved host gets another endorsement key, or another name.

The record stays the same one, with its number and all an operator has said about the host. The
verdict does not: what was proven was proven by another machine, or under another name.
"""

from typing import Any

from sqlalchemy import Connection, delete, update
from sqlalchemy.exc import IntegrityError

from oat_trusted_filter.backend.store import changes, verdicts
from oat_trusted_filter.backend.store import hosts as bindings
from oat_trusted_filter.backend.store.errors import NameTaken
from oat_trusted_filter.backend.store.hosts import APPROVED, PENDING, Host
from oat_trusted_filter.backend.store.tables import hosts


def rebind(connection: Connection, approved: Host, waiting: Host, now: int) -> Host:
    """Put the key that waits under a name in the place of the one that is approved for it.

    :param waiting: another binding of the same name; it goes up in the approved one.
    :raises KeyTaken: its key is approved for another name.
    """
    bindings.check_key(connection, waiting.region, waiting.host, waiting.ek_fingerprint)
    _replace(connection, waiting)
    connection.execute(
        update(hosts)
        .where(hosts.c.id == approved.id)
        .values(
            enrolled_at=waiting.enrolled_at,
            accept_expired=waiting.accept_expired,
            # It was made for another machine.
            override=None,
            **bindings.enrolled_values(waiting),
        )
    )
    verdicts.reset(connection, approved.id, "rebind", now)
    return bindings.existing(connection, approved.id)


def rename(connection: Connection, host: Host, region: str, name: str, now: int) -> Host:
    """Give an approved host another name; relying parties forget the old one.

    If its key waits under the new name already, that enrolment counts.

    :raises NameTaken: another key is approved for the new name.
    :raises CertificateMissing: as :func:`hosts.check_certificate`.
    """
    known = bindings.named(connection, region, name)
    if any(item.state == APPROVED for item in known):
        raise _taken(name)
    values: dict[str, Any] = {
        "region": region,
        "host": name,
        "approved_name": bindings.approved_name(region, name),
    }
    enrolled = bindings.same_key(known, host.ek_fingerprint, host.ek_hash)
    if enrolled is not None:
        _replace(connection, enrolled)
        if enrolled.state == PENDING:
            bindings.check_certificate(host, enrolled)
            values |= {
                "enrolled_at": enrolled.enrolled_at, **bindings.enrolled_values(enrolled)
            }  # fmt: skip
    try:
        with connection.begin_nested():
            connection.execute(update(hosts).where(hosts.c.id == host.id).values(values))
    except IntegrityError as error:
        raise _taken(name) from error
    changes.mark_deleted(connection, host.region, host.host)
    changes.forget_deletion(connection, region, name)
    verdicts.reset(connection, host.id, "rename", now)
    return bindings.existing(connection, host.id)


def _replace(connection: Connection, enrolled: Host) -> None:
    """What this enrolment has shown goes into another record."""
    connection.execute(delete(hosts).where(hosts.c.id == enrolled.id))


def _taken(name: str) -> NameTaken:
    return NameTaken(f"another host is approved as {name}; delete or rename that one first")
