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
"""The appraisal of IMA lists, by its numbered steps."""

import hashlib
from dataclasses import replace

import pytest

from oat_trusted_filter.backend.appraisal.allow_list import (
    AllowList,
    derive_allow_list,
    make_allow_list,
)
from oat_trusted_filter.backend.appraisal.document import DocumentError
from oat_trusted_filter.backend.appraisal.ima import (
    MOST_SIGNATURES,
    MOST_UNKNOWN,
    appraise_ima,
    findings_of,
    ima_findings,
    judge_again,
    needed_offset,
)
from oat_trusted_filter.backend.appraisal.records import (
    EvidenceRefused,
    ImaOffsetNeeded,
    ImaPart,
    ImaState,
    SeenFile,
    UnknownFile,
)
from oat_trusted_filter.backend.appraisal.rule_records import ImaPolicy, ReferenceSet
from oat_trusted_filter.tcg.file_signature import FileKeys
from oat_trusted_filter.tcg.ima import ImaReplay, parse_ima_log
from tests.lab.boots import Boot
from tests.lab.file_keys import FileKey
from tests.unit.tcg.test_ima import SHA256, entry

BANKS = ("sha1", "sha256", "sha384")
GOOD = "sha256:" + SHA256[8:].hex()
ALLOWED = AllowList("list-1", [{GOOD: ()}], [r"/tmp/.*"])
BOOT = 5


def pcrs_after(log, padded=("sha384",)):
    """PCR values with the list taken in."""
    replay = ImaReplay(
        {bank: bytes(hashlib.new(bank).digest_size) for bank in BANKS}, frozenset(padded)
    )
    for number, item in enumerate(parse_ima_log(log)):
        replay.extend(item, number)
    return {bank: {10: value} for bank, value in replay.values.items()}


def result(log, state=None, *, offset=0, end=None, pcrs=None, allowed=ALLOWED, boot=BOOT):
    part = ImaPart(offset, log[offset:end], more=end is not None)
    return appraise_ima(part, state, boot, allowed, pcrs or pcrs_after(log))


def judged(log, state=None, **options):
    return result(log, state, **options).state


def refusal(*args, **options):
    with pytest.raises(EvidenceRefused) as refused:
        judged(*args, **options)
    return refused.value.code, refused.value.authentic


def file(path=b"/bin/true", digest=SHA256, **options):
    return entry(fields=(digest, path + b"\0"), **options)


OTHER = b"sha256:\0" + hashlib.sha256(b"other").digest()


@pytest.mark.parametrize("name", ["machine-a", "direct"])
def test_a_recorded_list_is_taken_in(name):
    boot = Boot(name)
    digests = {
        f"{item.algorithm}:{item.file_digest.hex()}": (item.path,)
        for item in parse_ima_log(boot.ima_log)
    }
    pcrs = {bank: {10: values[10]} for bank, values in boot.pcrs.items()}

    state = judged(boot.ima_log, pcrs=pcrs, allowed=AllowList("all", [digests]))

    assert (state.entries, state.offset) == (4, len(boot.ima_log))
    assert state.padded == {"sha384"}
    assert findings_of(state) == ()


# Step 1


def test_1_only_what_is_new_has_to_be_sent():
    log = file() * 3
    first = judged(log[: len(file())])

    second = judged(log, first, offset=first.offset)

    assert (second.entries, second.offset) == (3, len(log))
    assert second.values == {bank: of[10] for bank, of in pcrs_after(log).items()}


def test_1_nothing_new_is_in_order():
    log = file() * 3
    state = judged(log)

    assert judged(log, state, offset=len(log)) == state


@pytest.mark.parametrize("offset", [0, 1, 10_000, None])
def test_D9_1_another_offset_than_the_known_one_is_refused(offset):
    log = file() * 3
    state = judged(log)

    with pytest.raises(ImaOffsetNeeded) as refused:
        judged(log, state, offset=offset)
    assert (refused.value.code, refused.value.authentic) == ("ima-offset", False)
    assert refused.value.offset == len(log)


def test_1_a_reboot_and_another_allow_list_begin_anew():
    log = file() * 2
    state = judged(log)

    assert needed_offset(state, BOOT, "list-1") == len(log)
    assert needed_offset(state, BOOT + 1, "list-1") == 0
    assert needed_offset(state, BOOT, "list-2") == 0
    assert needed_offset(None, BOOT, "list-1") == 0
    assert judged(file(), state, boot=BOOT + 1).entries == 1


# Step 2


