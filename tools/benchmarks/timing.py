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
"""Timing things side by side: rounds that take turns, so that a busy machine slows all of them."""

import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from prettytable import PrettyTable

_ROUNDS = 25
_SECONDS_A_ROUND = 0.02
#: From here on nobody wants to see decimals.
_WHOLE = 100


@dataclass(frozen=True, slots=True)
class Figure:
    """One result.

    :param name: the key in JSON.
    :param value: the median.
    :param budget: the most it may be, None if there is none.
    :param baseline: what it was compared with, for people.
    :param at_least: the budget is the least it may be.
    :param hosts: with so many hosts; these are shown side by side.
    """

    name: str
    value: float
    budget: float | None = None
    baseline: str = ""
    at_least: bool = False
    hosts: int | None = None

    @property
    def key(self) -> str:
        """The key in JSON."""
        return self.name if self.hosts is None else f"{self.name}_at_{self.hosts}_hosts"

    @property
    def verdict(self) -> str:
        """Whether it is within its budget."""
        if self.budget is None:
            return ""
        if self.at_least:
            return "ok" if self.value >= self.budget else "UNDER"
        return "ok" if self.value <= self.budget else "OVER"


def microseconds(
    calls: Mapping[str, Callable[[], object]], clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Median time of one call of each, in microseconds; they take turns.

    :param clock: seconds. For what only computes that of the processor, which leaves out what else
        the machine does.
    """
    counts = {name: _count(call, clock) for name, call in calls.items()}
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(_ROUNDS):
        for name, call in calls.items():
            started = clock()
            for _ in range(counts[name]):
                call()
            taken[name].append((clock() - started) / counts[name] * 1e6)
    return {name: statistics.median(times) for name, times in taken.items()}


def show(figures: Sequence[Figure], *, as_json: bool) -> None:
    """Print the results: one flat JSON object, or tables with the budgets."""
    if as_json:
        print(json.dumps({figure.key: round(figure.value, 3) for figure in figures}))
        return
    table = PrettyTable(["figure", "median", "budget", "", "compared with"], align="l")
    grown: dict[str, dict[int, float]] = {}
    for figure in figures:
        if figure.hosts is not None:
            grown.setdefault(figure.name, {})[figure.hosts] = figure.value
            continue
        budget = "" if figure.budget is None else f"{figure.budget:g}"
        budget = f">= {budget}" if figure.at_least else budget
        value = f"{figure.value:.0f}" if figure.value >= _WHOLE else f"{figure.value:.3g}"
        table.add_row([figure.name, value, budget, figure.verdict, figure.baseline])
    print(table)
    if grown:
        sizes = sorted({size for values in grown.values() for size in values})
        table = PrettyTable(["how cost grows", *(f"{size} hosts" for size in sizes)], align="r")
        table.align["how cost grows"] = "l"
        for name, values in grown.items():
            table.add_row([name, *(f"{values[size]:.1f}" for size in sizes)])
        print(table)


def _count(call: Callable[[], object], clock: Callable[[], float]) -> int:
    """How many calls make a round that is long enough to be timed."""
    count, spent = 1, 0.0
    while spent < _SECONDS_A_ROUND:
        count *= 2
        started = clock()
        for _ in range(count):
            call()
        spent = clock() - started
    return count
