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
"""A Nova cloud in one process: API, conductor, scheduler, placement and compute services.

Everything is Nova's own code, set up by Nova's own functional fixtures; only the virt driver, the
network, image and volume services and the message bus are Nova's fakes. It needs no pytest. Tests
and the demo use it as a context manager, or with :meth:`NovaCloud.start` and ``stop``::

    with NovaCloud({"endpoint": "https://127.0.0.1:8443", ...}, hosts=("a", "b")) as cloud:
        server = cloud.create_server(cloud.create_flavor(trusted=True))
        print(server.host or server.fault, cloud.filter_log)

One cloud at a time, for Nova's configuration belongs to the process. Nothing is written to the
terminal; a failure of the cloud itself is raised.
"""

import contextlib
import gc
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from tests.lab.nova_nodes import copy_node, set_nodes
from tests.lab.nova_services import (
    FilterLog,
    NotFound,
    NovaServices,
    pool_threads,
)
from tests.lab.wait import WaitTimeout, wait_for

COMPUTES = ("compute-1", "compute-2", "compute-3", "compute-4")
#: Images of Nova's fake image service; a rebuild with another image asks the scheduler.
IMAGE = "155d900f-4e14-4e4c-a73d-069cbf4541e6"
OTHER_IMAGE = "76fa36fc-c930-4bf3-8c8a-ea2a2420deb6"

_SECONDS = 30.0
_BUSY = frozenset({"BUILD", "REBUILD", "RESIZE", "MIGRATING", "SHELVED"})
_MIGRATION_ENDED = frozenset({"completed", "done", "finished", "confirmed", "error", "failed"})


@dataclass(frozen=True, slots=True)
class Server:
    """What became of a request for a server."""

    id: str
    name: str
    host: str | None
    """Hypervisor host name, None if it is on none."""
    status: str
    """``ACTIVE``, ``ERROR``, ``VERIFY_RESIZE``, ..."""
    fault: str | None
    """Nova's message if that is ``ERROR``."""

    @property
    def refused(self) -> bool:
        """Whether there was no valid host for it."""
        return self.status == "ERROR" and "No valid host" in (self.fault or "")