def test_D9_2_a_malformed_entry_makes_the_host_untrusted():
    assert refusal(file() + b"rubbish", pcrs=pcrs_after(file() * 2)) == (
        "ima-log-truncated", True,
    )  # fmt: skip


# Step 3


def test_D9_3_entries_after_the_quote_are_for_the_next_round():
    log = file() * 3
    pcrs = pcrs_after(log[: 2 * len(file())])

    state = judged(log, pcrs=pcrs)

    assert (state.entries, state.offset) == (2, 2 * len(file()))


@pytest.mark.parametrize(
    "log", [file() * 2, file(b"/bin/a") + file(b"/bin/c"), file(b"/bin/b") + file(b"/bin/a"), b""]
)
def test_D9_3_an_entry_skipped_changed_or_moved_makes_the_host_untrusted(log):
    pcrs = pcrs_after(file(b"/bin/a") + file(b"/bin/b") + file(b"/bin/c"))

    assert refusal(log, pcrs=pcrs) == ("ima-log-mismatch", True)


def test_A11_3_each_bank_has_to_match():
    log = file() * 2
    pcrs = {**pcrs_after(log), "sha256": {10: bytes(32)}}

    assert refusal(log, pcrs=pcrs) == ("ima-log-mismatch", True)


@pytest.mark.parametrize("padded", [(), ("sha384",), ("sha256", "sha384")])
def test_3_kernels_that_pad_and_those_that_do_not_are_told_apart(padded):
    log = file() * 2

    state = judged(log, pcrs=pcrs_after(log, padded))

    assert state.padded == frozenset(padded)
    longer = log + file()
    assert judged(longer, state, offset=state.offset, pcrs=pcrs_after(longer, padded)).entries == 3


def test_3_entries_of_other_pcrs_do_not_count():
    log = file() + file(pcr=11) + file()
    pcrs = pcrs_after(file() * 2)

    assert judged(log, pcrs=pcrs).entries == 3


CUT = 2 * len(file()) + 20


@pytest.mark.parametrize("padded", [(), ("sha384",), ("sha256", "sha384")])
def test_3_a_long_log_is_taken_in_part_by_part(padded):
    """It is cut anywhere; which banks are padded shows at the end only."""
    log = b"".join(file(b"/bin/%d" % n) for n in range(9))
    pcrs = pcrs_after(log, padded)

    state = judged(log, end=CUT, pcrs=pcrs)
    assert (state.complete, state.entries) == (False, 2)
    assert [finding.code for finding in findings_of(state)] == ["ima-log-incomplete"]
    state = judged(log, state, offset=state.offset, end=CUT * 2, pcrs=pcrs)
    assert not state.complete
    state = judged(log, state, offset=state.offset, pcrs=pcrs)

    assert (state.complete, state.offset, state.entries) == (True, len(log), 9)
    assert state.padded == frozenset(padded)
    assert state == judged(log, pcrs=pcrs)


def test_3_a_part_too_small_for_an_entry_does_no_harm():
    log = file() * 3

    state = judged(log, end=0)
    assert (state.complete, state.entries, state.offset) == (False, 0, 0)
    assert judged(log, judged(log, state, end=5)).complete


def test_D9_3_a_log_that_ends_too_early_is_no_long_log():
    log = file() * 3
    state = judged(log, end=CUT)

    shorter = log[: state.offset]
    assert refusal(shorter, state, offset=state.offset, pcrs=pcrs_after(log)) == (
        "ima-log-mismatch", True,
    )  # fmt: skip


def test_D9_3_a_lie_in_an_earlier_part_shows_at_the_end():
    log = file(b"/bin/evil", OTHER) + file() * 2
    lie = file() * 3
    state = judged(lie, end=len(file()) + 5, pcrs=pcrs_after(log))

    code, authentic = refusal(lie, state, offset=state.offset, pcrs=pcrs_after(log))
    assert (code, authentic) == ("ima-log-mismatch", True)


def test_D9_3_rubbish_is_refused_however_much_is_to_come():
    for log in (b"\xff" * 200, file() + b"\xff" * 200):
        code, authentic = refusal(log, end=-1, pcrs=pcrs_after(file() * 2))
        assert (code, authentic) == ("ima-log-template", True)


def test_3_violations_do_not_tell_whether_a_kernel_pads():
    log = entry(digest=bytes(20)) + file()
    first = judged(log[: len(entry())], pcrs=pcrs_after(log[: len(entry())]))

    assert set(first.alternatives) == {"sha256", "sha384"}
    second = judged(log, first, offset=first.offset)
    assert (second.padded, second.alternatives) == ({"sha384"}, {})


# Step 4


