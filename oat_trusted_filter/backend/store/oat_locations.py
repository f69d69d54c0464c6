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
"""Places that were written through the interface of OpenAttestation."""

from collections.abc import Collection, Mapping

from sqlalchemy import Connection, delete, select

from oat_trusted_filter.backend.store.tables import oat_locations


def put(connection: Connection, value: str, location: str) -> None:
    """Store the place a value stands for, instead of the one it stood for."""
    connection.execute(delete(oat_locations).where(oat_locations.c.value == value))
    connection.execute(oat_locations.insert().values(value=value, location=location))


def of_values(connection: Connection, values: Collection[str]) -> Mapping[str, str]:
    """The places of those of the values that stand for one."""
    query = select(oat_locations).where(oat_locations.c.value.in_(values))
    return {row.value: row.location for row in connection.execute(query)}
