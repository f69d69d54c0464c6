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
"""Steps 7 to 10 of the appraisal: boot log, facts, reference values; and what a verdict says."""

import datetime
import hashlib
from dataclasses import replace

import pytest

from oat_trusted_filter.backend.appraisal import appraise as appraise_module
from oat_trusted_filter.backend.appraisal.appraise import appraise, appraise_safely, judge
from oat_trusted_filter.backend.appraisal.boot_log import read_boot_log
from oat_trusted_filter.backend.appraisal.policy import DEFAULT_POLICY
from oat_trusted_filter.backend.appraisal.records import QUOTED_PCRS, EvidenceRefused
from oat_trusted_filter.backend.appraisal.rule_records import Policy, Requirement
from oat_trusted_filter.tcg.bootlog import parse_boot_log
from tests.unit.appraisal.hosts import NOW, Host, reference_of
from tests.unit.tcg.logs import changed, encode, encode_sha1, measured, recorded

GOOD = reference_of("machine-a", "machine-b")
DAY = datetime.timedelta(days=1)


def verdict(host, policy=DEFAULT_POLICY, references=(GOOD,)):
    return appraise(host.evidence(), host.binding, policy, references, None, NOW)


def refusal(host):
    with pytest.raises(EvidenceRefused) as refused:
        verdict(host)
    assert refused.value.authentic
    assert refused.value.state is not None
    return refused.value


# Step 7


@pytest.mark.parametrize("cut", [0, 5, 100, -1])
def test_D5_7_a_log_that_is_none_makes_the_host_untrusted(cut):
    host = Host()
    host.boot_log = host.boot_log[:cut]

    assert refusal(host).code.startswith("boot-log-")


def test_D2_7_data_that_was_not_measured_makes_the_host_untrusted():
    host = Host("direct")
    state = recorded("direct")[3]
    host.boot_log = encode(changed(recorded("direct"), 4, data=state.data[:-1] + b"\1"))

    assert refusal(host).code == "boot-log-event-data"


def test_D3_7_a_state_of_secure_boot_that_cannot_be_told_makes_the_host_untrusted():
    host = Host()
    events = recorded()
    host.log_is(encode([*events, events[3]]))

    assert refusal(host).code == "secure-boot-ambiguous"


# Step 8


@pytest.mark.parametrize("pcr", [*range(10), 14])
def test_D4_8_a_pcr_without_events_has_to_be_at_its_reset_value(pcr):
    host = Host()
    host.boot_log = encode(event for event in recorded() if event.pcr != pcr)
    if pcr == 14 or pcr in {event.pcr for event in recorded()}:
        refused = refusal(host)
        assert refused.code == "boot-log-mismatch"
        assert (refused.finding.pcr, refused.finding.bank) == (pcr, "sha1")
        assert f"PCR {pcr} " in str(refused)


def test_D4_8_pcrs_the_running_system_extends_are_not_for_the_boot_log():
    host = Host()
    for pcr in (10, 11, 12, 13, 15):
        for bank, values in host.values.items():
            values[pcr] = hashlib.new(bank, b"later").digest()

    assert verdict(host).level == "trusted"


def test_a_left_out_event_makes_the_host_untrusted():
    host = Host("machine-a-loader")
    host.boot_log = Host().boot_log

    assert refusal(host).code == "boot-log-mismatch"


def test_A11_8_each_allocated_bank_has_to_replay_from_the_same_log():
    """Firmware that extends SHA-1 alone; the owner fills the others with a good boot."""
    host = Host("direct")
    good = Host("machine-a")
    for bank in ("sha256", "sha384"):
        host.values[bank] = good.values[bank]
    for log in (good.boot_log, host.boot_log):
        host.boot_log = log
        assert refusal(host).code == "boot-log-mismatch"


def test_A11_8_a_log_made_of_two_boots_does_not_match_the_reference_in_all_banks():
    host = Host("direct")
    good, bad = recorded("machine-a"), recorded("direct")
    # Types and data are not under the digest where it is of a file, so let only banks differ.
    mixed = [
        event._replace(digests={**event.digests, "sha1": other.digests["sha1"]}, type=13, data=b"")
        for event, other in zip(good, bad, strict=False)
        if event.pcr == other.pcr
    ]
    host.log_is(encode(mixed))

    assert verdict(host).level == "untrusted"