def test_4_a_file_that_is_not_on_the_list_is_named():
    state = judged(file() + file(b"/bin/evil", OTHER))

    (finding,) = findings_of(state)
    assert (finding.code, finding.pcr, finding.description) == (
        "ima-unknown-file", 10, "/bin/evil",
    )  # fmt: skip
    assert finding.actual == "sha256:" + OTHER[8:].hex()


def test_4_it_is_remembered_in_later_rounds():
    log = file(b"/bin/evil", OTHER)
    state = judged(log)

    later = judged(log + file(), state, offset=state.offset)

    assert later.unknown == (UnknownFile("/bin/evil", "sha256:" + OTHER[8:].hex()),)


def test_4_a_pattern_excludes_paths_as_a_whole():
    assert findings_of(judged(file(b"/tmp/x", OTHER))) == ()
    assert findings_of(judged(file(b"/x/tmp/x", OTHER))) != ()


def test_4_a_digest_may_be_bound_to_paths():
    bound = AllowList("bound", [{}, {GOOD: ("/bin/true",)}])

    assert findings_of(judged(file(), allowed=bound)) == ()
    assert findings_of(judged(file(b"/bin/login"), allowed=bound)) != ()


def test_D9_4_violations_are_counted():
    state = judged(file(b"/tmp/x", digest=SHA256) + entry(digest=bytes(20)))

    assert state.violations == 1
    assert [finding.code for finding in findings_of(state)] == ["ima-violation"]


def test_4_what_is_excluded_may_be_violated():
    state = judged(entry(fields=(SHA256, b"/tmp/log\0"), digest=bytes(20)))

    assert (state.violations, findings_of(state)) == (1, ())


def test_4_a_file_violated_again_and_again_is_named_once():
    log = entry(digest=bytes(20)) * 5

    state = judged(log + entry(digest=bytes(20)), judged(log), offset=len(log))

    assert (state.violations, state.unknown_count, len(findings_of(state))) == (6, 1, 1)


def test_4_only_the_first_entry_is_the_boot_aggregate():
    """A file may be called so too."""
    aggregate = file(b"boot_aggregate", OTHER)

    assert findings_of(judged(aggregate + file())) == ()
    again = judged(aggregate + file() + aggregate)
    assert [finding.description for finding in findings_of(again)] == ["boot_aggregate"]
    assert again.kexec


def test_4_a_host_that_measures_nothing_is_told_so():
    state = judged(file(b"boot_aggregate", OTHER))

    assert [finding.code for finding in findings_of(state)] == ["ima-log-missing"]
    assert [finding.code for finding in findings_of(judged(b""))] == ["ima-log-missing"]


def test_4_another_kernel_is_seen():
    log = entry(template=b"ima-buf", fields=(SHA256, b"kexec-cmdline\0", b"root=/dev/sda"))

    assert judged(log).kexec
    assert not judged(file()).kexec


def test_4_many_unknown_files_are_counted_and_some_named():
    log = b"".join(file(b"/bin/%d" % n, OTHER) for n in range(MOST_UNKNOWN + 20))

    state = judged(log)

    assert (len(state.unknown), state.unknown_count) == (MOST_UNKNOWN, MOST_UNKNOWN + 20)
    assert "20 more files" in findings_of(state)[-1].message


KEY = FileKey.ecc()
SIGNED = AllowList("signed", [], keys=FileKeys([KEY.pem]))


def signed(path=b"/bin/true", content=b"program", key=KEY):
    digest = b"sha256:\0" + hashlib.sha256(content).digest()
    return entry(b"ima-sig", (digest, path + b"\0", key.sign(content)))


def test_4_a_file_that_a_key_signed_need_not_be_listed():
    found = result(signed() + signed(b"/bin/other", b"other"), allowed=SIGNED)

    assert findings_of(found.state) == ()
    assert {item.signer for item in found.files} == SIGNED.keys.names


@pytest.mark.parametrize(
    "log",
    [
        file(),
        signed(key=FileKey.ecc()),
        entry(b"ima-sig", (SHA256, b"/bin/true\0", KEY.sign(b"another"))),
        entry(b"ima-sig", (SHA256, b"/bin/true\0", b"\3\2")),
        entry(b"ima-sig", (SHA256, b"/bin/true\0", KEY.sign(b"program")), digest=bytes(20)),
    ],
)
def test_4_another_signature_or_none_is_not_enough(log):
    assert len(findings_of(judged(log, allowed=SIGNED))) == 1


