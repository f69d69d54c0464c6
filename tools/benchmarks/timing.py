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


@dataclass(frozen=True, slots=True)
class Figure:
    """One result.

    :param name: the key in JSON.
    :param value: the median.
    :param budget: the most it may be, None if there is none.
    :param baseline: what it was compared with, for people.
    """

    name: str
    value: float
    budget: float | None = None
    baseline: str = ""


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
    """Print the results: one flat JSON object, or a table with the budgets."""
    if as_json:
        print(json.dumps({figure.name: round(figure.value, 3) for figure in figures}))
        return
    table = PrettyTable(["figure", "median", "budget", "", "compared with"], align="l")
    for figure in figures:
        kept = "" if figure.budget is None else ("ok" if figure.value <= figure.budget else "OVER")
        budget = "" if figure.budget is None else f"{figure.budget:g}"
        table.add_row([figure.name, f"{figure.value:.3g}", budget, kept, figure.baseline])
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
