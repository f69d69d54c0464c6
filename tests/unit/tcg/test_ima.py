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
"""IMA lists: parsing, and leading PCR 10."""

import hashlib
import itertools
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oat_trusted_filter.tcg.errors import FormatError
from oat_trusted_filter.tcg.file_signature import FileKeys
from oat_trusted_filter.tcg.ima import IMA_PCR, ImaReplay, parse_ima_log
from tests.lab.boots import BOOTS, KEXEC_BOOT, Boot

SHA256 = b"sha256:\0" + hashlib.sha256(b"program").digest()
LOG = Boot("machine-a").ima_log
DATA = Path(__file__).resolve().parents[2] / "data" / "ima"


def sized(data):
    return struct.pack("<I", len(data)) + data


def entry(template=b"ima-ng", fields=(SHA256, b"/bin/true\0"), digest=None, pcr=10):
    body = b"".join(sized(field) for field in fields)
    digest = hashlib.sha1(body).digest() if digest is None else digest
    return struct.pack("<I", pcr) + digest + sized(template) + sized(body)


def legacy_entry(name=b"/bin/true"):
    file_digest = hashlib.sha1(b"program").digest()
    digest = hashlib.sha1(file_digest + name.ljust(256, b"\0")).digest()
    return struct.pack("<I", 10) + digest + sized(b"ima") + file_digest + sized(name)


def replayed(log, banks=("sha1", "sha256"), padded=()):
    replay = ImaReplay(
        {bank: bytes(hashlib.new(bank).digest_size) for bank in banks}, frozenset(padded)
    )
    for number, item in enumerate(parse_ima_log(log)):
        replay.extend(item, number)
    return replay.values


def refusal(log):
    with pytest.raises(FormatError) as refused:
        replayed(log)
    return refused.value.code


@pytest.mark.parametrize("name", BOOTS)
def test_a_recorded_list_leads_to_the_recorded_pcr(name):
    boot = Boot(name)

    # The kernel that was recorded has no SHA-384 for its list and pads.
    values = replayed(boot.ima_log, tuple(boot.pcrs), ["sha384"])

    assert values == {bank: boot.pcrs[bank][IMA_PCR] for bank in values}


def test_D9_the_list_of_a_second_kernel_does_not_lead_to_the_pcr_the_first_one_left():
    boot = Boot(KEXEC_BOOT)

    values = replayed(boot.ima_log, tuple(boot.pcrs), ["sha384"])

    assert all(values[bank] != boot.pcrs[bank][IMA_PCR] for bank in boot.pcrs)


def test_a_recorded_list_tells_signed_files_and_violations():
    entries = {
        entry.path: entry for entry in parse_ima_log(Boot("machine-c").ima_log)
        if not entry.violation
    }
    violations = [e.path for e in parse_ima_log(Boot("machine-c").ima_log) if e.violation]
    keys = FileKeys((DATA / f"evmctl-{name}.pem").read_text() for name in ("rsa", "p256"))

    def signed(name):
        entry = entries[f"/tmp/{name}"]
        return keys.signer(entry.algorithm, entry.file_digest, entry.signature) is not None

    assert violations == ["/tmp/written"]
    assert [signed(f"signed-{name}") for name in ("rsa", "p256")] == [True, True]
    assert [signed(name) for name in ("wrongly-signed", "plain", "with_a_blank")] == [False] * 3


def test_a_recorded_list_names_files_and_their_digests():
    entries = list(parse_ima_log(LOG))

    assert [item.path for item in entries][:2] == ["boot_aggregate", "/init"]
    assert {(item.template, item.algorithm, len(item.file_digest)) for item in entries} == {
        ("ima-sig", "sha256", 32)
    }
    assert not any(item.violation or item.signature for item in entries)
    assert entries[-1].end == len(LOG)


@pytest.mark.parametrize(
    ("template", "fields"),
    [
        (b"ima-ng", (SHA256, b"/bin/true\0")),
        (b"ima-sig", (SHA256, b"/bin/true\0", b"\3\2signature")),
        (b"ima-buf", (SHA256, b"/bin/true\0", b"the buffer")),
        (b"ima-ngv2", (b"ima:" + SHA256, b"/bin/true\0")),
        (b"ima-sigv2", (b"verity:" + SHA256, b"/bin/true\0", b"\3\2signature")),
    ],
)
def test_all_templates_are_read(template, fields):
    (item,) = parse_ima_log(entry(template, fields))

    assert (item.path, item.algorithm) == ("/bin/true", "sha256")
    assert item.file_digest == SHA256[8:]
    assert item.signature == (b"\3\2signature" if b"sig" in template else b"")
    assert replayed(entry(template, fields))["sha256"]


