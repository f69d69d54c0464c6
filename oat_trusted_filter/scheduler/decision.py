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
"""Which hosts may take a server, and why the others may not."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from oat_trusted_filter.client.verdicts import TRUSTED, UNTRUSTED
from oat_trusted_filter.scheduler.extra_specs import Demand
from oat_trusted_filter.scheduler.snapshot import HostVerdict, View

#: Reasons a summary names for each level.
_REASONS_NAMED = 3


class Host(Protocol):
    """The part of Nova's HostState that counts: the hypervisor's host name, which is attested."""

    @property
    def nodename(self) -> str:
        """Name of the node, unlike ``host`` also where one nova-compute has several nodes."""


HostT = TypeVar("HostT", bound=Host)


def passing(
    hosts: Sequence[HostT], demand: Demand, view: View, *, lenient: bool = False
) -> list[HostT]:
    """The hosts that are as the flavor asks.

    Names are compared as they are: no case folding, no short names.

    :param lenient: refuse only hosts with a valid verdict that says the contrary.
    """
    if lenient:
        contrary = UNTRUSTED if demand is Demand.TRUSTED else TRUSTED
        return [h for h in hosts if view.verdict_on(h.nodename).level != contrary]
    if demand is Demand.TRUSTED:
        trusted = view.trusted
        return [h for h in hosts if h.nodename in trusted]
    return [h for h in hosts if view.verdict_on(h.nodename).level == UNTRUSTED]


@dataclass(frozen=True, slots=True)
class Account:
    """The verdicts on the hosts of one pass."""

    total: int
    counts: Counter[HostVerdict]
    """Of those that are not trusted."""

    @classmethod
    def of(cls, hosts: Sequence[Host], view: View) -> "Account":
        """Count them."""
        trusted = view.trusted
        counts = Counter(view.verdict_on(h.nodename) for h in hosts if h.nodename not in trusted)
        return cls(len(hosts), counts)

    def __str__(self) -> str:
        """``3 of 40 hosts trusted; 30 unknown (not-enrolled), 7 untrusted (pcr-mismatch)``."""
        levels: dict[str, Counter[str]] = {}
        for verdict, count in self.counts.items():
            levels.setdefault(verdict.level, Counter())[verdict.reason] += count
        trusted = self.total - self.counts.total()
        text = f"{trusted} of {self.total} hosts trusted"
        rest = ", ".join(_level_text(level, levels[level]) for level in sorted(levels))
        return f"{text}; {rest}" if rest else text


def _level_text(level: str, reasons: "Counter[str]") -> str:
    named = reasons.most_common(_REASONS_NAMED)
    if len(reasons) == 1:
        texts = [printable(reason) for reason, _ in named if reason]
    else:
        texts = [f"{count} {printable(reason) or 'without reason'}" for reason, count in named]
        left = reasons.total() - sum(count for _, count in named)
        texts += [f"{left} others"] if left else []
    return f"{reasons.total()} {level}" + (f" ({', '.join(texts)})" if texts else "")


def refusals(
    hosts: Sequence[HostT], passed: Sequence[HostT], view: View
) -> Iterator[tuple[HostT, str]]:
    """Each host that is not among those passed, with the reason."""
    kept = set(map(id, passed))
    for host in hosts:
        if id(host) not in kept:
            verdict = view.verdict_on(host.nodename)
            yield host, f"{verdict.level} ({printable(verdict.reason) or 'no reason given'})"


def printable(text: str) -> str:
    """The text as it may stand in a log line."""
    return "".join(c if c.isprintable() else "?" for c in text[:100])
