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
"""Several enforcers, one acts, and another takes over."""

import pytest

from oat_trusted_filter.enforcer.election import LONGEST_SILENCE, CoordinatedElection
from oat_trusted_filter.enforcer.errors import ConfigurationError
from oat_trusted_filter.traits import TRUSTED


@pytest.fixture
def elect(bench, tmp_path):
    """Makes candidates that meet in one folder."""
    made = []

    def candidate(name, region=""):
        url = f"file://{tmp_path}/coordination"
        made.append(CoordinatedElection(url, region=region, name=name, clock=bench.clock))
        return made[-1]

    yield candidate
    for election in made:
        election.resign()


def test_two_enforcers_one_acts_and_the_other_takes_over_when_it_stops(bench, elect):
    host = bench.placement.add("compute-1")
    bench.backend.say("trusted", "compute-1")
    first, second = bench.another(elect("first")), bench.another(elect("second"))

    assert first.turn().leads
    assert bench.placement.traits(host) == {TRUSTED}
    assert not second.turn().leads
    assert second.totals.as_dict() == dict.fromkeys(second.totals.as_dict(), 0)

    bench.backend.say("untrusted", "compute-1")
    assert not second.turn().leads
    assert bench.placement.traits(host) == {TRUSTED}  # not its turn

    first.close()
    turn = second.turn()
    assert turn.leads
    assert bench.placement.traits(host) == set()
    # It saw the verdict that had allowed the trait, so it accuses nobody.
    assert turn.passes[0].counts.incidents == 0
    second.close()


def test_one_that_follows_makes_no_request_to_placement(bench, elect):
    first, second = bench.another(elect("first")), bench.another(elect("second"))
    first.turn()
    bench.front.requests.clear()
    second.turn()
    assert bench.front.requests == []
    first.close()
    second.close()


def test_one_that_leads_goes_on_leading(elect):
    first, second = elect("first"), elect("second")
    assert [first.lead() for _ in range(3)] == [True] * 3
    assert [second.lead() for _ in range(3)] == [False] * 3


def test_enforcers_of_two_regions_do_not_compete(elect):
    assert elect("first", region="eu/1").lead()
    assert elect("second", region="us/1").lead()


def test_after_a_long_pause_the_lock_is_not_relied_upon(bench, elect):
    """The machine was suspended; meanwhile the service may have given the lock away."""
    first, second = elect("first"), elect("second")
    assert first.lead()
    asked = []
    ask = first._new_coordinator

    def new_coordinator():
        asked.append(second.lead())
        return ask()

    first._new_coordinator = new_coordinator
    bench.clock.pass_by(LONGEST_SILENCE + 1.0)
    assert not first.lead()
    assert asked == [True]


def test_a_service_that_cannot_be_used_makes_nobody_act_and_is_tried_again(bench, tmp_path, caplog):
    bench.placement.add("compute-1")
    folder = tmp_path / "in-the-way"
    folder.write_text("a file")
    election = CoordinatedElection(f"file://{folder}", region="", name="first")
    enforcer = bench.another(election)
    assert not enforcer.turn().leads
    assert not enforcer.turn().leads
    told = [r for r in caplog.records if "coordination service fails" in r.getMessage()]
    assert [r.levelname for r in told if r.levelname == "ERROR"] == ["ERROR"]

    folder.unlink()
    assert enforcer.turn().leads
    enforcer.close()


@pytest.mark.parametrize("url", ["nonsense://here", "", "file"])
def test_an_unknown_kind_of_service_is_a_mistake_of_the_configuration(url):
    with pytest.raises(ConfigurationError, match="coordination_url"):
        CoordinatedElection(url, region="", name="first")


def test_once_leaves_the_work_to_the_one_that_acts(bench, elect):
    first = bench.another(elect("first"))
    first.turn()
    assert bench.another(elect("second")).once() is None
    first.close()
    assert bench.another(elect("third")).once() is not None
