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

from sqlalchemy import Connection, Table, delete, select, update

from oat_trusted_filter.backend.store import changes
from oat_trusted_filter.backend.store.errors import NotFound
from oat_trusted_filter.backend.store.tables import policies, reference_sets


class StoredRule(NamedTuple):
    """A document, and the count of rules when it was last changed."""

    document: str
    generation: int


class Documents(NamedTuple):
    """All rules, and the count of changes they belong to."""

    version: int
    policies: dict[str, StoredRule]
    reference_sets: dict[str, StoredRule]


def load(connection: Connection) -> Documents:
    """Everything.

    Without a transaction a change in between may show in the documents and not yet in the version;
    whoever keeps them finds the version out of date the next time.
    """
    version = changes.position(connection).rules
    return Documents(version, _stored(connection, policies), _stored(connection, reference_sets))


def _stored(connection: Connection, table: Table) -> dict[str, StoredRule]:
    query = select(table.c.name, table.c.document, table.c.generation).order_by(table.c.name)
    return {
        row.name: StoredRule(row.document, row.generation) for row in connection.execute(query)
    }


def put_policy(
    connection: Connection, name: str, document: str, generation: int, now: int
) -> None:
    """Create or replace a policy."""
    values = {"document": document, "generation": generation, "changed_at": now}
    replaced = connection.execute(update(policies).where(policies.c.name == name).values(values))
    if replaced.rowcount == 0:
        connection.execute(policies.insert().values(name=name, **values))


def remove_policy(connection: Connection, name: str) -> None:
    """Forget a policy.

    :raises NotFound: ``policy-unknown``.
    """
    removed = connection.execute(delete(policies).where(policies.c.name == name))
    if removed.rowcount == 0:
        raise NotFound("policy-unknown", f"there is no policy {name}")


def add_reference_set(
    connection: Connection, name: str, document: str, generation: int, now: int
) -> None:
    """Add a set under a name that is free."""
    connection.execute(
        reference_sets.insert().values(
            name=name, document=document, generation=generation, created_at=now
        )
    )


def replace_reference_set(
    connection: Connection, name: str, document: str, generation: int
) -> None:
    """Store what has become of a set.

    :raises NotFound: ``reference-set-unknown``.
    """
    replaced = connection.execute(
        update(reference_sets)
        .where(reference_sets.c.name == name)
        .values(document=document, generation=generation)
    )
    if replaced.rowcount == 0:
        raise NotFound("reference-set-unknown", f"there is no reference set {name}")


def remove_reference_set(connection: Connection, name: str) -> None:
    """Withdraw a set.

    :raises NotFound: ``reference-set-unknown``.
    """
    removed = connection.execute(delete(reference_sets).where(reference_sets.c.name == name))
    if removed.rowcount == 0:
        raise NotFound("reference-set-unknown", f"there is no reference set {name}")
