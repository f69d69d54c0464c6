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
"""The count of changes relying parties have to hear of."""

from typing import NamedTuple

from sqlalchemy import Connection, select, update

from oat_trusted_filter.backend.store.tables import deletions, state

_STATE = select(state.c.epoch, state.c.cursor, state.c.rules)
_BUMP_CURSOR = update(state).values(cursor=state.c.cursor + 1)
_LOCK_RULES = update(state).values(rules=state.c.rules)
_BUMP_RULES = update(state).values(rules=state.c.rules + 1)


class Position(NamedTuple):
    """Where the counts stand."""

    epoch: str
    cursor: int
    rules: int


def position(connection: Connection) -> Position:
    """The counts as they are."""
    return Position._make(connection.execute(_STATE).one())


def next_cursor(connection: Connection) -> int:
    """Count a change in the transaction that makes it.

    The row stays locked until the end of the transaction, so changes are committed in the order of
    their numbers and nobody who has seen one number misses a lower one.
    """
    connection.execute(_BUMP_CURSOR)
    return position(connection).cursor


def next_rules(connection: Connection) -> int:
    """Count a change of policies or reference sets."""
    connection.execute(_BUMP_RULES)
    return position(connection).rules


def lock_rules(connection: Connection) -> int:
    """The count of changes of rules, which nobody changes before this transaction ends."""
    connection.execute(_LOCK_RULES)
    return position(connection).rules


def new_epoch(connection: Connection, epoch: str) -> None:
    """Let every relying party ask for everything again."""
    connection.execute(update(state).values(epoch=epoch))


def mark_deleted(connection: Connection, region: str, host: str) -> None:
    """Let relying parties forget a name."""
    forget_deletion(connection, region, host)
    connection.execute(
        deletions.insert().values(region=region, host=host, changed=next_cursor(connection))
    )


def forget_deletion(connection: Connection, region: str, host: str) -> None:
    """The name is in use again."""
    connection.execute(
        deletions.delete().where(deletions.c.region == region, deletions.c.host == host)
    )
