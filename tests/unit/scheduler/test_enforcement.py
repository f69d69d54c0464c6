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
"""Where a refusal is only said."""

from dataclasses import dataclass, field

import pytest

from oat_trusted_filter.scheduler.enforcement import KEY, observed, observes


@dataclass
class Aggregate:
    metadata: dict


@dataclass
class Host:
    aggregates: list = field(default_factory=list)


def aggregates(*values):
    return [Aggregate({} if value is None else {KEY: value}) for value in values]


@pytest.mark.parametrize(
    ("values", "by_default"),
    [
        ([], (True, False)),
        ([None, None], (True, False)),
        (["observe"], (True, True)),
        (["observe", None, "observe"], (True, True)),
        (["enforce"], (False, False)),
        (["observe", "enforce"], (False, False)),
        (["Observe"], (False, False)),
        ([""], (False, False)),
    ],
)
def test_aggregates_that_agree_decide_and_else_it_is_refused(values, by_default):
    found = tuple(observes(aggregates(*values), default=default) for default in (True, False))
    assert found == by_default


def test_only_hosts_that_observe_are_spared():
    plain, observing, enforcing = Host(), Host(aggregates("observe")), Host(aggregates("enforce"))
    hosts = [plain, observing, enforcing]
    assert observed(hosts, default=False) == [observing]
    assert observed(hosts, default=True) == [plain, observing]
