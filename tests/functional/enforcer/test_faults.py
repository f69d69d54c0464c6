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
"""Placement fails, or somebody else is faster: in the end it is as it should be."""

import pytest

from oat_trusted_filter.enforcer.keeper import LONGEST_PAUSE
from oat_trusted_filter.enforcer.writer import ATTEMPTS
from oat_trusted_filter.traits import TRUSTED, tag_trait
from tests.functional.enforcer.placement_lab import CUT, LOSE_REPLY


def on_write(placement, uuid, times, reaction):
    """A fault that reacts to the first writes to a provider."""
    left = iter(range(times))

    def fault(method, path):
        if method == "PUT" and path.startswith(f"/resource_providers/{uuid}/"):
            if next(left, None) is None:
                return None
            return reaction()
        return None

    return fault


def test_a_conflict_is_met_with_another_try_that_keeps_what_the_other_did(bench):
    host = bench.placement.add("compute-1")
    bench.backend.say("trusted", "compute-1")
    numbers = iter(range(100))
    # nova-compute changes the provider between our reading and our writing: a real 409.
    bench.front.fault = on_write(
        bench.placement,
        host,
        2,
        lambda: bench.placement.change(host, add={f"CUSTOM_{next(numbers)}"}),
    )
    done = bench.turn()
    assert bench.placement.traits(host) == {TRUSTED, "CUSTOM_0", "CUSTOM_1"}
    assert (done.counts.set, done.counts.failed) == (1, 0)


def test_a_provider_that_never_holds_still_is_left_for_later(bench):
    restless, calm = bench.placement.add("compute-1"), bench.placement.add("compute-2")
    bench.backend.say("trusted", "compute-1", "compute-2")
    numbers = iter(range(100))
    bench.front.fault = on_write(
        bench.placement,
        restless,
        ATTEMPTS,
        lambda: bench.placement.change(restless, add={f"CUSTOM_{next(numbers)}"}),
    )
    done = bench.turn()
    assert (done.counts.set, done.counts.failed) == (1, 1)
    assert bench.placement.traits(calm) == {TRUSTED}
    assert bench.turn().counts.set == 1
    assert TRUSTED in bench.placement.traits(restless)


@pytest.mark.parametrize("fault", [503, 500, 401, 403, CUT, 404])
def test_placement_is_asked_again_with_growing_pauses(bench, fault, caplog):
    host = bench.placement.add("compute-1")
    bench.backend.say("trusted", "compute-1")
    bench.front.fault = lambda method, path: fault
    assert bench.turn().error is not None
    asked = len(bench.front.requests)
    assert bench.turn() is None  # not at once again
    assert len(bench.front.requests) == asked

    for _ in range(10):
        bench.clock.pass_by(LONGEST_PAUSE)
        assert bench.turn().error is not None
    bench.front.fault = None
    bench.clock.pass_by(LONGEST_PAUSE)
    bench.turn()
    assert bench.placement.traits(host) == {TRUSTED}
    assert "[placement-" in caplog.text


def test_one_provider_that_fails_holds_up_nobody(bench):
    hosts = [bench.placement.add(f"compute-{number}") for number in range(4)]
    bench.backend.say("trusted", *(f"compute-{number}" for number in range(4)))
    bench.front.fault = on_write(bench.placement, hosts[0], 100, lambda: 500)
    for _ in range(3):
        bench.turn()
        bench.clock.pass_by(LONGEST_PAUSE)
    assert [bench.placement.traits(host) for host in hosts] == [set(), *[{TRUSTED}] * 3]


def test_a_write_whose_answer_was_lost_is_read_again_before_it_is_believed(bench):
    """It was done, and then the host lost its trust: what we remember says nothing is there."""
    host = bench.placement.add("compute-1")
    bench.turn()
    bench.backend.say("trusted", "compute-1")
    bench.front.fault = on_write(bench.placement, host, 1, lambda: LOSE_REPLY)
    assert bench.turn().counts.failed == 1
    assert bench.placement.traits(host) == {TRUSTED}

    bench.backend.forget("compute-1")
    bench.clock.pass_by(2.0)
    done = bench.turn()
    assert not done.full
    assert bench.placement.traits(host) == set()
    assert done.counts.incidents == 0


