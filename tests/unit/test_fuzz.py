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
"""No input makes a parser fail, hang or fill the memory; tools/fuzz looks for more of them."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings

from tools.fuzzing import driving
from tools.fuzzing.__main__ import NAMES
from tools.fuzzing.driving import FOUND, TooSlow, bounded_memory, drive, fuzz, inputs
from tools.fuzzing.targets import TARGETS

KEPT = sorted(FOUND.glob("*/*.bin"))


def test_each_target_can_be_named():
    assert sorted(TARGETS) == sorted(NAMES)


@pytest.mark.parametrize("name", TARGETS)
def test_D8_input_made_to_break_a_parser_is_read_or_refused(name):
    target = TARGETS[name]

    @settings(
        max_examples=60,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(inputs(tuple(target.seeds())))
    def check(data):
        drive(target, data)

    with bounded_memory():
        check()


@pytest.mark.parametrize("path", KEPT, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_D8_input_that_is_kept(path):
    """What was at fault once, and for each refusal of the small formats one that leads to it."""
    drive(TARGETS[path.parent.name], path.read_bytes())


@pytest.mark.parametrize("name", sorted(TARGETS.keys() - {"ek-certificate", "ima-log"}))
def test_seeds_are_good(name):
    for seed in TARGETS[name].seeds():
        TARGETS[name].run(seed)


@pytest.fixture
def faulty(monkeypatch, tmp_path):
    """The parser of quotes with a fault put in, and where inputs are kept."""
    monkeypatch.setattr(driving, "FOUND", tmp_path)

    def put(run):
        monkeypatch.setitem(TARGETS, "quote", replace(TARGETS["quote"], run=run))
        return tmp_path / "quote"

    return put


def test_a_fault_is_found_and_made_small(faulty):
    def run(data):
        if len(data) > 100 and data[0] == 0xFF:
            raise IndexError

    folder = faulty(run)

    count, found = fuzz("quote", 60)

    assert count > 0
    assert found.parent == folder
    kept = found.read_bytes()
    assert (len(kept) > 100, kept[0]) == (True, 0xFF)


def test_what_takes_too_long_is_a_fault(monkeypatch):
    monkeypatch.setattr(driving, "_timed", lambda target, data, clock: 0.06)

    drive(TARGETS["quote"], bytes(64 * 1024 + 1))
    with pytest.raises(TooSlow):
        drive(TARGETS["quote"], bytes(64 * 1024))


def test_what_needs_too_much_memory_is_a_fault():
    with bounded_memory(), pytest.raises(MemoryError):
        bytearray(1024 * 1024 * 1024)
