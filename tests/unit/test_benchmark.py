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
"""How tools/benchmark shows what it has measured."""

import json

import pytest

from tests.lab.load import Load
from tools.benchmarks.timing import Figure, show

FIGURES = [
    Figure("rounds_per_s", 900.4, 1000, "two processors", at_least=True),
    Figure("again_ms", 2.25, 5),
    Figure("cold_ms", 200.0, 150),
    Figure("rounds_per_s", 950.0, hosts=100),
    Figure("rounds_per_s", 940.0, hosts=10_000),
]


def test_json_is_one_flat_object(capsys):
    show(FIGURES, as_json=True)
    assert json.loads(capsys.readouterr().out) == {
        "rounds_per_s": 900.4,
        "again_ms": 2.25,
        "cold_ms": 200.0,
        "rounds_per_s_at_100_hosts": 950.0,
        "rounds_per_s_at_10000_hosts": 940.0,
    }


def test_people_see_what_misses_its_budget_and_how_cost_grows(capsys):
    show(FIGURES, as_json=False)
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("|")
    ]
    assert rows == [
        ["figure", "median", "budget", "", "compared with"],
        ["rounds_per_s", "900", ">= 1000", "UNDER", "two processors"],
        ["again_ms", "2.25", "5", "ok", ""],
        ["cold_ms", "200", "150", "OVER", ""],
        ["how cost grows", "100 hosts", "10000 hosts"],
        ["rounds_per_s", "950.0", "940.0"],
    ]


def test_a_load_is_told_by_rate_percentile_and_cost():
    load = Load(2.0, tuple(number / 1000 for number in range(100)), 0.1, 0.05)
    assert load.per_second == 50
    assert load.p99_ms == pytest.approx(99)
    assert load.costs == "1.00 ms of processor in the service, 0.50 ms in the load"