def test_A11_8_a_bank_the_log_says_nothing_about_makes_the_host_untrusted():
    host = Host()
    host.boot_log = encode_sha1(recorded())

    assert refusal(host).code == "boot-log-bank"


def test_D6_8_a_locality_that_was_not_the_real_one_makes_the_host_untrusted():
    host = Host()
    note = measured(0, 3, b"StartupLocality\0\3")
    host.boot_log = encode([note, *recorded()])

    assert refusal(host).finding.pcr == 0


# Step 9


def test_9_a_host_without_secure_boot_is_untrusted():
    direct = verdict(Host("direct"), references=[reference_of("direct")])

    assert direct.level == "untrusted"
    assert [finding.code for finding in direct.findings] == ["secure-boot-off"]


def test_9_unless_the_policy_does_not_ask_for_it():
    policy = replace(DEFAULT_POLICY, secure_boot="optional")

    assert verdict(Host("direct"), policy, [reference_of("direct")]).level == "trusted"


def test_9_a_log_that_does_not_say_is_not_enough():
    host = Host()
    host.log_is(encode([measured(0, 4, bytes(4))]))

    assert "secure-boot-unknown" in {finding.code for finding in verdict(host).findings}


def test_9_a_debugger_makes_the_host_untrusted():
    host = Host()
    events = recorded()
    host.log_is(encode([*events[:3], measured(7, 0x80000007, b"UEFI Debug Mode"), *events[3:]]))

    assert "uefi-debugger" in {finding.code for finding in verdict(host).findings}


def test_D1_9_retyped_events_do_not_widen_trust():
    host = Host("direct")
    events = recorded("direct")
    for kind in (0x80000008, 13, 0x800000E0):
        host.boot_log = encode(changed(events, 4, type=kind))
        try:
            level = verdict(host, references=[reference_of("direct")]).level
        except EvidenceRefused:
            level = "untrusted"
        assert level == "untrusted"


@pytest.mark.parametrize(
    ("boot", "pattern", "code"),
    [
        ("machine-a", r".* intel_iommu=on( .*)?", None),
        ("machine-a", r".* intel_iommu=off( .*)?", "kernel-command-line"),
        ("machine-a", r"root", "kernel-command-line"),
        ("direct", r".*", "kernel-command-line-unknown"),
    ],
)
def test_9_the_kernel_command_line_is_as_the_policy_asks(boot, pattern, code):
    policy = Policy("lines", "optional", (), pattern)

    found = {finding.code for finding in verdict(Host(boot), policy).findings}

    assert found == ({code} if code else set())


# Step 10


@pytest.mark.parametrize("boot", ["machine-a", "machine-b", "machine-a-cmdline"])
def test_10_machines_with_the_same_software_match(boot):
    assert verdict(Host(boot)).level == "trusted"


def test_10_the_event_to_blame_is_named():
    (finding,) = verdict(Host("machine-a-loader")).findings

    assert (finding.code, finding.pcr, finding.event) == ("pcr-mismatch", 4, 34)
    assert finding.event_type == "EV_EFI_BOOT_SERVICES_APPLICATION"
    assert finding.reference_set == GOOD.name
    expected = next(event.digest for event in GOOD.events if "grubx64" in event.description)
    assert finding.expected == (expected,)
    assert finding.message == (
        r"PCR 4 differs: event 34 EV_EFI_BOOT_SERVICES_APPLICATION \EFI\BOOT\grubx64.efi has "
        f"digest {finding.actual[:16]}…, known: {expected[:16]}… (set {GOOD.name})"
    )


def test_10_the_nearest_set_is_named():
    other = reference_of("direct")

    findings = verdict(Host("machine-a-loader"), references=[other, GOOD]).findings

    assert {finding.reference_set for finding in findings} == {GOOD.name}


