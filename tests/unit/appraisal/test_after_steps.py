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
"""What is done with a verdict once it is there: expiry, overrides; and what has no step."""

import datetime
from dataclasses import replace

import pytest

from oat_trusted_filter.backend.appraisal.allow_list import AllowList
from oat_trusted_filter.backend.appraisal.appraise import appraise
from oat_trusted_filter.backend.appraisal.boot_log import event_digest
from oat_trusted_filter.backend.appraisal.expiry import validity, with_expiry_warnings
from oat_trusted_filter.backend.appraisal.override import overridden
from oat_trusted_filter.backend.appraisal.policy import DEFAULT_POLICY
from oat_trusted_filter.backend.appraisal.records import (
    EvidenceRefused,
    Finding,
    ImaPart,
    Override,
    PreviousState,
    Verdict,
)
from oat_trusted_filter.backend.appraisal.rule_records import ImaPolicy, Policy
from oat_trusted_filter.backend.appraisal.tpm_state import check_tpm
from oat_trusted_filter.tcg.bootlog import Event
from tests.lab.boots import Boot
from tests.unit.appraisal.hosts import NOW, Host, reference_of

DAY = datetime.timedelta(days=1)
REFERENCE = reference_of("machine-a", "machine-b")


@pytest.mark.parametrize(
    ("start", "end", "state"),
    [
        (None, None, "valid"),
        (None, 8, "valid"),
        (None, 7, "expiring"),
        (None, 0, "expired"),
        (1, None, "future"),
        (1, 3, "future"),
        (-1, 100, "valid"),
    ],
)
def test_a_set_is_valid_for_a_time(start, end, state):
    moments = [None if days is None else NOW + days * DAY for days in (start, end)]

    assert validity(*moments, NOW, 7 * DAY) == state


def test_a_verdict_warns_before_what_it_rests_on_ends():
    verdict = Verdict("trusted", references=("ends", "stays", "gone"))
    known = {"ends": replace(REFERENCE, valid_until=NOW + DAY), "stays": REFERENCE}

    warned = with_expiry_warnings(verdict, known, NOW, 7 * DAY)

    (finding,) = warned.findings
    assert (finding.code, finding.severity) == ("reference-expiring", "warning")
    assert finding.reference_set == "ends"
    assert warned.level == "trusted"
    assert with_expiry_warnings(verdict, known, NOW, datetime.timedelta()) is verdict


def test_an_override_changes_the_level_and_no_more_for_its_time():
    verdict = Verdict("untrusted", (Finding("pcr-mismatch", "x"),), valid_until=NOW + 2 * DAY)
    override = Override("trusted", "testing", "alice", NOW, NOW + DAY)

    found = overridden(verdict, override, NOW)

    assert (found.level, found.valid_until) == ("trusted", NOW + DAY)
    assert [finding.code for finding in found.findings] == ["override", "pcr-mismatch"]
    assert "alice: testing" in found.findings[0].message
    assert overridden(verdict, override, NOW + DAY) is verdict
    assert overridden(verdict, None, NOW) is verdict
    assert overridden(replace(verdict, valid_until=None), override, NOW).valid_until == NOW + DAY


IMA = replace(DEFAULT_POLICY, ima=ImaPolicy("enforce", exclude=(".*",)))


def appraised(part, policy=IMA, **options):
    host = Host()
    evidence = replace(host.evidence(), ima=part)
    return appraise(evidence, host.binding, policy, [REFERENCE], None, NOW, **options)


def test_11_a_list_that_leads_to_the_pcr_and_names_known_files():
    verdict = appraised(ImaPart(0, Boot("machine-a").ima_log))

    assert (verdict.level, verdict.findings) == ("trusted", ())
    assert verdict.ima.state.complete


def test_11_no_list_where_one_is_enforced_or_reported():
    reporting = replace(IMA, ima=replace(IMA.ima, mode="report"))

    assert appraised(None).level == "untrusted"
    assert appraised(None, reporting).level == "trusted"
    assert [finding.code for finding in appraised(None, reporting).findings] == ["ima-log-missing"]


def test_D9_11_a_list_that_does_not_fit_refuses_only_where_it_is_enforced():
    part = ImaPart(0, Boot("machine-a").ima_log[:-200])
    reporting = replace(IMA, ima=replace(IMA.ima, mode="report"))

    with pytest.raises(EvidenceRefused) as refused:
        appraised(part)
    assert refused.value.authentic
    assert appraised(part, reporting).findings[0].code.startswith("ima-log-")


def test_D9_11_another_offset_is_asked_for_whatever_the_mode():
    reporting = replace(IMA, ima=replace(IMA.ima, mode="report"))

    for policy in (IMA, reporting):
        with pytest.raises(EvidenceRefused) as refused:
            appraised(ImaPart(8, b""), policy, allowed=AllowList("x", []))
        assert (refused.value.code, refused.value.authentic) == ("ima-offset", False)


def test_E2_a_policy_may_make_a_verdict_end_earlier():
    host = Host()
    policy = replace(DEFAULT_POLICY, max_age=60)

    def ends(**fields):
        evidence = replace(host.evidence(), **fields)
        return appraise(evidence, host.binding, policy, [REFERENCE], None, NOW).valid_until

    assert ends(challenged_at=NOW) == NOW + datetime.timedelta(seconds=60)
    # Nobody knows how old it is.
    assert ends() < NOW


def test_an_event_without_digests_has_none_to_be_named_by():
    assert event_digest(Event(1, 0, 3, {}, b"")) == ""
    assert event_digest(Event(1, 0, 3, {"sha1": b"a", "sha384": b"b"}, b"")) == b"b".hex()


def test_A10_a_firmware_the_policy_does_not_list():
    state = PreviousState(1, 2, 3, 0x10, firmware_before=0x0F)

    def codes(**fields):
        return [
            (item.code, item.severity) for item in check_tpm(state, Policy("p", **fields))
        ]

    assert codes(tpm_firmware=frozenset([0x11])) == [("tpm-firmware-unknown", "error")]
    assert codes(tpm_firmware=frozenset([0x10])) == []
    assert codes() == [("tpm-firmware-changed", "warning")]


def test_a_finding_is_plain_data():
    assert Finding("a", "b", pcr=4).as_dict()["pcr"] == 4
