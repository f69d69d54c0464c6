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
"""A look at placement in steps, while placement changes."""

import pytest

from oat_trusted_filter.enforcer.placement import Placement
from oat_trusted_filter.enforcer.survey import Survey
from oat_trusted_filter.traits import TRUSTED, tag_trait
from tests.functional.enforcer.bench import configuration

EU, US = tag_trait("zone", "eu"), tag_trait("zone", "us")


@pytest.fixture
def connection(front, backend):
    return Placement(configuration(front, backend)[1])


def finish(survey):
    while not survey.finished:
        survey.step()
    return survey.picture()


def test_everything_of_ours_is_seen_and_nothing_else(placement, connection):
    one, two = placement.add("compute-1"), placement.add("compute-2")
    nested = placement.add("compute-1_numa0", parent=one)
    placement.change(one, add={TRUSTED, EU, "CUSTOM_FAST_DISK", "CUSTOM_OAT_TRUSTED_TOO"})
    placement.change(nested, add={US})
    picture = finish(Survey(connection))
    assert set(picture.roots) == {one, two}
    assert picture.names == {"compute-1": one, "compute-2": two}
    assert picture.present == {one: {TRUSTED, EU}}
    assert picture.nested == {nested: {US}}


def test_its_price_does_not_depend_on_the_number_of_providers(placement, front, connection):
    for number in range(5):
        placement.change(placement.add(f"compute-{number}"), add={TRUSTED, EU})
    finish(Survey(connection))
    assert len(front.requests) == 4


def test_what_was_written_meanwhile_is_newer_than_what_was_read(placement, connection):
    one, two = placement.add("compute-1"), placement.add("compute-2")
    placement.change(one, add={TRUSTED})
    survey = Survey(connection)
    survey.step()
    placement.change(one, drop={TRUSTED})
    survey.wrote(one, frozenset())
    placement.change(two, add={TRUSTED, EU})
    survey.wrote(two, frozenset({TRUSTED, EU}))
    assert finish(survey).present == {two: {TRUSTED, EU}}


def test_providers_may_come_and_go_meanwhile(placement, connection):
    one = placement.add("compute-1")
    placement.change(one, add={TRUSTED})
    survey = Survey(connection)
    two = placement.add("compute-2")
    placement.change(two, add={TRUSTED})
    survey.step()
    survey.lost(one)
    picture = survey.picture()
    assert set(picture.roots) == {two}
    assert picture.present == {two: {TRUSTED}}
