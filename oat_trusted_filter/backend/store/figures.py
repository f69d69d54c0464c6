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
"""How many hosts there are, how they fare, and what ends soon."""

from collections.abc import Mapping
from typing import NamedTuple

from sqlalchemy import Connection, func, select

from oat_trusted_filter.backend.store import enforcers
from oat_trusted_filter.backend.store.enforcers import Enforcer
from oat_trusted_filter.backend.store.tables import hosts, tokens, verdicts


class Figures(NamedTuple):
    """Moments are milliseconds since 1970."""

    hosts: Mapping[str, int]
    """By state."""
    verdicts: Mapping[str, int]
    """By level."""
    oldest: int | None
    """When the oldest verdict that is still valid was made."""
    enforcers: list[Enforcer]
    tokens: Mapping[str, int]
    """When tokens end, of those that do."""


def read(connection: Connection) -> Figures:
    """The figures of this moment."""

    def counted(column: object) -> dict[str, int]:
        query = select(column, func.count()).group_by(column)  # type: ignore[call-overload]
        return {row[0]: row[1] for row in connection.execute(query)}

    running = verdicts.c.deadline.is_not(None)
    ending = select(tokens.c.name, tokens.c.expires_at).where(tokens.c.expires_at.is_not(None))
    return Figures(
        counted(hosts.c.state),
        counted(verdicts.c.level),
        connection.scalar(select(func.min(verdicts.c.appraised_at)).where(running)),
        enforcers.everything(connection),
        {row.name: row.expires_at for row in connection.execute(ending)},
    )
