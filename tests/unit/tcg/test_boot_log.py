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
"""Boot logs: parsing and replay."""

import hashlib
import struct
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oat_trusted_filter.tcg.bootlog import (
    EV_EFI_HCRTM_EVENT,
    MAX_LOG_BYTES,
    parse_boot_log,
    replay,
)
from oat_trusted_filter.tcg.errors import FormatError
from tests.lab.boots import BOOTS, Boot
from tests.unit.tcg.logs import (
    EV_NO_ACTION,
    encode,
    encode_event,
    encode_sha1,
    first_event,
    measured,
    parsed,
    recorded,
    spec_id,
)

LOG = Boot("machine-a").boot_log
BANKS = {"sha1": 20, "sha256": 32}
EVENT = measured(4, 0x80000007, b"text")
FIRST = first_event(spec_id({"sha1": 20, "sha256": 32, "sha384": 48}))


def refusal(data):
    """The code, if it comes in 50 ms of processor time; a busy machine gets some tries."""
    for _ in range(5):
        started = time.process_time()
        with pytest.raises(FormatError) as refused:
            parse_boot_log(data)
        if time.process_time() - started < 0.05:
            return refused.value.code
    raise AssertionError("the refusal took longer than 50 ms")


def locality(value, pcr=0):
    event = measured(pcr, EV_NO_ACTION, b"StartupLocality\0" + bytes([value]))
    return type(event)(0, pcr, EV_NO_ACTION, event.digests, event.data)


@pytest.mark.parametrize("name", BOOTS)
def test_a_log_written_anew_is_the_recorded_one(name):
    boot = Boot(name)

    assert encode(recorded(name), tuple(boot.pcrs)) == boot.boot_log


def test_sha1_format_gives_the_same_sha1_pcrs():
    log = parse_boot_log(encode_sha1(recorded()))

    assert log.banks == ("sha1",)
    assert replay(log, "sha1") == replay(parse_boot_log(LOG), "sha1")


def test_a_bank_that_is_not_known_is_read_past():
    sizes = {"sha256": 32, 0x12: 32}
    digest = hashlib.sha256(b"x").digest()
    event = struct.pack("<III", 1, 13, 2) + struct.pack("<H", 11) + digest
    event += struct.pack("<H", 0x12) + digest + struct.pack("<I", 1) + b"x"

    log = parse_boot_log(first_event(spec_id(sizes)) + event)

    assert log.banks == ("sha256",)
    assert log.events[1].digests == {"sha256": digest}


def test_pcrs_of_a_dynamic_launch_hold_ones_until_there_is_one():
    values = replay(parse_boot_log(LOG), "sha256")

    assert {values[pcr] for pcr in range(17, 23)} == {b"\xff" * 32}
    assert values[16] == values[23] == bytes(32)


def test_a_bank_the_log_does_not_have_is_refused():
    with pytest.raises(FormatError) as refused:
        replay(parse_boot_log(encode_sha1(recorded())), "sha256")

    assert refused.value.code == "boot-log-bank"