def test_the_oldest_template_is_read_and_its_name_padded():
    (item,) = parse_ima_log(legacy_entry())

    assert (item.template, item.path, item.algorithm) == ("ima", "/bin/true", "sha1")
    expected = hashlib.sha1(bytes(20) + item.template_digest).digest()
    assert replayed(legacy_entry())["sha1"] == expected


def test_D9_a_violation_is_counted_and_extends_ones():
    log = entry(digest=bytes(20))
    (item,) = parse_ima_log(log)

    assert item.violation
    assert replayed(log)["sha256"] == hashlib.sha256(bytes(32) + b"\xff" * 32).digest()


@pytest.mark.parametrize(
    ("log", "code"),
    [
        *((entry()[:size], "ima-log-truncated") for size in range(1, len(entry()))),
        *((legacy_entry()[:size], "ima-log-truncated") for size in range(1, len(legacy_entry()))),
        (entry(template=b"ima-new"), "ima-log-template"),
        (entry(template=b"x" * 33), "ima-log-template"),
        (entry(digest=b"\1" * 20), "ima-log-digest"),
        (entry(fields=(SHA256,)), "ima-log-entry"),
        (entry(fields=(SHA256, b"/bin/true\0", b"more")), "ima-log-entry"),
        (entry(fields=(b"no algorithm", b"/bin/true\0")), "ima-log-entry"),
        (entry(fields=(SHA256, b"x" * 200_000)), "ima-log-entry"),
        (entry(fields=(SHA256, b"/" + b"x" * 4096)), "ima-log-entry"),
        (legacy_entry(name=b"x" * 256), "ima-log-entry"),
        (entry()[:-50] + b"\xff" * 50, "ima-log-entry"),
    ],
    ids=itertools.count(),
)
def test_D9_a_malformed_entry_is_refused(log, code):
    assert refusal(log) == code
    # Also behind good ones, and the message counts.
    with pytest.raises(FormatError, match=r"entry 2\b"):
        replayed(entry() * 2 + log)


def test_entries_come_one_at_a_time():
    entries = parse_ima_log(entry() * 1000 + b"rubbish")

    assert sum(1 for _ in itertools.islice(entries, 1000)) == 1000
    with pytest.raises(FormatError):
        next(entries)


def test_names_are_safe_to_work_with():
    (item,) = parse_ima_log(entry(fields=(SHA256, b"/tmp/\xff\xfe\0")))

    assert item.path == "/tmp/\\xff\\xfe"


@given(st.binary(max_size=300))
def test_D8_whatever_the_bytes_the_parser_answers_or_refuses(data):
    for log in (data, LOG + data, entry()[:28] + data):
        try:
            replayed(log)
        except FormatError as error:
            assert error.code.startswith("ima-log-")


@pytest.fixture(scope="module")
def without_the_usual():
    """The list as it is read if no entry of it is a usual one."""

    def read(log):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("oat_trusted_filter.tcg.ima._USUAL", {})
            return outcome(log)

    return read


def outcome(log):
    found = []
    try:
        found.extend(parse_ima_log(log))
    except FormatError as error:
        found.append((error.code, str(error)))
    return found


@pytest.mark.parametrize("name", BOOTS)
def test_a_recorded_list_reads_the_same_entry_by_entry_and_field_by_field(name, without_the_usual):
    log = Boot(name).ima_log

    assert outcome(log) == without_the_usual(log)


@given(
    template=st.sampled_from([b"ima-ng", b"ima-sig", b"ima-buf"]),
    digest=st.sampled_from([SHA256, SHA256[:-1], b"sha1:\0" + bytes(20), b"sha384:\0" + bytes(48)]),
    path=st.sampled_from([b"/bin/true\0", b"", b"/" + b"x" * 4096]),
    more=st.lists(st.sampled_from([b"", b"\3\2signature", bytes(200_000)]), max_size=2),
    place=st.integers(24, 110),
    byte=st.integers(0, 255),
    cut=st.integers(0, 40),
)
def test_D9_the_usual_entries_are_read_and_refused_as_all_others(
    template, digest, path, more, place, byte, cut, without_the_usual
):
    good = entry(template, (digest, path, *more))
    bad = bytearray(good)
    bad[place % len(bad)] = byte
    for log in (good, bytes(bad), good + good[: len(good) - cut]):
        assert outcome(log) == without_the_usual(log)
