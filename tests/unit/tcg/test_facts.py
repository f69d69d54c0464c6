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
"""What events say, and what a log proves although the host's owner may have rewritten it."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oat_trusted_filter.tcg.bootlog import Event, replay
from oat_trusted_filter.tcg.errors import FormatError
from oat_trusted_filter.tcg.events import (
    EV_EFI_ACTION,
    EV_EFI_BOOT_SERVICES_APPLICATION,
    EV_EFI_PLATFORM_FIRMWARE_BLOB,
    EV_EFI_VARIABLE_AUTHORITY,
    EV_EFI_VARIABLE_BOOT,
    EV_EFI_VARIABLE_DRIVER_CONFIG,
    EV_IPL,
    EV_S_CRTM_VERSION,
    EV_SEPARATOR,
    STUB_PCR,
    check_event_data,
    describe_event,
    event_type_name,
    variable,
)
from oat_trusted_filter.tcg.facts import extract_facts
from tests.lab.boots import BOOTS
from tests.unit.tcg.logs import changed, measured, parsed, recorded

GLOBAL = bytes.fromhex("61dfe48bca93d211aa0d00e098032b8c")
SECURE_BOOT, SEPARATOR, KERNEL_LINE = 4, 9, 48


def secure_boot(value, name="SecureBoot"):
    encoded = name.encode("utf-16-le")
    data = GLOBAL + struct.pack("<QQ", len(name), len(value)) + encoded + value
    return measured(7, EV_EFI_VARIABLE_DRIVER_CONFIG, data)


def separator(pcr=7):
    return measured(pcr, EV_SEPARATOR, bytes(4))


def refusal(events):
    with pytest.raises(FormatError) as refused:
        extract_facts(parsed(events))
    return refused.value.code


def test_facts_of_a_boot_with_secure_boot():
    facts = extract_facts(parsed(recorded()))

    assert (facts.secure_boot.value, facts.secure_boot.event) == (True, SECURE_BOOT)
    assert facts.uefi_debugger is None
    assert [(fact.event, fact.value.path) for fact in facts.boot_applications][:2] == [
        (28, r"\EFI\BOOT\BOOTX64.EFI"), (34, r"\EFI\BOOT\grubx64.efi"),
    ]  # fmt: skip
    assert {fact.event for fact in facts.kernel_command_lines} == {44, KERNEL_LINE}
    assert len({fact.value for fact in facts.kernel_command_lines}) == 1
    assert "root=UUID=" in facts.kernel_command_lines[0].value


def test_facts_of_a_boot_without():
    facts = extract_facts(parsed(recorded("direct")))

    assert facts.secure_boot.value is False
    assert facts.kernel_command_lines == ()


def test_a_log_without_secure_boot_says_nothing_about_it():
    assert extract_facts(parsed([separator(0)])).secure_boot is None


def test_a_debugger_is_seen():
    events = [measured(7, EV_EFI_ACTION, b"UEFI Debug Mode"), secure_boot(b"\1"), separator()]

    assert extract_facts(parsed(events)).uefi_debugger.event == 1


def test_D1_a_debugger_is_seen_whatever_the_type_of_its_event():
    hidden = measured(7, EV_EFI_PLATFORM_FIRMWARE_BLOB, b"blob", over=b"UEFI Debug Mode")

    assert extract_facts(parsed([separator(0), hidden])).uefi_debugger.event == 2


def test_D1_a_state_hidden_behind_another_type_is_not_replaced_by_one_made_later():
    """The owner boots without Secure Boot, extends PCR 7 with a good state, rewrites the log."""
    real = recorded("direct")
    forged = [secure_boot(b"\1"), separator()]
    for kind, data in (
        (EV_EFI_PLATFORM_FIRMWARE_BLOB, bytes(16)),
        (EV_EFI_VARIABLE_AUTHORITY, real[SECURE_BOOT - 1].data),
    ):
        rewritten = changed(real, SECURE_BOOT, type=kind, data=data)
        assert refusal(rewritten + forged) == "secure-boot-ambiguous"
        # Also with the real separator under another type.
        rewritten = changed(rewritten, SEPARATOR, type=EV_EFI_PLATFORM_FIRMWARE_BLOB)
        assert refusal(rewritten + forged) == "secure-boot-ambiguous"
    # The types are not under the digests, so the PCRs are those of the real boot and more.
    assert replay(parsed(rewritten), "sha256") == replay(parsed(real), "sha256")


def test_D1_a_command_line_hidden_behind_another_prefix_is_still_seen():
    real = recorded()
    line = real[KERNEL_LINE - 1]
    hidden = line.data.replace(b"kernel_cmdline: ", b"grub_cmd: ")
    forged = measured(8, EV_IPL, b"kernel_cmdline: good\0", over=b"good")

    facts = extract_facts(parsed([*changed(real, KERNEL_LINE, data=hidden), forged]))

    lines = [fact.value for fact in facts.kernel_command_lines]
    assert "good" in lines
    assert any("root=UUID=" in text for text in lines)


@pytest.mark.parametrize("name", BOOTS)
def test_D2_the_data_of_all_recorded_events_is_what_was_measured(name):
    vouched = [check_event_data(event) for event in recorded(name)]

    assert sum(vouched) > len(vouched) / 2


@pytest.mark.parametrize("name", BOOTS)
def test_D2_a_changed_bit_of_data_under_a_digest_is_refused(name):
    for event in recorded(name):
        if not check_event_data(event) or event.pcr == STUB_PCR:
            continue
        position = len(event.data) - 2
        data = bytearray(event.data)
        data[position] ^= 1
        with pytest.raises(FormatError) as refused:
            check_event_data(Event(event.number, event.pcr, event.type, event.digests, bytes(data)))
        assert refused.value.code == "boot-log-event-data"
        assert f"event {event.number} " in str(refused.value)


def test_D2_data_has_to_fit_in_each_bank():
    events = recorded()
    digests = {**events[SECURE_BOOT - 1].digests, "sha384": bytes(48)}

    assert refusal(changed(events, SECURE_BOOT, digests=digests)) == "boot-log-event-data"


@pytest.mark.parametrize(
    "events",
    [
        [secure_boot(b"\1"), secure_boot(b"\1"), separator()],
        [secure_boot(b"\0"), secure_boot(b"\1"), separator()],
        [separator(), secure_boot(b"\1")],
        [secure_boot(b"\1")],
        [secure_boot(b""), separator()],
        [secure_boot(b"\2"), separator()],
        [secure_boot(b"\1\0"), separator()],
        [secure_boot(b"\1"), separator(), separator()],
        [secure_boot(b"\1"), separator(), measured(7, EV_SEPARATOR, b"\xff" * 4)],
    ],
)
def test_D3_a_state_that_cannot_be_told_is_refused(events):
    assert refusal(events) == "secure-boot-ambiguous"


def test_a_malformed_variable_is_refused():
    event = measured(7, EV_EFI_VARIABLE_DRIVER_CONFIG, b"short")

    assert refusal([event, separator()]) == "boot-log-event-data"


def test_descriptions_are_safe_for_a_terminal():
    event = measured(8, EV_IPL, b"grub_cmd: \x1b[31mred\x07\xff\xe2\x80\xae\0")

    text = describe_event(event)

    assert text.isascii()
    assert text.isprintable()
    assert "\\x1b" in text


@given(st.integers(0, 2**32 - 1), st.binary(max_size=400))
def test_any_event_can_be_named_and_described(kind, data):
    event = Event(1, 4, kind, {}, data)

    assert event_type_name(kind)
    assert len(describe_event(event)) <= 200


@given(st.binary(max_size=200))
def test_any_image_path_can_be_described(path):
    event = Event(1, 4, 0x80000003, {}, struct.pack("<QQQQ", 0, 0, 0, len(path)) + path)

    assert describe_event(event).isprintable()


def test_what_is_no_variable_is_refused_and_named():
    name = "BootOrder".encode("utf-16-le")
    head = GLOBAL + struct.pack("<QQ", 9, 2)
    for data in (b"", head + name, head + name + b"\0\0\0", head + b"\x00\xd8" * 9 + b"\0\0"):
        event = measured(1, EV_EFI_VARIABLE_BOOT, data)
        with pytest.raises(FormatError) as refused:
            variable(event)
        assert refused.value.code == "boot-log-event-data"
        assert describe_event(event) == "malformed variable"


def test_a_boot_order_of_half_a_number_is_none():
    name = "BootOrder".encode("utf-16-le")
    data = GLOBAL + struct.pack("<QQ", 9, 3) + name + b"\1\0\2"
    odd = measured(1, EV_EFI_VARIABLE_BOOT, data)

    assert extract_facts(parsed([odd])).boot_order is None


def test_other_variables_of_pcr_7_say_nothing():
    events = [secure_boot(b"\1", "AuditMode"), secure_boot(b"\1"), separator()]

    facts = extract_facts(parsed(events))

    assert facts.secure_boot.event == 2
    assert facts.databases == {}


def node(kind, subtype, body):
    return struct.pack("<BBH", kind, subtype, 4 + len(body)) + body


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (node(4, 6, bytes(16)), "FvFile(00000000-0000-0000-0000-000000000000)"),
        (node(4, 3, bytes(20)), "VenMedia(00000000-0000-0000-0000-000000000000)"),
        (node(2, 1, bytes(8)) + node(4, 4, "x".encode("utf-16-le")), "x"),
        (node(0x7F, 0xFF, b"") + node(4, 4, b"x\0"), "image without a path"),
        (node(4, 6, b"short"), "image without a path"),
        (node(4, 4, b"\x00\xd8"), "image without a path"),
        (b"\4\4\0\0", "image without a path"),
        (b"", "image without a path"),
    ],
)
def test_an_image_has_the_path_its_nodes_name(path, text):
    data = struct.pack("<QQQQ", 0, 0, 0, len(path)) + path

    assert describe_event(measured(4, EV_EFI_BOOT_SERVICES_APPLICATION, data, over=b"i")) == text


def test_events_are_described():
    def described(pcr, kind, data):
        return describe_event(measured(pcr, kind, data))

    assert described(0, EV_S_CRTM_VERSION, "1.2\0".encode("utf-16-le")) == "1.2"
    assert described(11, EV_IPL, ".linux\0".encode("utf-16-le")) == ".linux"
    assert described(9, EV_IPL, b"(hd0)/x\0") == "(hd0)/x"
    assert described(0, EV_SEPARATOR, bytes(4)) == "00000000"
    assert described(0, 0x7, b"\1") == ""
    assert describe_event(measured(4, EV_EFI_BOOT_SERVICES_APPLICATION, b"")).startswith("image")
