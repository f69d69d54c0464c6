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
"""Nodes of compute services: several on one, many of them, and their traits in placement."""

import uuid as uuids
from collections.abc import Sequence
from typing import Any

from sqlalchemy import select

from tests.lab.nova_services import (
    main_db,
    main_models,
    nova_context,
    placement_db,
    placement_models,
)


def set_nodes(service: Any, names: Sequence[str]) -> None:
    """Give a running compute service these nodes in place of those it has."""
    driver = service.manager.driver
    driver._set_nodes(list(names))
    driver.is_node_deleted = lambda name: name not in names
    service.manager.update_available_resource(nova_context.get_admin_context())


def copy_node(name: str, cell: Any, copies: Sequence[str]) -> None:
    """Put copies of a node under other names into the databases of Nova and of placement.

    Starting as many compute services would take minutes. Nova believes in the copies, but no
    service is there to start a server on one of them.
    """
    uuid_of = {copy: str(uuids.uuid4()) for copy in copies}
    with nova_context.target_cell(nova_context.get_admin_context(), cell) as context:
        nodes = main_models.ComputeNode.__table__
        with main_db.get_engine(context=context).begin() as connection:
            _copy_rows(
                connection,
                nodes,
                nodes.c.hypervisor_hostname == name,
                [{"hypervisor_hostname": copy, "uuid": uuid_of[copy]} for copy in copies],
            )
    providers = placement_models.ResourceProvider.__table__
    with placement_db.placement_context_manager.writer.get_engine().begin() as connection:
        original = connection.scalar(select(providers.c.id).where(providers.c.name == name))
        _copy_rows(
            connection,
            providers,
            providers.c.id == original,
            [{"name": copy, "uuid": uuid_of[copy]} for copy in copies],
        )
        numbers = connection.scalars(
            select(providers.c.id).where(providers.c.uuid.in_(uuid_of.values()))
        ).all()
        connection.execute(
            providers.update()
            .where(providers.c.id.in_(numbers))
            .values(root_provider_id=providers.c.id)
        )
        for model in (placement_models.Inventory, placement_models.ResourceProviderTrait):
            table = model.__table__
            _copy_rows(
                connection,
                table,
                table.c.resource_provider_id == original,
                [{"resource_provider_id": number} for number in numbers],
            )


def _copy_rows(connection: Any, table: Any, which: Any, changes: Sequence[dict[str, Any]]) -> None:
    for row in connection.execute(select(table).where(which)).mappings().all():
        same = {column: value for column, value in row.items() if column != "id"}
        connection.execute(table.insert(), [{**same, **change} for change in changes])