class NovaCloud:
    """The cloud.

    :param options: values for ``[trusted_computing]``, by option name.
    :param hosts: names of the compute hosts; the node of each has the same name.
    :param filters: short names of the filters beside TrustedFilter.
    :param scheduler_options: values for ``[scheduler]``, by option name.
    """

    def __init__(
        self,
        options: Mapping[str, Any] | None = None,
        hosts: Sequence[str] = COMPUTES,
        filters: Sequence[str] = ("ComputeFilter",),
        scheduler_options: Mapping[str, Any] | None = None,
    ) -> None:
        self.hosts = tuple(hosts)
        self._options = dict(options or {})
        self._filters = [*filters, "TrustedFilter"]
        self._scheduler_options = dict(scheduler_options or {})
        self._case: Any = None
        self._log = FilterLog()
        self._threads: frozenset[Any] = frozenset()
        self._numbers = itertools.count(1)

    def start(self) -> None:
        """Bring the cloud up; some 4 s. If that fails, nothing of it is left."""
        if self._case is not None:
            raise RuntimeError("the cloud is up already")
        self._threads = pool_threads()
        self._case = case = NovaServices(self._options, self._filters, self._scheduler_options)
        self._log.install()
        try:
            case.setUp()
            for host in self.hosts:
                case.start_compute(host)
        except BaseException:
            with contextlib.suppress(ExceptionGroup, WaitTimeout):  # what came first matters
                self.stop()
            raise

    def stop(self) -> None:
        """Take the cloud down; without effect if it is not up.

        :raises ExceptionGroup: what went wrong; all the rest was taken down.
        """
        case, self._case = self._case, None
        if case is None:
            return
        errors = case.take_down()
        self._log.remove()
        del case
        gc.collect()  # idle workers of Nova's thread pools end with their pool
        wait_for(lambda: pool_threads() <= self._threads, _SECONDS, "the threads of Nova to end")
        if errors:
            raise ExceptionGroup("the cloud did not come down in order", errors)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def api(self) -> Any:
        """Nova's own test client with the rights of an administrator, newest microversion."""
        return self._case.api

    @property
    def filter_log(self) -> list[str]:
        """What the filter has logged, debug included, one ``LEVEL message`` each."""
        return list(self._log.lines)

    def create_flavor(
        self, *, trusted: bool, name: str | None = None, version: str = "latest", **extra_specs: str
    ) -> str:
        """Make a flavor and return its id.

        :param trusted: it has ``trust:trusted_host=trusted``.
        :param version: microversion; before 2.86 nova-api takes any extra specs.
        :param extra_specs: more of them; ``__`` in a name stands for a colon.
        :raises ApiError: nova-api does not take the extra specs.
        """
        number = next(self._numbers)
        flavor = self.api.post_flavor(
            {
                "flavor": {
                    "id": f"flavor-{number}",
                    "name": name or f"{'trusted' if trusted else 'plain'}-{number}",
                    "ram": 256,  # so that one host has room for thirty
                    "vcpus": 1,
                    "disk": 1,
                }
            }
        )
        specs = {key.replace("__", ":"): value for key, value in extra_specs.items()}
        if trusted:
            specs["trust:trusted_host"] = "trusted"
        if specs:
            with self.at(version):
                self.api.post_extra_spec(flavor["id"], {"extra_specs": specs})
        return str(flavor["id"])

    @contextlib.contextmanager
    def at(self, version: str) -> Iterator[None]:
        """Use another microversion of the API in the block."""
        before, self.api.microversion = self.api.microversion, version
        try:
            yield
        finally:
            self.api.microversion = before

    def start_compute(self, host: str) -> None:
        """Add a compute service with a node of the same name."""
        self._case.start_compute(host)

    def set_nodes(self, host: str, *nodes: str) -> None:
        """Give a compute service these nodes."""
        set_nodes(self._case.computes[host], nodes)

    def copy_node(self, node: str, count: int) -> None:
        """Let Nova believe in that many nodes more, on which no server can be started."""
        copy_node(node, self._case.cell_mappings["cell1"], [f"{node}-{n}" for n in range(count)])

    def set_traits(self, node: str, *traits: str) -> None:
        """Give the resource provider of a node these traits."""
        self._case.set_traits(node, *traits)

    def create_aggregate(self, *hosts: str, **metadata: str) -> int:
        """Make a host aggregate; ``__`` in a name of the metadata stands for a colon."""
        made = self.api.post_aggregate({"aggregate": {"name": f"agg-{next(self._numbers)}"}})
        found = {key.replace("__", ":"): value for key, value in metadata.items()}
        self.api.post_aggregate_action(made["id"], {"set_metadata": {"metadata": found}})
        for host in hosts:
            self.api.add_host_to_aggregate(made["id"], host)
        return int(made["id"])

    def delete_aggregate(self, aggregate: int, *hosts: str) -> None:
        """Delete a host aggregate with these hosts."""
        for host in hosts:
            self.api.remove_host_from_aggregate(aggregate, host)
        self.api.delete_aggregate(aggregate)

    def create_servers(self, flavor: str, count: int) -> list[Server]:
        """Boot several servers with one request."""
        name = f"servers-{next(self._numbers)}"
        request = {
            "name": name,
            "imageRef": IMAGE,
            "flavorRef": flavor,
            "networks": "none",
            "min_count": count,
        }
        self.api.post_server({"server": request})
        found = self.api.get_servers(search_opts={"name": name})
        return [self._settled(one["id"]) for one in found]

    def create_server(
        self,
        flavor: str,
        *,
        name: str | None = None,
        host: str | None = None,
        zone: str | None = None,
    ) -> Server:
        """Boot a server and wait until it is ACTIVE or ERROR.

        :param flavor: id of the flavor.
        :param host: ask for this host; the filters are asked all the same.
        :param zone: availability zone; ``nova:HOST`` goes round the filters.
        """
        request = {
            "name": name or f"server-{next(self._numbers)}",
            "imageRef": IMAGE,
            "flavorRef": flavor,
            "networks": "none",
        }
        if host is not None:
            request["host"] = host
        if zone is not None:
            request["availability_zone"] = zone
        return self._settled(self.api.post_server({"server": request})["id"])

    def rebuild(self, server: Server, image: str = OTHER_IMAGE) -> Server:
        """Rebuild a server in its place; the scheduler is asked only if the image is another."""
        return self._act(server, {"rebuild": {"imageRef": image}})

    def resize(self, server: Server, flavor: str) -> Server:
        """Give a server another flavor and confirm; where it was if no host is valid."""
        return self._confirmed(self._act(server, {"resize": {"flavorRef": flavor}}))

    def migrate(self, server: Server, host: str | None = None) -> Server:
        """Move a server, to a certain host or any, and confirm; where it was if none is valid."""
        return self._confirmed(self._act(server, {"migrate": {"host": host} if host else None}))

    def live_migrate(self, server: Server, host: str | None = None) -> Server:
        """Move a running server, to a certain host or any; where it was if none is valid."""
        return self._migrated(server, {"os-migrateLive": {"host": host, "block_migration": "auto"}})

    def force_live_migration(self, server: Server, host: str) -> Server:
        """Move a running server as clients before microversion 2.68 can."""
        action = {"host": host, "block_migration": "auto", "force": True}
        with self.at("2.67"):
            return self._migrated(server, {"os-migrateLive": action})

    def resize_and_revert(self, server: Server, flavor: str) -> tuple[Server, Server]:
        """Give a server another flavor and go back; how it was in between and how it is then."""
        between = self._act(server, {"resize": {"flavorRef": flavor}})
        return between, self._act(between, {"revertResize": None})

    def stop_and_start(self, server: Server) -> Server:
        """Switch a server off and on."""
        self.api.post_server_action(server.id, {"os-stop": None})
        wait_for(
            lambda: self._show(server.id)["status"] == "SHUTOFF", _SECONDS, f"{server.name} to stop"
        )
        return self._act(server, {"os-start": None})

    def evacuate(self, server: Server, host: str | None = None, *, force: bool = False) -> Server:
        """Rebuild a server elsewhere after its host was lost, see :meth:`lose_host`."""
        wanted: dict[str, Any] = {"host": host} if host else {}
        if not force:
            return self._migrated(server, {"evacuate": wanted})
        with self.at("2.67"):
            return self._migrated(server, {"evacuate": {**wanted, "force": True}})

    def shelve(self, server: Server) -> Server:
        """Take a server off its host and keep it."""
        self.api.post_server_action(server.id, {"shelve": None})
        wait_for(
            lambda: self._show(server.id)["OS-EXT-SRV-ATTR:host"] is None,
            _SECONDS,
            f"{server.name} to leave its host",
        )
        return self._settled(server.id)

    def unshelve(self, server: Server) -> Server:
        """Bring a shelved server back, on any host; it stays shelved if none is valid."""
        return self._act(server, {"unshelve": None})

    def lose_host(self, host: str) -> None:
        """Stop the compute service of a host, as in a power cut."""
        self._case.computes[host].stop()
        (service,) = self.api.get_services(binary="nova-compute", host=host)
        self.api.put_service(service["id"], {"forced_down": True})

    def delete(self, server: Server) -> None:
        """Delete a server and wait until it is gone."""
        self.api.delete_server(server.id)
        wait_for(lambda: self._show(server.id) is None, _SECONDS, f"the end of {server.name}")

    def delete_all(self) -> None:
        """Delete all servers there are."""
        for found in self.api.get_servers():
            self.delete(self._settled(found["id"]))

    def _act(self, server: Server, action: Mapping[str, Any]) -> Server:
        self.api.post_server_action(server.id, action)
        return self._settled(server.id)

    def _confirmed(self, server: Server) -> Server:
        if server.status != "VERIFY_RESIZE":
            return server
        self.api.post_server_action(server.id, {"confirmResize": None})
        wait_for(
            lambda: self.api.get_server(server.id)["status"] == "ACTIVE",
            _SECONDS,
            f"the new host of {server.name} to be confirmed",
        )
        return self._settled(server.id)

    def _migrated(self, server: Server, action: Mapping[str, Any]) -> Server:
        ended = self._migrations_ended(server)
        self.api.post_server_action(server.id, action)
        # The record is finished after the server shows its new host.
        wait_for(
            lambda: self._migrations_ended(server) > ended,
            _SECONDS,
            f"the end of the migration of {server.name}",
        )
        return self._settled(server.id)

    def _migrations_ended(self, server: Server) -> int:
        return sum(
            migration["instance_uuid"] == server.id and migration["status"] in _MIGRATION_ENDED
            for migration in self.api.get_migrations()
        )

    def _show(self, server_id: str) -> Any:
        try:
            return self.api.get_server(server_id)
        except NotFound:
            return None

    def _settled(self, server_id: str) -> Server:
        def settled() -> Mapping[str, Any] | None:
            found = self._show(server_id)
            if found is None or found["status"] in _BUSY or found["OS-EXT-STS:task_state"]:
                return None
            return found

        found = wait_for(settled, _SECONDS, f"server {server_id} to be ACTIVE or ERROR")
        assert found is not None
        return Server(
            id=server_id,
            name=found["name"],
            host=found["OS-EXT-SRV-ATTR:hypervisor_hostname"],
            status=found["status"],
            fault=found.get("fault", {}).get("message"),
        )
