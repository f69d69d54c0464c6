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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from oat_trusted_filter.client.verdicts import TRUSTED, UNTRUSTED
from oat_trusted_filter.scheduler.extra_specs import Demand, Level, TagDemand
from oat_trusted_filter.scheduler.snapshot import HostVerdict, View, unmet

#: How a summary calls trusted hosts that a demand for tags refuses.
_OTHER_TAGS = HostVerdict(TRUSTED, "other tags")
#: Reasons a summary names for each level.
_REASONS_NAMED = 3


class Host(Protocol):
    """The part of Nova's HostState that counts: the hypervisor's host name, which is attested."""

    @property
    def nodename(self) -> str:
        """Name of the node, unlike ``host`` also where one nova-compute has several nodes."""


HostT = TypeVar("HostT", bound=Host)


@dataclass(frozen=True, slots=True)
class Decision(Generic[HostT]):
    """The hosts of one pass, in the order they came."""

    passed: list[HostT]
    refused: list[HostT]
    not_trusted: list[HostT]
    """The refused ones, unless the flavor asks for something else or the pass was lenient. With a
    demand for tags some of them are trusted."""
    view: View
    tags: tuple[TagDemand, ...] = ()
    """What the flavor asks for."""

    def reasons(self) -> Iterator[tuple[HostT, str]]:
        """Each host that is refused, with the reason."""
        for host in self.refused:
            verdict = self.view.verdict_on(host.nodename)
            reason = printable(verdict.reason) or "no reason given"
            if verdict.level == TRUSTED and self.tags:
                reason = self._tags_missing(host.nodename)
            yield host, f"{verdict.level} ({reason})"

    def _tags_missing(self, name: str) -> str:
        tags = self.view.tags_of(name)
        return ", ".join(
            f"not {demand} but {printable(tags[demand.name])}"
            if demand.name in tags
            else f"no tag {demand.name}"
            for demand in unmet(self.tags, tags)
        )


def decide(
    hosts: Sequence[HostT], demand: Demand, view: View, *, lenient: bool = False
) -> Decision[HostT]:
    """Which hosts are as the flavor asks.

    Names are compared as they are: no case folding, no short names. So are tags; the hosts that
    have them are found once for a snapshot, so asking for tags costs no more than for trust.

    :param lenient: refuse only hosts with a valid verdict that says the contrary, whatever tags
        they have.
    """
    refused: list[HostT] = []
    # Called where a host does not pass; that it returns nothing leaves the host out of the list. So
    # ten thousand hosts are looked at once.
    refuse: Callable[[HostT], object] = refused.append
    level = view.level
    if lenient:
        contrary = UNTRUSTED if demand.level is Level.TRUSTED else TRUSTED
        passed = [h for h in hosts if level(h.nodename) != contrary or refuse(h)]
    elif demand.level is Level.TRUSTED:
        trusted = view.trusted_with(demand.tags)
        passed = [h for h in hosts if h.nodename in trusted or refuse(h)]
        return Decision(passed, refused, refused, view, demand.tags)
    else:
        passed = [h for h in hosts if level(h.nodename) == UNTRUSTED or refuse(h)]
    not_trusted = [h for h in hosts if level(h.nodename) != TRUSTED]
    return Decision(passed, refused, not_trusted, view)


@dataclass(frozen=True, slots=True)
class Account:
    """How many hosts of a pass pass, and the verdicts on those that are not trusted."""

    passed: int
    total: int
    verdicts: Counter[HostVerdict]

    @classmethod
    def of(cls, decision: Decision[HostT]) -> "Account":
        """Count the hosts of a pass."""
        verdicts = decision.view.count([host.nodename for host in decision.not_trusted])
        for verdict in [verdict for verdict in verdicts if verdict.level == TRUSTED]:
            verdicts[_OTHER_TAGS] += verdicts.pop(verdict)
        return cls(
            passed=len(decision.passed),
            total=len(decision.passed) + len(decision.refused),
            verdicts=verdicts,
        )

    def __str__(self) -> str:
        """``3 of 40 hosts pass; 30 unknown (not-enrolled), 7 untrusted (pcr-mismatch)``."""
        levels: dict[str, Counter[str]] = {}
        for verdict, count in self.verdicts.items():
            levels.setdefault(verdict.level, Counter())[verdict.reason] += count
        text = f"{self.passed} of {self.total} hosts pass"
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


def printable(text: str) -> str:
    """The text as it may stand in a log line."""
    return "".join(c if c.isprintable() else "?" for c in text[:100])