def test_4_bad_signatures_cost_the_verifier_an_end(monkeypatch):
    checked = []
    monkeypatch.setattr(FileKeys, "signer", lambda *arguments: checked.append(arguments))
    log = b"".join(
        entry(b"ima-sig", (b"sha256:\0" + n.to_bytes(32), b"/x\0", b"signature"))
        for n in range(MOST_SIGNATURES + 100)
    )

    state = judged(log, allowed=SIGNED)

    assert state.unknown_count == MOST_SIGNATURES + 100
    assert len(checked) == MOST_SIGNATURES
    # Nor does the same one again cost anything.
    checked.clear()
    judged(signed() * 10, allowed=SIGNED)
    assert len(checked) == 1


# Other rules


def files_of(*logs, allowed=ALLOWED):
    found = result(b"".join(logs), allowed=allowed)
    return found.state, found.files


def test_what_was_seen_is_judged_by_other_rules():
    state, files = files_of(
        file(b"boot_aggregate", OTHER), file(), file(b"/tmp/x", OTHER),
        entry(fields=(SHA256, b"/tmp/log\0"), digest=bytes(20)),
    )  # fmt: skip
    assert findings_of(state) == ()

    narrower = judge_again(state, files, AllowList("list-2", [{GOOD: ()}]))
    assert narrower.rules == "list-2"
    assert [finding.code for finding in findings_of(narrower)] == [
        "ima-unknown-file", "ima-violation",
    ]  # fmt: skip
    assert judge_again(narrower, files, ALLOWED) == state
    withdrawn = judge_again(state, files, AllowList("none", []))
    assert withdrawn.unknown[0] == UnknownFile("/bin/true", GOOD)


def test_of_other_keys_only_the_log_itself_can_tell():
    state, files = files_of(signed(), allowed=SIGNED)
    assert findings_of(judge_again(state, files, AllowList("none", []))) != ()
    # It is signed, but nobody has looked by whom.
    state, files = files_of(signed(), allowed=ALLOWED)
    assert findings_of(state) == ()
    assert judge_again(state, files, SIGNED) is None
    assert findings_of(judge_again(state, files, AllowList("none", []))) != ()


def test_an_allow_list_is_named_by_what_is_in_it():
    one = ReferenceSet("one", "ima", {}, files={GOOD: ("/bin/true",)})
    two = replace(one, name="two", files={GOOD: ()})
    enforce = ImaPolicy("enforce")

    names = {
        make_allow_list(policy, lists).name
        for policy in (
            enforce, ImaPolicy("enforce", ("x",)), ImaPolicy("enforce", (), (KEY.pem,))
        )
        for lists in ([], [one], [two], [one, two])
    }  # fmt: skip

    assert len(names) == 12
    first, second = (make_allow_list(enforce, lists) for lists in ([one, two], [two, one]))
    assert first.name == second.name == make_allow_list(ImaPolicy("report"), [one, two]).name


def test_an_allow_list_is_taken_from_hosts():
    _, files = files_of(
        file(), file(b"/tmp/x", OTHER), file(b"/bin/x", OTHER), entry(digest=bytes(20))
    )
    old = SeenFile("/bin/old", "sha1:" + "ab" * 20, "")

    found = derive_allow_list("good", [*files, SeenFile("/bin/b", GOOD, "?"), old])

    other = "sha256:" + OTHER[8:].hex()
    assert found.files == {GOOD: ("/bin/b", "/bin/true"), other: ("/bin/x", "/tmp/x")}
    assert found.kind == "ima"
    with pytest.raises(DocumentError) as refused:
        derive_allow_list("good", [old])
    assert refused.value.code == "reference-empty"


@pytest.mark.parametrize(
    ("known", "codes"),
    [
        (None, ["ima-log-incomplete"]),
        (judged(file(b"/bin/evil", OTHER)), ["ima-unknown-file"]),
        (judged(file()), []),
    ],
)
def test_a_policy_says_what_findings_cost(known, codes):
    enforced = ima_findings(ImaPolicy("enforce"), known)
    reported = ima_findings(ImaPolicy("report"), known)

    assert [finding.code for finding in enforced] == codes
    assert [replace(finding, severity="error") for finding in reported] == list(enforced)
    assert {finding.severity for finding in reported} <= {"warning"}
    assert ima_findings(ImaPolicy(), known) == ()


def test_a_bank_allocated_since_the_last_round_makes_the_host_untrusted():
    log = file()
    state = judged(log)
    pcrs = {**pcrs_after(log), "sha512": {10: bytes(64)}}

    assert refusal(log, state, offset=len(log), pcrs=pcrs) == ("ima-log-mismatch", True)
    assert isinstance(replace(state, offset=0), ImaState)
