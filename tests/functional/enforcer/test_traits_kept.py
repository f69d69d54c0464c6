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
"""Placement has the traits the verdicts say, and everything else stays as it is."""

import pytest

from oat_trusted_filter.traits import TRUSTED, tag_trait
from tests.functional.enforcer.bench import FULL_INTERVAL

OTHERS = {"CUSTOM_FAST_DISK", "HW_CPU_X86_AVX2"}


def test_trusted_hosts_get_the_trait_at_the_start_and_others_do_not(bench):
    good = bench.placement.add("compute-1")
    bad = bench.placement.add("compute-2")
    strange = bench.placement.add("compute-3")
    bench.backend.say("trusted", "compute-1")
    bench.backend.say("untrusted", "compute-2", reason="pcr-mismatch")

    done = bench.turn()

    assert bench.placement.traits(good) == {TRUSTED}
    assert bench.placement.traits(bad) == bench.placement.traits(strange) == set()
    assert done.full
    assert (done.counts.set, done.counts.unchanged, done.counts.failed) == (1, 1, 0)


def test_a_flip_takes_the_trait_away_at_the_next_turn_and_a_new_proof_brings_it_back(bench):
    host = bench.placement.add("compute-1")
    bench.backend.say("trusted", "compute-1")
    bench.turn()

    bench.backend.say("untrusted", "compute-1", reason="pcr-mismatch")
    done = bench.turn()
    assert bench.placement.traits(host) == set()
    assert (done.full, done.counts.removed, done.counts.incidents) == (False, 1, 0)

    bench.backend.say("trusted", "compute-1")
    bench.turn()
    assert bench.placement.traits(host) == {TRUSTED}


@pytest.mark.parametrize("end", ["unknown", "deleted", "lapsed"])
def test_the_trait_goes_however_the_trust_ends(bench, end):
    host = bench.placement.add("compute-1")
    bench.backend.lapsing = [("compute-1", 5.0)] if end == "lapsed" else []
    bench.backend.say("trusted", "compute-1")
    bench.turn()
    assert bench.placement.traits(host) == {TRUSTED}

    if end == "unknown":
        bench.backend.say("unknown", "compute-1", reason="verdict-lapsed")
    elif end == "deleted":
        bench.backend.forget("compute-1")
    else:
        bench.backend.stop()  # nobody announces it, while the lease lasts
        bench.clock.pass_by(6.0)
    done = bench.turn()

    assert bench.placement.traits(host) == set()
    assert done.counts.incidents == 0


def test_tags_of_trusted_hosts_become_traits_and_follow_changes(bench):
    host = bench.placement.add("compute-1")
    bench.backend.judge("trusted", "compute-1", tags={"zone": "eu-1", "Rack": "7"})
    bench.turn()
    zone, rack = tag_trait("zone", "eu-1"), tag_trait("Rack", "7")
    assert bench.placement.traits(host) == {TRUSTED, zone, rack}

    bench.backend.judge("trusted", "compute-1", tags={"zone": "us-2", "Rack": "7"})
    bench.turn()
    assert bench.placement.traits(host) == {TRUSTED, tag_trait("zone", "us-2"), rack}

    bench.backend.judge("untrusted", "compute-1", tags={"zone": "us-2", "Rack": "7"})
    bench.turn()
    assert bench.placement.traits(host) == set()


def test_tags_that_end_by_themselves_take_their_traits_along_and_leave_the_trust(bench):
    host = bench.placement.add("compute-1")
    bench.backend.tags_lapsing = [("compute-1", 5.0)]
    bench.backend.judge("trusted", "compute-1", tags={"zone": "eu-1"})
    bench.turn()
    assert bench.placement.traits(host) == {TRUSTED, tag_trait("zone", "eu-1")}

    bench.backend.stop()  # nobody announces it, while the lease lasts
    bench.clock.pass_by(6.0)
    done = bench.turn()

    assert bench.placement.traits(host) == {TRUSTED}
    assert done.counts.incidents == 0


def test_a_tag_that_has_no_trait_is_told_and_the_host_is_trusted_all_the_same(bench, caplog):
    host = bench.placement.add("compute-1")
    tags = {"zone": "ü" * 200, "rack": "7", "shelf": ["no", "text"]}
    bench.backend.judge("trusted", "compute-1", tags=tags)
    bench.turn()
    bench.full_pass()
    assert bench.placement.traits(host) == {TRUSTED, tag_trait("rack", "7")}
    told = [r.getMessage() for r in caplog.records if "no trait for its tag" in r.getMessage()]
    assert ["[tag-too-long]" in line for line in told] == [True, False]
    assert "[tag-not-text]" in told[1]


def test_traits_of_others_stay_and_so_do_nested_providers(bench):
    host = bench.placement.add("compute-1")
    nested = bench.placement.add("compute-1_numa0", parent=host)
    bench.placement.change(host, add=OTHERS)
    bench.placement.change(nested, add={"CUSTOM_NESTED"})
    # A name that equals a nested provider's is not a hypervisor's.
    bench.backend.say("trusted", "compute-1", "compute-1_numa0")

    done = bench.turn()
    assert bench.placement.traits(host) == {TRUSTED, *OTHERS}
    assert bench.placement.traits(nested) == {"CUSTOM_NESTED"}
    assert done.counts.waiting == 1

    bench.backend.say("untrusted", "compute-1")
    bench.turn()
    assert bench.placement.traits(host) == OTHERS
    assert bench.placement.traits(nested) == {"CUSTOM_NESTED"}


