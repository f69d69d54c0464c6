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
"""What enforcers last said of themselves. Moments are milliseconds since 1970."""

from typing import NamedTuple

from sqlalchemy import Connection, delete, func, select, update

from oat_trusted_filter.backend.store.errors import TooManyEnforcers
from oat_trusted_filter.backend.store.tables import enforcers

#: An enforcer reports every 30 s; after three missed reports it is silent.
SILENT_AFTER_MS = 90_000
#: An enforcer that was silent for a week is not expected back.
FORGOTTEN_AFTER_MS = 7 * 24 * 3600 * 1000
#: Most enforcers that are remembered, so that a lost token cannot fill the table.
MOST_ENFORCERS = 200


class Enforcer(NamedTuple):
    """The last report of an enforcer."""

    region: str
    name: str
    leader: bool
    """Whether it was the one that acts."""
    counts: str
    """What it did since its start, as JSON."""
    reported_at: int

    def silent(self, now: int) -> bool:
        """Whether reports are missing."""
        return now - self.reported_at > SILENT_AFTER_MS


def report(connection: Connection, enforcer: Enforcer) -> None:
    """Take a report; whoever has not reported for long is forgotten.

    :raises TooManyEnforcers: it is a new one, and there are too many.
    """
    mine = (enforcers.c.region == enforcer.region) & (enforcers.c.name == enforcer.name)
    values = {
        "leader": enforcer.leader,
        "counts": enforcer.counts,
        "reported_at": enforcer.reported_at,
    }
    if connection.execute(update(enforcers).where(mine).values(values)).rowcount:
        return
    long_ago = enforcer.reported_at - FORGOTTEN_AFTER_MS
    connection.execute(delete(enforcers).where(enforcers.c.reported_at < long_ago))
    count = connection.scalar(select(func.count()).select_from(enforcers)) or 0
    if count >= MOST_ENFORCERS:
        raise TooManyEnforcers(f"there are {count} enforcers already")
    connection.execute(enforcers.insert().values(enforcer._asdict()))


def everything(connection: Connection) -> list[Enforcer]:
    """All enforcers by region and name."""
    query = select(
        enforcers.c.region,
        enforcers.c.name,
        enforcers.c.leader,
        enforcers.c.counts,
        enforcers.c.reported_at,
    ).order_by(enforcers.c.region, enforcers.c.name)
    return [Enforcer(*row) for row in connection.execute(query)]


def regions_left_alone(connection: Connection, now: int) -> list[str]:
    """Regions that have enforcers of which none says that it acts.

    A region without any enforcer is not one of them: not every cloud has enforcers.
    """
    known = everything(connection)
    kept = {one.region for one in known if one.leader and not one.silent(now)}
    return sorted({one.region for one in known} - kept)
