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
"""What filters never see: hosts that are forced, and the limit of placement.

With ``[trusted_computing] request_filter`` nova-scheduler asks this before it asks placement.

1. An availability zone ``nova:HOST`` names the host, and Nova then asks no filter. Such a request
   of a flavor that asks for trust is refused unless all nodes of that host are as the flavor asks.
   Which nodes a host has is what Nova itself has on record; the verdicts are those of the filter.
2. With ``require_trait`` placement gets the trait of trusted hosts, and those of tags that have to
   have one certain value, as required ones, so that it names trusted hosts only. Otherwise
   ``[scheduler] max_placement_results`` may leave no trusted host in a large cloud.

Nova has no interface for this. It looks up its request filters in a list, and ours is added to it.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from nova import context as nova_context
from nova import exception, objects
from nova.scheduler import request_filter as nova_request_filter
from oslo_log import log as logging

from oat_trusted_filter import traits
from oat_trusted_filter.scheduler.decision import decide
from oat_trusted_filter.scheduler.enforcement import observes
from oat_trusted_filter.scheduler.extra_specs import Demand, DemandError, Level, read_demand
from oat_trusted_filter.scheduler.requests import extra_specs_of, loaded, printable, title_of
from oat_trusted_filter.scheduler.settings import Settings
from oat_trusted_filter.scheduler.source import VerdictSource

LOG = logging.getLogger(__name__)

_LIST = "ALL_REQUEST_FILTERS"


class HookGone(Exception):
    """This Nova looks for its request filters elsewhere. Code ``request-filter-gone``."""

    code = "request-filter-gone"


class _Node:
    """A node as far as a decision needs it."""

    __slots__ = ("nodename",)

    def __init__(self, nodename: str) -> None:
        self.nodename = nodename


class RequestFilter:
    """Called by nova-scheduler with each request; thread-safe.

    :param source: tells the source of verdicts, None if the filter is not set up.
    """

    def __init__(self, settings: Settings, source: Callable[[], VerdictSource | None]) -> None:
        self._settings = settings
        self._source = source

    def __call__(self, ctxt: Any, spec_obj: Any) -> bool:
        """Look at a request; says whether there was anything to do.

        :raises nova.exception.RequestFilterFailed: the host that is forced is none for this flavor.
        """
        try:
            demand = read_demand(extra_specs_of(spec_obj))
        except DemandError as error:
            # Without a forced host the filter says so.
            self._refuse_forced(ctxt, spec_obj, str(error))
            return True
        if demand is None:
            return False
        try:
            why = self._objection(ctxt, spec_obj, demand)
        except Exception as error:
            LOG.exception("TrustedFilter cannot judge the host that is forced")
            why = f"internal error, {type(error).__name__}"
        if why is not None:
            self._refuse_forced(ctxt, spec_obj, why)
        if self._settings.require_trait and not self._settings.observe:
            spec_obj.root_required.update(required_traits(demand))
        return True

    def _objection(self, ctxt: Any, spec_obj: Any, demand: Demand) -> str | None:
        """Why the forced host is none for this flavor; None if it is one, or none is forced."""
        if not _forced(spec_obj):
            return None
        nodes = [_Node(name) for name in _forced_nodes(ctxt, spec_obj)]
        source = self._source()
        if source is None:
            return "the filter is not set up"
        if not nodes:
            return "Nova knows no node of it"
        view = source.view(lambda: [node.nodename for node in nodes])
        decision = decide(nodes, demand, view)
        reasons = [
            f"node {printable(node.nodename)} is {reason}" for node, reason in decision.reasons()
        ]
        if reasons and view.problem:
            reasons.append(view.problem)
        return "; ".join(reasons) or None

    def _refuse_forced(self, ctxt: Any, spec_obj: Any, why: str) -> None:
        forced = _forced(spec_obj)
        if not forced:
            return
        text = f"{title_of(spec_obj)}: forced host {printable(forced)}"
        if self._observes(ctxt, spec_obj):
            LOG.warning("%s would be refused: %s; enforcement = observe", text, why)
            return
        LOG.warning("%s is refused: %s", text, why)
        raise exception.RequestFilterFailed(
            reason=f"The host {printable(forced)} is not as the flavor asks for in trust."
        )

    def _observes(self, ctxt: Any, spec_obj: Any) -> bool:
        default = self._settings.observe
        hosts = _names(spec_obj, "force_hosts")
        if not hosts:
            # A zone "nova::NODE" names no host, and aggregates are made of hosts.
            return default
        try:
            return all(
                observes(objects.AggregateList.get_by_host(ctxt, host), default=default)
                for host in hosts
            )
        except Exception:
            LOG.exception("the aggregates of a forced host are not known")
            return default


def required_traits(demand: Demand) -> set[str]:
    """What placement can be asked for; several values of a tag are for the filter alone."""
    if demand.level is not Level.TRUSTED:
        return set()
    return {traits.TRUSTED} | {
        traits.tag_trait(tag.name, *tag.values) for tag in demand.tags if len(tag.values) == 1
    }


def install(request_filter: RequestFilter) -> None:
    """Let nova-scheduler ask it; one that was installed before is replaced.

    :raises HookGone: this Nova would never ask.
    """
    known = getattr(nova_request_filter, _LIST, None)
    asking = getattr(nova_request_filter, "process_reqspec", None)
    if not isinstance(known, list) or not inspect.isfunction(asking):
        raise HookGone(f"nova.scheduler.request_filter has no {_LIST} and process_reqspec")
    if _LIST not in asking.__code__.co_names:
        raise HookGone(f"nova.scheduler.request_filter.process_reqspec does not use {_LIST}")
    known[:] = [one for one in known if not isinstance(one, RequestFilter)] + [request_filter]


def _names(spec_obj: Any, field: str) -> Sequence[str]:
    return loaded(spec_obj, field) or ()


def _forced(spec_obj: Any) -> str:
    """The host that is forced, for people; empty if none is."""
    return ":".join((*_names(spec_obj, "force_hosts"), *_names(spec_obj, "force_nodes")))


def _forced_nodes(ctxt: Any, spec_obj: Any) -> Sequence[str]:
    """Hypervisor host names of what is forced: the node, or all nodes of the host."""
    nodes = _names(spec_obj, "force_nodes")
    if nodes:
        return nodes
    found: list[str] = []
    for host in _names(spec_obj, "force_hosts"):
        try:
            mapping = objects.HostMapping.get_by_host(ctxt, host)
            with nova_context.target_cell(ctxt, mapping.cell_mapping) as cell:
                records = objects.ComputeNodeList.get_all_by_host(cell, host)
        except exception.NotFound:
            return ()
        found += [record.hypervisor_hostname for record in records]
    return found
