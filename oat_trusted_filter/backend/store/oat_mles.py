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
"""OEMs, operating systems and MLEs that were written through the interface of OpenAttestation.

What is good is kept in reference sets and nowhere else: an MLE with PCRs has one set, whose name
and kind follow from its key.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, select, update

from oat_trusted_filter.backend.store.tables import oat_makers, oat_mles

OEM = "oem"
OS = "os"
BIOS = "BIOS"
VMM = "VMM"
#: Begins the names of reference sets and policies that belong to this interface.
PREFIX = "oat-"
_KEY_DIGITS = 24


@dataclass(frozen=True, slots=True)
class Maker:
    """An OEM, or an operating system."""

    kind: str
    name: str
    version: str
    """Empty for an OEM."""
    description: str = ""


@dataclass(frozen=True, slots=True)
class StoredMle:
    """An MLE without its PCRs."""

    type: str
    maker: str
    maker_version: str
    name: str
    version: str
    attestation_type: str = "PCR"
    description: str = ""
    source: str | None = None
    """The host its values are said to be from."""

    @property
    def key(self) -> str:
        """One for each identity: databases limit how long an index may be."""
        identity = [self.type, self.maker, self.maker_version, self.name, self.version]
        return hashlib.sha256(json.dumps(identity).encode()).hexdigest()

    @property
    def reference_set(self) -> str:
        """The name of its reference set, which is of a kind of its own with the same name."""
        return f"{PREFIX}{self.key[:_KEY_DIGITS]}"

    @property
    def of(self) -> tuple[str, str, str]:
        """The key of its maker."""
        return (OEM if self.type == BIOS else OS, self.maker, self.maker_version)


def makers(connection: Connection, kind: str) -> list[Maker]:
    """All OEMs, or all operating systems."""
    query = select(oat_makers).where(oat_makers.c.kind == kind)
    query = query.order_by(oat_makers.c.name, oat_makers.c.version)
    return [Maker(**row) for row in connection.execute(query).mappings()]


def maker(connection: Connection, kind: str, name: str, version: str) -> Maker | None:
    """One of them."""
    query = select(oat_makers).where(*_named(kind, name, version))
    row = connection.execute(query).mappings().first()
    return None if row is None else Maker(**row)


def put_maker(connection: Connection, new: Maker) -> None:
    """Store an OEM or an operating system in place of the one of its name."""
    remove_maker(connection, new.kind, new.name, new.version)
    connection.execute(
        oat_makers.insert().values(
            kind=new.kind, name=new.name, version=new.version, description=new.description
        )
    )


def remove_maker(connection: Connection, kind: str, name: str, version: str) -> None:
    """Forget one; harmless if it is not there."""
    connection.execute(delete(oat_makers).where(*_named(kind, name, version)))


def _named(kind: str, name: str, version: str) -> tuple[Any, ...]:
    return (
        oat_makers.c.kind == kind, oat_makers.c.name == name, oat_makers.c.version == version,
    )  # fmt: skip


def all_mles(connection: Connection) -> list[StoredMle]:
    """All of them, by name."""
    columns = [column for column in oat_mles.c if column.name != "key"]
    query = select(*columns).order_by(oat_mles.c.name, oat_mles.c.version, oat_mles.c.key)
    return [StoredMle(**row) for row in connection.execute(query).mappings()]


def put_mle(connection: Connection, mle: StoredMle) -> None:
    """Store an MLE in place of the one of its name."""
    values = {name: getattr(mle, name) for name in StoredMle.__slots__}
    known = oat_mles.c.key == mle.key
    if connection.execute(update(oat_mles).where(known).values(values)).rowcount == 0:
        connection.execute(oat_mles.insert().values(key=mle.key, **values))


def remove_mle(connection: Connection, mle: StoredMle) -> None:
    """Forget an MLE; harmless if it is not there."""
    connection.execute(delete(oat_mles).where(oat_mles.c.key == mle.key))
