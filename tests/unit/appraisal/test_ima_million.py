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
"""A million files in the memory of a part of the list."""

import json
import subprocess
import sys

import pytest

from oat_trusted_filter.tcg.ima import MAX_PART_BYTES
from tests.unit.appraisal.million import ENTRIES


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_D9_a_million_entries_need_the_memory_of_a_part():
    ran = subprocess.run(
        [sys.executable, "-m", "tests.unit.appraisal.million"],
        check=True,
        stdout=subprocess.PIPE,
        timeout=300,
    )
    found = json.loads(ran.stdout)

    assert (found["entries"], found["unknown"]) == (ENTRIES, 0)
    # Nothing is known for sure before the last part.
    assert found["complete"] == [False] * (found["parts"] - 1) + [True]
    # The whole list has a hundred megabytes; kB. A part with all that is made of it has less.
    assert found["parts"] * MAX_PART_BYTES > 100_000_000
    assert found["growth"] < 40_000
    assert found["highest"] < 128_000