def test_nothing_is_written_when_nothing_changes(bench):
    for number in range(3):
        bench.placement.add(f"compute-{number}")
        bench.backend.say("trusted", f"compute-{number}")
    bench.turn()
    bench.front.requests.clear()

    assert not bench.turn().eventful
    assert bench.front.requests == []

    done = bench.full_pass()
    assert (done.counts.set, done.counts.removed, done.counts.unchanged) == (0, 0, 3)
    assert bench.front.writes == []

    bench.restart()
    done = bench.turn()
    assert done.counts.unchanged == 3
    assert bench.front.writes == [("PUT", f"/traits/{TRUSTED}")]


def test_a_full_pass_puts_back_what_somebody_took_away(bench):
    host = bench.placement.add("compute-1")
    bench.backend.say("trusted", "compute-1")
    bench.turn()
    bench.placement.change(host, drop={TRUSTED})

    bench.turn()
    assert bench.placement.traits(host) == set()  # nobody has looked yet
    bench.full_pass()
    assert bench.placement.traits(host) == {TRUSTED}


def test_a_host_placement_does_not_know_is_waited_for(bench):
    bench.backend.say("trusted", "compute-1")
    assert bench.turn().counts.waiting == 1

    host = bench.placement.add("compute-1")
    bench.clock.pass_by(11.0)
    done = bench.turn()
    assert bench.placement.traits(host) == {TRUSTED}
    assert (done.counts.set, done.counts.waiting) == (1, 0)


def test_waiting_costs_less_and_less(bench):
    bench.backend.say("trusted", "compute-1")
    bench.turn()
    looks = 0
    for _ in range(int(FULL_INTERVAL)):
        bench.clock.pass_by(1.0)
        done = bench.turn()
        looks += bool(done and done.full)
    assert 3 <= looks <= 6


def test_a_provider_made_anew_gets_the_trait_again(bench):
    first = bench.placement.add("compute-1")
    bench.backend.say("trusted", "compute-1")
    bench.turn()
    bench.placement.remove(first)
    again = bench.placement.add("compute-1")
    bench.full_pass()
    assert bench.placement.traits(again) == {TRUSTED}


def test_the_recorded_provider_counts_and_not_the_name(bench, caplog):
    named = bench.placement.add("compute-1")
    recorded = bench.placement.add("node-7")
    bench.backend.judge("trusted", "compute-1", provider=recorded.upper())
    bench.turn()
    assert bench.placement.traits(recorded) == {TRUSTED}
    assert bench.placement.traits(named) == set()
    assert "is that of 'node-7'" in caplog.text

    bench.backend.judge("trusted", "compute-1", provider="00000000-0000-4000-8000-000000000000")
    assert bench.turn().counts.waiting == 1
    assert bench.placement.traits(recorded) == bench.placement.traits(named) == set()


def test_a_provider_two_hosts_claim_is_trusted_only_if_both_are(bench, caplog):
    uuid = bench.placement.add("compute-2")
    bench.backend.judge("trusted", "compute-1", provider=uuid, tags={"zone": "eu", "rack": "1"})
    bench.backend.judge("trusted", "compute-2", tags={"zone": "eu", "rack": "2"})
    bench.turn()
    assert bench.placement.traits(uuid) == {TRUSTED, tag_trait("zone", "eu")}
    assert "claimed by several hosts" in caplog.text

    bench.backend.say("untrusted", "compute-2")
    bench.turn()
    assert bench.placement.traits(uuid) == set()


def test_the_trait_exists_before_any_host_is_trusted(bench):
    """A flavor may name it; placement answers 400 to a trait it does not know."""
    bench.turn()
    assert bench.placement.request("GET", f"/traits/{TRUSTED}")[0] == 204


def test_other_regions_are_no_business_of_ours(bench):
    host = bench.placement.add("compute-1")
    bench.backend.say("trusted", "compute-1", region="elsewhere")
    bench.turn()
    assert bench.placement.traits(host) == set()


def test_another_database_of_the_backend_takes_all_traits_away(bench):
    host = bench.placement.add("compute-1")
    bench.backend.say("trusted", "compute-1")
    bench.turn()
    bench.backend.start_over()
    done = bench.turn()
    assert bench.placement.traits(host) == set()
    assert done.counts.incidents == 0


def test_a_dry_run_says_it_and_does_nothing(bench, caplog):
    good = bench.placement.add("compute-1")
    bad = bench.placement.add("compute-2")
    bench.placement.change(bad, add={TRUSTED})
    bench.backend.say("trusted", "compute-1")
    bench.backend.say("untrusted", "compute-2")
    bench.front.requests.clear()
    caplog.set_level("INFO")
    bench.start(dry_run=True)

    done = bench.turn()
    assert (done.counts.set, done.counts.removed, done.counts.incidents) == (1, 1, 1)
    assert bench.front.writes == []
    assert bench.placement.traits(good) == set()
    assert bench.placement.traits(bad) == {TRUSTED}
    assert f"would have been set {TRUSTED}; host compute-1 is trusted" in caplog.text

    assert not bench.turn().eventful  # not again at each turn
    assert bench.full_pass().counts.set == 1
