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
"""Policies and reference sets, as JSON documents by name."""

from typing import NamedTuple

from sqlalchemy import Connection, delete, select, update

from oat_trusted_filter.backend.store import changes
from oat_trusted_filter.backend.store.errors import NotFound
from oat_trusted_filter.backend.store.tables import policies, reference_sets


class Documents(NamedTuple):
    """All rules, and the count of changes they belong to."""

    version: int
    policies: dict[str, str]
    reference_sets: dict[str, str]


def load(connection: Connection) -> Documents:
    """Everything.

    Without a transaction a change in between may show in the documents and not yet in the version;
    whoever keeps them finds the version out of date the next time.
    """
    version = changes.position(connection).rules
    return Documents(
        version,
        {
            row.name: row.document
            for row in connection.execute(
                select(policies.c.name, policies.c.document).order_by(policies.c.name)
            )
        },
        {
            row.name: row.document
            for row in connection.execute(
                select(reference_sets.c.name, reference_sets.c.document).order_by(
                    reference_sets.c.name
                )
            )
        },
    )


def put_policy(connection: Connection, name: str, document: str, now: int) -> None:
    """Create or replace a policy."""
    values = {"document": document, "changed_at": now}
    replaced = connection.execute(update(policies).where(policies.c.name == name).values(values))
    if replaced.rowcount == 0:
        connection.execute(policies.insert().values(name=name, **values))


def add_reference_set(connection: Connection, name: str, document: str, now: int) -> None:
    """Add a set under a name that is free."""
    connection.execute(reference_sets.insert().values(name=name, document=document, created_at=now))


def remove_reference_set(connection: Connection, name: str) -> None:
    """Withdraw a set.

    :raises NotFound: ``reference-set-unknown``.
    """
    removed = connection.execute(delete(reference_sets).where(reference_sets.c.name == name))
    if removed.rowcount == 0:
        raise NotFound("reference-set-unknown", f"there is no reference set {name}")
