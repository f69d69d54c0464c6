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
"""Step 9 of the appraisal: facts beside what a policy asks, by the numbers of the checks."""

from dataclasses import replace

import pytest

from oat_trusted_filter.backend.appraisal.appraise import appraise
from oat_trusted_filter.backend.appraisal.boot_log import read_boot_log
from oat_trusted_filter.backend.appraisal.rule_records import Policy
from oat_trusted_filter.tcg.facts import extract_facts
from tests.lab.boots import Boot
from tests.unit.appraisal.hosts import NOW, Host, reference_of
from tests.unit.tcg.logs import encode, measured, parsed, recorded

FACTS = read_boot_log(Boot("machine-a").boot_log).facts
GOOD = reference_of("machine-a", "machine-b", kind="boot-loader")
NOTHING = Policy("nothing", "optional", ())


def found(host, *references, **fields):
    policy = replace(NOTHING, **fields)
    verdict = appraise(host.evidence(), host.binding, policy, references, None, NOW)
    assert verdict.level == ("untrusted" if verdict.findings else "trusted")
    return verdict.findings


def codes(*args, **fields):
    return [finding.code for finding in found(*args, **fields)]


def certificates(name):
    return frozenset(e.fingerprint for e in FACTS.databases[name].value if e.kind == "x509")


def with_events(events):
    host = Host()
    host.log_is(encode(events))
    return host


def test_facts_of_the_databases_are_those_of_the_firmware():
    assert {name: len(fact.value) for name, fact in FACTS.databases.items()} == {
        "PK": 1, "KEK": 2, "db": 2, "dbx": 1,
    }  # fmt: skip
    assert {fact.value.fingerprint for fact in FACTS.authorities} <= certificates("db")
    assert list(FACTS.separators) == list(range(8))
    events = read_boot_log(Boot("machine-a").boot_log).log.events
    for pcr, separator in FACTS.separators.items():
        event = events[separator.event]
        assert (event.pcr, event.data) == (pcr, bytes(4))
        assert separator.value in event.digests.values()


def test_D3_1_secure_boot_without_an_authority_is_not_believed():
    events = [event for event in recorded() if event.type != 0x800000E0]

    assert codes(with_events(events), secure_boot="required") == ["secure-boot-authority"]


@pytest.mark.parametrize("name", ["PK", "KEK", "db"])
def test_2_databases_hold_only_certificates_of_the_policy(name):
    allowed = certificates(name)

    assert codes(Host(), certificates={name: allowed | {"ab" * 32}}) == []
    findings = found(Host(), certificates={name: frozenset(list(allowed)[1:])})
    assert [finding.code for finding in findings] == ["certificate-unknown"]
    assert findings[0].actual in allowed
    assert name in findings[0].message


def test_2_a_database_that_was_not_measured_is_not_known():
    events = [event for event in recorded() if event.number != 7]

    assert codes(with_events(events), certificates={"db": certificates("db")}) == [
        "database-unknown"
    ]


def test_3_dbx_holds_at_least_what_the_policy_wants():
    (entry,) = FACTS.databases["dbx"].value

    assert codes(Host(), dbx_minimum=frozenset([entry.fingerprint])) == []
    (finding,) = found(Host(), dbx_minimum=frozenset([entry.fingerprint, "cd" * 32]))
    assert (finding.code, finding.expected) == ("dbx-outdated", ("cd" * 32,))


def test_3_a_dbx_that_was_not_measured_is_not_known():
    events = [event for event in recorded() if event.number != 8]

    assert codes(with_events(events), dbx_minimum=frozenset(["cd" * 32])) == ["database-unknown"]


def test_D1_4_an_event_that_may_hide_a_command_line_is_named():
    events = recorded()
    events[47] = events[47]._replace(type=6, data=b"something else")

    (finding,) = found(with_events(events), kernel_command_line=".*")

    assert (finding.code, finding.event) == ("kernel-command-line-unknown", 48)


def stub_line(text):
    return measured(12, 13, (text + "\0").encode("utf-16-le"))