def test_10_without_a_valid_set_of_the_kind_nothing_is_trusted():
    later = replace(GOOD, valid_from=NOW + DAY)
    ended = replace(GOOD, valid_until=NOW)
    other_kind = replace(GOOD, kind="kernel")

    for references in ([], [later], [ended], [other_kind]):
        (finding,) = verdict(Host(), references=references).findings
        assert finding.code == "no-reference"


def test_10_any_one_set_will_do_and_the_verdict_ends_with_it():
    soon = replace(GOOD, name="soon", valid_until=NOW + DAY)
    later = replace(GOOD, name="later", valid_until=NOW + 2 * DAY)
    wrong = replace(reference_of("direct"), name="wrong")

    found = verdict(Host(), references=[wrong, soon, later])

    assert (found.references, found.valid_until) == (("later",), NOW + 2 * DAY)
    assert verdict(Host(), references=[soon, GOOD]).valid_until is None


def test_10_the_verdict_ends_with_the_first_of_the_sets_it_rests_on():
    policy = Policy("two", requirements=(Requirement("platform", (0,)), Requirement("os", (4,))))
    first = replace(GOOD, valid_until=NOW + 2 * DAY)
    second = replace(GOOD, name="os", kind="os", valid_until=NOW + DAY)

    assert verdict(Host(), policy, [first, second]).valid_until == NOW + DAY


def test_A11_10_a_set_without_an_allocated_bank_does_not_match():
    sha256 = replace(GOOD, pcrs={"sha256": GOOD.pcrs["sha256"]})

    findings = verdict(Host(), references=[sha256]).findings

    assert {finding.code for finding in findings} == {"reference-incomplete"}


def test_10_an_event_that_is_missing_is_named():
    host = Host()
    host.log_is(encode(event for event in recorded() if event.number != 34))

    (finding,) = verdict(host).findings

    assert "grubx64.efi" in finding.message
    assert "is missing" in finding.message


def test_10_known_events_in_another_order_are_told():
    host = Host()
    events = recorded()
    events[27], events[33] = events[33], events[27]
    host.log_is(encode(events))

    (finding,) = verdict(host).findings

    assert "another order" in finding.message


# What stands around it


def test_stored_evidence_is_judged_anew_without_a_quote():
    host = Host()
    read_log = read_boot_log(host.boot_log)

    assert judge(read_log, host.values, DEFAULT_POLICY, [GOOD], NOW).level == "trusted"
    assert judge(read_log, host.values, DEFAULT_POLICY, [], NOW).level == "untrusted"


def test_a_log_that_was_read_before_is_not_read_again():
    host = Host()
    read_log = read_boot_log(host.boot_log)
    evidence = replace(host.evidence(), boot_log=b"")

    found = appraise(evidence, host.binding, DEFAULT_POLICY, [GOOD], None, NOW, read_log)

    assert found.level == "trusted"


def test_E1_a_verifier_that_fails_does_not_trust(monkeypatch):
    def fail(*args):
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(appraise_module, "judge", fail)
    host = Host()

    found = appraise_safely(
        host.evidence(), host.binding, DEFAULT_POLICY, [GOOD], None, NOW
    )  # fmt: skip

    assert found.level == "unknown"
    (finding,) = found.findings
    assert finding.code == "verifier-error"
    assert "secret" not in finding.message


def test_E1_a_broken_binding_does_not_trust():
    host = Host()
    binding = replace(host.binding, ak_public=b"rubbish")

    found = appraise_safely(host.evidence(), binding, DEFAULT_POLICY, [GOOD], None, NOW)

    assert (found.level, found.findings[0].code) == ("unknown", "verifier-error")


def test_a_refusal_passes_through_the_safe_way():
    host = Host()

    with pytest.raises(EvidenceRefused):
        appraise_safely(
            host.evidence(kind=0x8017), host.binding, DEFAULT_POLICY, [GOOD], None, NOW
        )


def test_all_quoted_pcrs_are_those_nobody_may_reset():
    assert set(range(24)) - set(QUOTED_PCRS) == {16, 23}
    assert len(parse_boot_log(Host().boot_log).events) == 54
