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
"""What is known of the IMA logs of hosts, and the files these have shown."""

from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, delete, select, update

from oat_trusted_filter.backend.store.tables import ima_files, ima_states


@dataclass(frozen=True, slots=True)
class ImaChange:
    """What a round changes."""

    document: str | None
    """JSON; None: nothing is known any more."""
    kept: int | None = None
    """Size of all files before they are packed; None: they are not kept."""
    files: bytes = b""
    """Those of the round, packed."""
    fresh: bool = True
    """They take the place of what is kept; otherwise they come after it."""


class StoredIma(NamedTuple):
    """How far the log of a host is known."""

    document: str
    """JSON."""
    kept: int | None
    """Size of its files before they are packed; None: they are not kept."""


def load(connection: Connection, host_id: int) -> StoredIma | None:
    """How far the log of a host is known; None: it is not."""
    query = select(ima_states.c.document, ima_states.c.kept).where(ima_states.c.host_id == host_id)
    row = connection.execute(query).first()
    return None if row is None else StoredIma._make(row)


def files(connection: Connection, host_id: int) -> bytes:
    """The files of a log that are kept, packed."""
    query = select(ima_files.c.data).where(ima_files.c.host_id == host_id)
    return connection.scalar(query) or b""


def change(connection: Connection, host_id: int, made: ImaChange) -> None:
    """Store what a round changes."""
    if made.document is None:
        forget(connection, host_id)
        return
    values = {"document": made.document, "kept": made.kept}
    known = connection.execute(
        update(ima_states).where(ima_states.c.host_id == host_id).values(values)
    )
    if known.rowcount == 0:
        connection.execute(ima_states.insert().values(host_id=host_id, **values))
    if made.fresh or made.kept is None:
        connection.execute(delete(ima_files).where(ima_files.c.host_id == host_id))
    if made.files and made.kept is not None:
        _append(connection, host_id, made.files)


def _append(connection: Connection, host_id: int, packed: bytes) -> None:
    before = files(connection, host_id)
    if before:
        connection.execute(
            update(ima_files).where(ima_files.c.host_id == host_id).values(data=before + packed)
        )
    else:
        connection.execute(ima_files.insert().values(host_id=host_id, data=packed))


def forget(connection: Connection, host_id: int) -> None:
    """Nothing is known any more."""
    for table in (ima_states, ima_files):
        connection.execute(delete(table).where(table.c.host_id == host_id))