def stub_host():
    """A host that boots a unified kernel image: systemd-stub measures the line, not GRUB."""
    events = [event for event in recorded() if event.pcr not in (8, 9)]
    host = Host()
    host.log_is(encode([*events, stub_line("root=/dev/vda ro")]))
    for bank, values in host.values.items():
        values[12] = read_boot_log(host.boot_log).replayed[bank][12]
    return host


def test_4_the_line_of_a_unified_kernel_image_counts():
    assert codes(stub_host(), kernel_command_line="root=/dev/vda ro") == []
    assert codes(stub_host(), kernel_command_line="root=/dev/vdb ro") == ["kernel-command-line"]


def test_4_it_proves_nothing_if_the_pcr_says_otherwise():
    host = stub_host()
    host.values["sha384"][12] = bytes(48)

    assert codes(host, kernel_command_line=".*") == ["kernel-command-line-unknown"]


def test_5_images_are_known_by_their_digest_whatever_else_is_measured():
    assert codes(Host("machine-b"), GOOD, images=("boot-loader",)) == []
    (finding,) = found(Host("machine-a-loader"), GOOD, images=("boot-loader",))
    assert (finding.code, finding.event) == ("image-unknown", 34)
    assert r"\EFI\BOOT\grubx64.efi" in finding.message


def test_5_images_may_be_known_by_several_sets():
    digests = {bank: sorted(known) for bank, known in GOOD.images.items()}
    one = replace(GOOD, images={bank: frozenset(known[:1]) for bank, known in digests.items()})
    others = {bank: frozenset(known[1:]) for bank, known in digests.items()}
    rest = replace(GOOD, kind="kernel", images=others)

    assert codes(Host(), one, rest, images=("boot-loader", "kernel")) == []
    assert "image-unknown" in codes(Host(), one, rest, images=("boot-loader",))


def test_5_without_a_set_nothing_is_known():
    ended = replace(GOOD, valid_until=NOW)

    assert codes(Host(), images=("boot-loader",)) == ["no-reference"]
    assert codes(Host(), ended, images=("boot-loader",)) == ["no-reference"]


def test_5_a_digest_of_sha1_alone_is_not_enough():
    sha1 = replace(GOOD, images={"sha1": GOOD.images["sha1"]})

    assert set(codes(Host(), sha1, images=("boot-loader",))) == {"image-unknown"}


OS = reference_of("machine-a", kind="os", pcrs=(9,))


def test_6_files_of_the_boot_loader_are_known_by_their_digest():
    assert codes(Host(), OS, boot_files=("os",)) == []
    findings = found(Host("machine-b"), OS, boot_files=("os",))
    # Its initrd is its own.
    assert {finding.code for finding in findings} == {"boot-file-unknown"}
    assert any("initrd" in finding.description for finding in findings)
    assert all((f.pcr, f.event_type) == (9, "EV_IPL") for f in findings)
    both = reference_of("machine-b", kind="os", pcrs=(9,))
    assert codes(Host("machine-b"), OS, both, boot_files=("os",)) == []


def test_D1_6_a_file_is_one_whatever_the_type_of_its_event():
    events = [e._replace(type=6) if e.pcr == 9 else e for e in recorded("machine-b")]

    assert "boot-file-unknown" in codes(with_events(events), OS, boot_files=("os",))


def test_6_a_boot_loader_that_measures_no_files_is_not_believed():
    events = [event for event in recorded() if event.pcr != 9]

    assert codes(with_events(events), OS, boot_files=("os",)) == ["boot-files-unknown"]
    assert codes(Host(), boot_files=("os",)) == ["no-reference"]


def test_7_a_host_that_should_have_launched_dynamically_and_did_not_is_told():
    (finding,) = found(Host(), dynamic_launch="required")

    assert (finding.code, finding.pcr) == ("no-dynamic-launch", 17)


def test_7_a_dynamic_launch_shows_in_the_pcrs():
    host = Host()
    for values in host.values.values():
        size = len(values[17])
        values.update({pcr: bytes(size) for pcr in (17, 18, 19, 20, 22)})
        values[17] = b"\x17" * size

    assert codes(host, dynamic_launch="required") == []


def test_an_empty_log_has_no_facts():
    facts = extract_facts(parsed([]))

    assert (facts.secure_boot, facts.boot_order, facts.separators) == (None, None, {})