def test_a_trait_somebody_deleted_is_made_again(bench):
    zone = tag_trait("zone", "eu")
    bench.placement.add("compute-1")
    bench.backend.judge("trusted", "compute-1", tags={"zone": "eu"})
    bench.turn()
    bench.backend.say("unknown", "compute-1")
    bench.turn()
    assert bench.placement.request("DELETE", f"/traits/{zone}")[0] == 204

    bench.backend.judge("trusted", "compute-1", tags={"zone": "eu"})
    assert bench.turn().counts.failed == 1
    assert bench.turn().counts.set == 1
    assert bench.placement.traits(bench.placement.providers()["compute-1"]) == {TRUSTED, zone}


def test_a_provider_that_goes_while_it_is_written_is_waited_for(bench):
    host = bench.placement.add("compute-1")
    bench.turn()
    bench.backend.say("trusted", "compute-1")
    bench.front.fault = on_write(bench.placement, host, 1, lambda: bench.placement.remove(host))
    done = bench.turn()
    assert done.counts.failed == 0
    bench.turn()
    again = bench.placement.add("compute-1")
    bench.clock.pass_by(11.0)
    bench.turn()
    assert bench.placement.traits(again) == {TRUSTED}


def test_removals_come_first(bench):
    for number in range(4):
        bench.placement.add(f"compute-{number}")
    bench.backend.say("trusted", "compute-2")
    bench.turn()
    bench.backend.say("trusted", "compute-0", "compute-1", "compute-3")
    bench.backend.say("untrusted", "compute-2")
    bench.front.requests.clear()
    bench.turn()
    first = next(path for method, path in bench.front.requests if method == "PUT")
    assert bench.placement.providers()["compute-2"] in first


def test_a_flip_need_not_wait_for_the_end_of_a_long_pass(bench):
    """Each turn is a slice; the verdicts are asked for between two of them."""
    uuids = {name: bench.placement.add(name) for name in ("compute-1", "compute-2", "compute-3")}
    bench.turn()
    bench.backend.say("trusted", *uuids)

    def slow(method, path):
        bench.clock.pass_by(2.5)  # one provider is all a slice can do

    bench.front.fault = slow
    turn = bench.enforcer.turn()
    assert turn.more
    assert turn.passes[0].counts.pending == 2
    done = [name for name, uuid in uuids.items() if bench.placement.traits(uuid)]
    bench.backend.say("untrusted", *done)
    bench.enforcer.turn()
    assert bench.placement.traits(uuids[done[0]]) == set()
    bench.front.fault = None
    bench.turn()
    assert sorted(len(bench.placement.traits(uuid)) for uuid in uuids.values()) == [0, 1, 1]


def test_a_change_during_a_long_look_at_placement_is_not_lost(bench):
    uuids = [bench.placement.add(f"compute-{number}") for number in range(3)]
    for number in range(3):
        bench.backend.judge("trusted", f"compute-{number}", tags={"rack": str(number)})
    bench.turn()
    bench.clock.pass_by(301.0)
    bench.front.requests.clear()
    bench.front.fault = lambda method, path: bench.clock.pass_by(1.5)
    # Until the look has read what compute-0 has, and is not at its end.
    read = ("GET", f"/resource_providers?required={tag_trait('rack', '0')}")
    while read not in bench.front.requests:
        assert bench.enforcer.turn().more
    bench.backend.say("untrusted", "compute-0")
    bench.front.requests.clear()
    bench.turn()
    assert bench.placement.traits(uuids[0]) == set()
    assert all(len(bench.placement.traits(uuid)) == 2 for uuid in uuids[1:])
    assert bench.enforcer.totals.incidents == 0
    # What the look had read before is not believed afterwards.
    touched = [method for method, path in bench.front.requests if uuids[0] in path]
    assert touched == ["GET", "PUT"]
