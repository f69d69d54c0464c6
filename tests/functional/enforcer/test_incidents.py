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
"""Attacks on the traits: what nobody had a right to set is removed and reported."""

import pytest

from oat_trusted_filter.traits import TRUSTED, tag_trait

GEO = tag_trait("geo", "mars")


def incidents(caplog):
    """What was reported, by the text that alarms look for."""
    return [r.getMessage() for r in caplog.records if r.getMessage().startswith("incident ")]


def test_E13_a_trait_set_on_an_untrusted_host_is_removed_and_reported(bench, caplog):
    host = bench.placement.add("compute-1")
    bench.backend.say("untrusted", "compute-1", reason="pcr-mismatch")
    bench.turn()
    bench.placement.change(host, add={TRUSTED, "CUSTOM_FAST_DISK"})

    done = bench.full_pass()

    assert bench.placement.traits(host) == {"CUSTOM_FAST_DISK"}
    assert (done.counts.removed, done.counts.incidents) == (1, 1)
    (report,) = incidents(caplog)
    assert report.startswith(f"incident trait-not-ours: {TRUSTED} on resource provider {host} ")
    assert "host compute-1 is untrusted (pcr-mismatch); removed" in report
    assert {r.levelname for r in caplog.records if r.getMessage() == report} == {"ERROR"}
    assert bench.enforcer.totals.incidents == 1
    # It is over; nothing is reported twice.
    assert bench.full_pass().counts.incidents == 0


def test_E13_a_trait_that_was_there_before_the_start_is_reported_as_well(bench, caplog):
    host = bench.placement.add("compute-1")
    bench.placement.change(host, add={TRUSTED})
    bench.backend.say("untrusted", "compute-1", reason="pcr-mismatch")
    assert bench.turn().counts.incidents == 1
    assert bench.placement.traits(host) == set()
    assert len(incidents(caplog)) == 1


def test_E13_a_trait_on_a_host_that_never_enrolled_is_removed_and_reported(bench, caplog):
    host = bench.placement.add("compute-1")
    bench.turn()
    bench.placement.change(host, add={TRUSTED, GEO})
    assert bench.full_pass().counts.incidents == 2
    assert bench.placement.traits(host) == set()
    assert all("no host with a verdict has it" in report for report in incidents(caplog))


def test_E13_a_tag_the_host_does_not_have_is_removed_though_it_is_trusted(bench, caplog):
    host = bench.placement.add("compute-1")
    bench.backend.judge("trusted", "compute-1", tags={"zone": "eu"})
    bench.turn()
    bench.placement.change(host, add={GEO})
    bench.full_pass()
    assert bench.placement.traits(host) == {TRUSTED, tag_trait("zone", "eu")}
    (report,) = incidents(caplog)
    assert GEO in report


def test_E13_a_trait_set_again_after_it_was_taken_away_is_reported(bench, caplog):
    host = bench.placement.add("compute-1")
    bench.backend.say("trusted", "compute-1")
    bench.turn()
    bench.backend.say("untrusted", "compute-1")
    bench.turn()
    assert incidents(caplog) == []

    bench.placement.change(host, add={TRUSTED})
    bench.full_pass()
    assert bench.placement.traits(host) == set()
    assert len(incidents(caplog)) == 1


def test_E13_trust_that_came_and_went_before_it_was_written_excuses_nobody(bench, caplog):
    host = bench.placement.add("compute-1")
    bench.turn()
    bench.front.fault = lambda method, path: 503
    bench.backend.say("trusted", "compute-1")
    bench.turn()
    bench.front.fault = None
    bench.backend.say("untrusted", "compute-1")
    bench.clock.pass_by(2.0)
    bench.turn()

    bench.placement.change(host, add={TRUSTED})
    bench.full_pass()
    assert bench.placement.traits(host) == set()
    assert len(incidents(caplog)) == 1


@pytest.mark.parametrize("end", ["untrusted", "forgotten"])
def test_E13_trust_that_nobody_had_time_to_write_excuses_nobody(bench, caplog, end):
    """The whole of it happens while placement gets a rest."""
    host = bench.placement.add("compute-1")
    other = bench.placement.add("compute-2")
    bench.turn()
    bench.front.fault = lambda method, path: 503
    bench.backend.say("trusted", "compute-2")
    assert bench.turn().error
    bench.front.fault = None
    bench.backend.say("trusted", "compute-1")
    assert bench.turn() is None
    if end == "forgotten":
        bench.backend.forget("compute-1")
    else:
        bench.backend.say(end, "compute-1")
    assert bench.turn() is None
    bench.clock.pass_by(2.0)
    bench.turn()
    if end == "forgotten":
        bench.full_pass()
    assert bench.placement.traits(other) == {TRUSTED}

    bench.placement.change(host, add={TRUSTED})
    bench.full_pass()
    assert bench.placement.traits(host) == set()
    assert len(incidents(caplog)) == 1


def test_E13_a_trait_on_a_nested_provider_is_reported_once_and_left_alone(bench, caplog):
    host = bench.placement.add("compute-1")
    nested = bench.placement.add("compute-1_gpu", parent=host)
    bench.placement.change(nested, add={TRUSTED})
    bench.backend.say("untrusted", "compute-1")
    assert bench.turn().counts.incidents == 1
    assert bench.full_pass().counts.incidents == 0
    assert bench.placement.traits(nested) == {TRUSTED}
    (report,) = incidents(caplog)
    assert report.startswith(f"incident trait-on-nested-provider: {TRUSTED} is on ")


@pytest.mark.parametrize("reason", ["verdict-lapsed"])
def test_hosts_that_lapsed_before_the_start_are_no_incidents(bench, caplog, reason):
    """After a night without power all verdicts have lapsed, and that is nobody's attack."""
    host = bench.placement.add("compute-1")
    bench.placement.change(host, add={TRUSTED})
    bench.backend.say("unknown", "compute-1", reason=reason)
    done = bench.turn()
    assert bench.placement.traits(host) == set()
    assert (done.counts.removed, done.counts.incidents) == (1, 0)

    bench.placement.change(host, add={TRUSTED})
    assert bench.full_pass().counts.incidents == 1


def test_what_the_last_enforcer_set_by_right_is_no_incident(bench, caplog):
    host = bench.placement.add("compute-1")
    bench.backend.say("trusted", "compute-1")
    bench.turn()
    bench.restart()
    bench.turn()
    bench.backend.say("untrusted", "compute-1")
    assert bench.turn().counts.incidents == 0
    assert bench.placement.traits(host) == set()


def test_traits_of_others_that_only_look_like_ours_are_left_alone(bench, caplog):
    host = bench.placement.add("compute-1")
    bench.placement.change(host, add={"CUSTOM_OAT_TRUSTED_TOO", "CUSTOM_OATMEAL"})
    bench.turn()
    assert bench.placement.traits(host) == {"CUSTOM_OAT_TRUSTED_TOO", "CUSTOM_OATMEAL"}
    assert incidents(caplog) == []
