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
"""Where hosts that are not as a flavor asks are refused, and where that is only said.

``[trusted_computing] enforcement`` holds for all hosts; the metadata ``trust:enforcement`` of a
host aggregate, ``enforce`` or ``observe``, holds for its hosts. So trust can be rolled out
aggregate by aggregate, from either side. If a host is in several such aggregates that do not agree,
or the value is none of the two, it is refused.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

KEY = "trust:enforcement"
ENFORCE = "enforce"
OBSERVE = "observe"


class Aggregate(Protocol):
    """The part of Nova's aggregate that counts."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """Its metadata."""


class Aggregated(Protocol):
    """The part of Nova's HostState that counts."""

    @property
    def aggregates(self) -> Sequence[Any]:
        """The aggregates the host is in."""


HostT = TypeVar("HostT", bound=Aggregated)


def observes(aggregates: Iterable[Aggregate], *, default: bool) -> bool:
    """Whether a refusal of a host in these aggregates is only said.

    :param default: what holds if none of them says anything.
    """
    said = {
        aggregate.metadata[KEY] for aggregate in aggregates if KEY in (aggregate.metadata or {})
    }
    return said == {OBSERVE} if said else default


def observed(hosts: Sequence[HostT], *, default: bool) -> Sequence[HostT]:
    """Those of the hosts whose refusal is only said."""
    if default:
        return [h for h in hosts if not h.aggregates or observes(h.aggregates, default=True)]
    return [h for h in hosts if h.aggregates and observes(h.aggregates, default=False)]
