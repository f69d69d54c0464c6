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

from oat_trusted_filter.backend.appraisal.ima import (
    MOST_UNKNOWN,
    AllowList,
    ImaPart,
    ImaState,
    UnknownFile,
    appraise_ima,
    findings_of,
    needed_offset,
)
from oat_trusted_filter.backend.appraisal.records import EvidenceRefused
from oat_trusted_filter.tcg.ima import ImaReplay, parse_ima_log
from tests.lab.boots import Boot
from tests.unit.tcg.test_ima import SHA256, entry

BANKS = ("sha1", "sha256", "sha384")
GOOD = "sha256:" + SHA256[8:].hex()
ALLOWED = AllowList("list-1", {GOOD: frozenset()}, [r"/tmp/.*"])
BOOT = 5


def pcrs_after(log, padded=("sha384",)):
    """PCR values with the list taken in."""
    replay = ImaReplay(
        {bank: bytes(hashlib.new(bank).digest_size) for bank in BANKS}, frozenset(padded)
    )
    for number, item in enumerate(parse_ima_log(log)):
        replay.extend(item, number)
    return {bank: {10: value} for bank, value in replay.values.items()}


def judged(log, state=None, *, offset=0, pcrs=None, allowed=ALLOWED, boot=BOOT):
    part = ImaPart(offset, log[offset:])
    return appraise_ima(part, state, boot, allowed, pcrs or pcrs_after(log))


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
        f"{item.algorithm}:{item.file_digest.hex()}": frozenset([item.path])
        for item in parse_ima_log(boot.ima_log)
    }
    pcrs = {bank: {10: values[10]} for bank, values in boot.pcrs.items()}

    state = judged(boot.ima_log, pcrs=pcrs, allowed=AllowList("all", digests))

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


@pytest.mark.parametrize("offset", [0, 1, 10_000])
def test_D9_1_another_offset_than_the_known_one_is_refused(offset):
    log = file() * 3
    state = judged(log)

    assert refusal(log, state, offset=offset) == ("ima-offset", False)


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
    bound = AllowList("bound", {GOOD: frozenset(["/bin/true"])})

    assert findings_of(judged(file(), allowed=bound)) == ()
    assert findings_of(judged(file(b"/bin/login"), allowed=bound)) != ()


def test_D9_4_violations_are_counted():
    state = judged(file(b"/tmp/x", digest=SHA256) + entry(digest=bytes(20)))

    assert state.violations == 1
    assert [finding.code for finding in findings_of(state)] == ["ima-violation"]


def test_4_another_kernel_is_seen():
    log = entry(template=b"ima-buf", fields=(SHA256, b"kexec-cmdline\0", b"root=/dev/sda"))

    assert judged(log).kexec
    assert not judged(file()).kexec


def test_4_many_unknown_files_are_counted_and_some_named():
    log = b"".join(file(b"/bin/%d" % n, OTHER) for n in range(MOST_UNKNOWN + 20))

    state = judged(log)

    assert (len(state.unknown), state.unknown_count) == (MOST_UNKNOWN, MOST_UNKNOWN + 20)
    assert "20 more files" in findings_of(state)[-1].message


def test_a_bank_allocated_since_the_last_round_makes_the_host_untrusted():
    log = file()
    state = judged(log)
    pcrs = {**pcrs_after(log), "sha512": {10: bytes(64)}}

    assert refusal(log, state, offset=len(log), pcrs=pcrs) == ("ima-log-mismatch", True)
    assert isinstance(replace(state, offset=0), ImaState)