def two_digests_of_one_bank():
    digests = (struct.pack("<H", 4) + bytes(20)) * 2
    event = struct.pack("<III", 0, 1, 2) + digests + struct.pack("<I", 0)
    return first_event(spec_id(BANKS)) + event


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "boot-log-empty"),
        (bytes(MAX_LOG_BYTES + 1), "boot-log-too-large"),
        (LOG[:-1], "boot-log-event-size"),
        (FIRST + encode_event(EVENT)[:9], "boot-log-truncated"),
        (FIRST + encode_event(EVENT)[:40], "boot-log-truncated"),
        (FIRST + encode_event(EVENT)[:-8] + b"\xff" * 4, "boot-log-event-size"),
        (LOG + bytes(64), "boot-log-event"),
        (LOG + b"\xff" * 64, "boot-log-event"),
        (encode_sha1(recorded()) + bytes(64), "boot-log-event"),
        (FIRST + struct.pack("<III", 0, 1, 0xFFFFFFFF), "boot-log-event"),
        (FIRST + struct.pack("<III", 24, 1, 3) + encode_event(EVENT)[12:], "boot-log-event"),
        (first_event(spec_id({})), "boot-log-spec-id"),
        (first_event(spec_id({"sha256": 20})), "boot-log-spec-id"),
        (first_event(spec_id({0x12: 0})), "boot-log-spec-id"),
        (first_event(spec_id(BANKS)[:-3]), "boot-log-spec-id"),
        (first_event(spec_id(BANKS) + b"\0"), "boot-log-spec-id"),
        (first_event(spec_id({0x12: 32})), "boot-log-algorithm"),
        (first_event(spec_id(BANKS)) + encode_event(EVENT), "boot-log-event"),
        (
            first_event(spec_id({"sha1": 20, "sha256": 32, "sha512": 64})) + encode_event(EVENT),
            "boot-log-algorithm",
        ),
        (two_digests_of_one_bank(), "boot-log-algorithm"),
        (encode([locality(3), locality(3)]), "boot-log-startup-locality"),
        (encode([locality(3, pcr=1)]), "boot-log-startup-locality"),
    ],
)
def test_D5_a_log_that_is_none_is_refused_at_once(data, code):
    assert refusal(data) == code


def test_D5_an_event_without_data_is_one():
    log = parsed([measured(4, 13, b"")])

    assert log.events[1].data == b""


def test_D5_a_log_that_ends_anywhere_is_refused_or_is_shorter():
    for end in range(0, len(LOG), 37):
        try:
            assert len(parse_boot_log(LOG[:end]).events) < len(parse_boot_log(LOG).events)
        except FormatError as error:
            assert error.code.startswith("boot-log-")


def test_D5_thousands_of_small_events_are_refused():
    assert refusal(FIRST + encode_event(measured(4, 13, b"")) * 2_001) == "boot-log-too-large"


def test_D6_the_locality_of_the_start_is_where_pcr_0_begins():
    event = measured(0, 8, b"version")

    for value in (0, 3, 4):
        start = bytes(31) + bytes([value])
        expected = hashlib.sha256(start + event.digests["sha256"]).digest()
        assert replay(parsed([locality(value), event]), "sha256")[0] == expected
        # Firmware may write it later; the replay decides.
        assert replay(parsed([event, locality(value)]), "sha256")[0] == expected


def test_D6_a_hardware_root_of_trust_starts_pcr_0_at_4():
    event = measured(0, EV_EFI_HCRTM_EVENT, b"HCRTM")

    log = parsed([event])

    assert log.h_crtm
    assert replay(log, "sha1")[0] == hashlib.sha1(
        bytes(19) + b"\4" + event.digests["sha1"]
    ).digest()


def test_D7_events_real_firmware_may_leave_out_or_add_parse():
    events = recorded()
    without_exit = [event for event in events if b"Exit Boot" not in event.data]
    option_rom = measured(2, 0x80000004, bytes(32), over=b"code of the ROM")

    assert len(parsed(without_exit).events) == len(events) - 1
    assert parsed([*events, option_rom]).events[-1].pcr == 2


@settings(max_examples=200)
@given(st.integers(0, len(LOG) - 1), st.integers(0, 255))
def test_D8_a_changed_byte_never_makes_the_parser_fail_otherwise(position, value):
    data = LOG[:position] + bytes([value]) + LOG[position + 1 :]
    try:
        log = parse_boot_log(data)
    except FormatError as error:
        assert error.code.startswith("boot-log-")
    else:
        for bank in log.banks:
            assert len(replay(log, bank)) == 24


@given(st.binary(max_size=500))
def test_D8_bytes_behind_a_good_start_never_make_the_parser_fail_otherwise(data):
    try:
        parse_boot_log(FIRST + data)
    except FormatError as error:
        assert error.code.startswith("boot-log-")
