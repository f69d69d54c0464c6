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
"""Logs rewritten by whoever controls the host: no event may be hidden behind one added later.

He boots as he likes, extends PCRs afterwards as he likes, and writes types and data as he likes;
the digests of what was measured he cannot take out of the log.
"""

import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oat_trusted_filter.tcg.bootlog import Event, replay
from oat_trusted_filter.tcg.errors import FormatError
from oat_trusted_filter.tcg.events import (
    EV_ACTION,
    EV_EFI_ACTION,
    EV_EFI_BOOT_SERVICES_APPLICATION,
    EV_EFI_BOOT_SERVICES_DRIVER,
    EV_EFI_VARIABLE_BOOT,
    EV_EFI_VARIABLE_DRIVER_CONFIG,
    EV_EVENT_TAG,
    EV_IPL,
    EV_POST_CODE,
    EV_SEPARATOR,
    STUB_PCR,
    check_event_data,
    describe_event,
)
from oat_trusted_filter.tcg.facts import extract_facts
from tests.lab.boots import BOOTS
from tests.unit.tcg.logs import changed, measured, parsed, recorded

GLOBAL = bytes.fromhex("61dfe48bca93d211aa0d00e098032b8c")
IMAGE_SECURITY = bytes.fromhex("cbb219d73a3d9645a3bcdad00e67656f")
GRUB_APPLICATION, LINUX_COMMAND, KERNEL_LINE = 34, 44, 48
GOOD = b"/vmlinuz good"
GOOD_LINE = measured(8, EV_IPL, b"kernel_cmdline: " + GOOD + b"\0", over=GOOD)
SEPARATOR = measured(7, EV_SEPARATOR, bytes(4))


def variable_data(name, value, vendor=GLOBAL):
    return vendor + struct.pack("<QQ", len(name), len(value)) + name.encode("utf-16-le") + value


def variable_event(name, value, vendor=GLOBAL):
    return measured(7, EV_EFI_VARIABLE_DRIVER_CONFIG, variable_data(name, value, vendor))


def utf16(text):
    return (text + "\0").encode("utf-16-le")


def stub_line(text):
    return measured(12, EV_IPL, utf16(text))


def file_path(*nodes):
    path = b"".join(struct.pack("<BBH", 4, 4, 4 + len(node)) + node for node in nodes)
    return struct.pack("<QQQQ", 0, 0, 0, len(path)) + path


def lines(events):
    facts = extract_facts(parsed(events))
    return [fact.value for fact in facts.kernel_command_lines], facts.command_line_hidden_by


def spoken(event):
    """What GRUB said, without the prefix and the final NUL."""
    return event.data.split(b": ", 1)[1].removesuffix(b"\0")


def refusal(events):
    with pytest.raises(FormatError) as refused:
        extract_facts(parsed(events))
    return refused.value.code


# Kernel command lines


@pytest.mark.parametrize(
    "hidden",
    [
        lambda event: event._replace(type=EV_POST_CODE, data=b""),
        lambda event: event._replace(type=EV_EVENT_TAG, data=b""),
        lambda event: event._replace(data=b"not a string of GRUB"),
        lambda event: event._replace(type=EV_EFI_ACTION, data=spoken(event)),
        lambda event: event._replace(type=EV_SEPARATOR, data=spoken(event)),
    ],
    ids=["post-code", "tag", "no-prefix", "action", "separator"],
)
def test_D1_a_command_line_cannot_be_hidden_behind_one_added_later(hidden):
    real = recorded("machine-a-cmdline")
    rewritten = real
    for number in (LINUX_COMMAND, KERNEL_LINE):
        assert b"mitigations=off" in real[number - 1].data
        event = hidden(real[number - 1])
        rewritten = changed(rewritten, number, type=event.type, data=event.data)

    found, by = lines([*rewritten, GOOD_LINE])

    assert (found, by) == ([], LINUX_COMMAND)
    log = [*real, GOOD_LINE]
    assert replay(parsed([*rewritten, GOOD_LINE]), "sha256") == replay(parsed(log), "sha256")


@pytest.mark.parametrize("prefix", [b"grub_cmd: ", b"module_cmdline: ", b"kernel_cmdline: "])
def test_D1_a_command_line_is_one_under_each_prefix(prefix):
    """Of a kernel that another command than linux starts, multiboot2 for instance."""
    bad = b"/xen.gz bad"
    real = measured(8, EV_IPL, prefix + bad + b"\0", over=bad)

    found, by = lines([real, GOOD_LINE])

    assert (found, by) == (["/xen.gz bad", "/vmlinuz good"], None)


@pytest.mark.parametrize("name", [b"linux", b"linux16", b"linuxefi"])
def test_D1_the_arguments_of_a_linux_command_are_a_command_line_under_each_prefix(name):
    for prefix in (b"grub_cmd: ", b"module_cmdline: "):
        command = measured(8, EV_IPL, prefix + name + b" /k bad\0", over=name + b" /k bad")
        assert lines([command])[0] == ["/k bad"]


def test_D1_a_line_of_the_stub_cannot_be_hidden_behind_one_added_later():
    bad = stub_line("quiet bad")

    assert lines([bad, stub_line("quiet")]) == (["quiet bad", "quiet"], None)
    for hidden in (
        bad._replace(type=EV_EVENT_TAG),
        bad._replace(type=EV_EFI_ACTION),
        bad._replace(data=utf16("quiet")),
    ):
        assert lines([hidden, stub_line("quiet")]) == ([], 1)


def test_D1_a_hidden_line_of_grub_is_not_made_up_for_by_one_of_the_stub():
    rewritten = changed(recorded("machine-a-cmdline"), KERNEL_LINE, type=EV_POST_CODE)

    assert lines([*rewritten, stub_line("quiet")]) == ([], KERNEL_LINE)


def test_D7_credentials_systemd_stub_loads_are_no_forgery_but_leave_the_lines_open():
    credentials = measured(12, EV_IPL, utf16("Credentials initrd"), over=b"a cpio archive")

    facts = extract_facts(parsed([*recorded(), credentials]))

    assert facts.secure_boot.value
    assert facts.kernel_command_lines == ()
    assert facts.command_line_hidden_by == len(recorded()) + 1


@pytest.mark.parametrize("length", [8_193, 1_000_000])
def test_D8_a_line_no_kernel_takes_is_not_given_to_regular_expressions(length):
    text = b"/" + b"a" * (length - 1)
    grub = measured(8, EV_IPL, b"kernel_cmdline: " + text, over=text)

    assert lines([grub]) == ([], 1)
    assert lines([stub_line("a" * length)]) == ([], 1)


@pytest.mark.parametrize("name", BOOTS)
def test_nothing_hides_the_lines_of_the_recordings(name):
    found, by = lines(recorded(name))

    assert by is None
    # Without a boot loader nobody measures one.
    assert bool(found) == (name not in ("direct", "sha384"))


# Boot applications


@pytest.mark.parametrize("kind", [EV_EFI_BOOT_SERVICES_DRIVER, EV_EVENT_TAG, EV_POST_CODE])
def test_D1_a_boot_application_stays_one_under_another_type(kind):
    real = recorded()

    facts = extract_facts(parsed(changed(real, GRUB_APPLICATION, type=kind)))

    found = {fact.event: fact.value.digests for fact in facts.boot_applications}
    assert list(found) == [28, 34, 46, 47]
    assert found[GRUB_APPLICATION] == real[GRUB_APPLICATION - 1].digests


@pytest.mark.parametrize("kind", [EV_ACTION, EV_EFI_ACTION, EV_SEPARATOR])
def test_D1_an_image_in_the_log_itself_is_still_a_boot_application(kind):
    """An Authenticode digest has bytes it is made from, which may be written as the data."""
    image = b"MZ" + bytes(1000)

    (fact,) = extract_facts(parsed([measured(4, kind, image)])).boot_applications

    assert fact.event == 1


def test_actions_and_separators_of_pcr_4_are_no_boot_applications():
    found = {fact.event for fact in extract_facts(parsed(recorded())).boot_applications}

    assert found == {28, 34, 46, 47}


def test_the_path_of_a_boot_application_is_safe_for_a_terminal():
    data = file_path("\x1b[2J\u202e\nevil".encode("utf-16-le") + b"\0\0")
    event = measured(4, EV_EFI_BOOT_SERVICES_APPLICATION, data, over=b"image")

    (fact,) = extract_facts(parsed([event])).boot_applications

    assert fact.value.path.isascii()
    assert fact.value.path.isprintable()


def test_D8_a_path_of_a_million_nodes_is_read_in_good_time():
    event = measured(4, EV_EFI_BOOT_SERVICES_APPLICATION, file_path(*[b""] * 900_000))
    log = parsed([event])

    started = time.process_time()
    extract_facts(log)
    describe_event(event)

    assert time.process_time() - started < 0.1


# Secure Boot


def test_D3_variables_of_another_vendor_make_the_state_ambiguous():
    other = IMAGE_SECURITY

    assert refusal([variable_event("SecureBoot", b"\1", other), SEPARATOR]) == (
        "secure-boot-ambiguous"
    )
    for name, vendor in (("db", GLOBAL), ("dbx", GLOBAL), ("PK", other), ("KEK", other)):
        events = [variable_event("SecureBoot", b"\1"), variable_event(name, b"", vendor), SEPARATOR]
        assert refusal(events) == "secure-boot-ambiguous"


def test_D3_firmware_that_failed_to_measure_says_nothing_about_secure_boot():
    state = variable_event("SecureBoot", b"\1")
    error = measured(7, EV_SEPARATOR, b"\1\0\0\0")

    for events in ([state, error], [error, state, SEPARATOR], [state, error, SEPARATOR]):
        assert refusal(events) == "secure-boot-ambiguous"
        hidden = [
            event._replace(type=EV_EVENT_TAG, data=b"") if event is error else event
            for event in events
        ]
        assert refusal(hidden) == "secure-boot-ambiguous"


def test_D3_a_separator_that_reports_an_error_separates_nothing():
    error = measured(2, EV_SEPARATOR, b"\1\0\0\0")
    good = measured(2, EV_SEPARATOR, bytes(4))

    assert list(extract_facts(parsed([good])).separators) == [2]
    assert extract_facts(parsed([error])).separators == {}
    assert extract_facts(parsed([error, good])).separators == {}


@st.composite
def rewritten_without_secure_boot(draw):
    """The boot without Secure Boot, any of its PCR 7 retyped, and any good events added."""
    kinds = st.sampled_from(
        [
            EV_EFI_VARIABLE_DRIVER_CONFIG,
            EV_EFI_VARIABLE_BOOT,
            EV_EFI_ACTION,
            EV_SEPARATOR,
            EV_EVENT_TAG,
            0x800000E0,
        ]
    )
    events = [
        event._replace(type=draw(kinds), data=draw(st.sampled_from([event.data, b"", b"MZ"])))
        if event.pcr == 7 and draw(st.booleans())
        else event
        for event in recorded("direct")
    ]
    good = st.sampled_from([variable_event("SecureBoot", b"\1"), SEPARATOR])
    return events + draw(st.lists(good, max_size=3))


@given(rewritten_without_secure_boot())
def test_D1_no_rewriting_turns_secure_boot_on(events):
    try:
        facts = extract_facts(parsed(events))
    except FormatError as error:
        assert error.code in {
            "secure-boot-ambiguous",
            "boot-log-event-data",
            "signature-database",
        }
    else:
        assert facts.secure_boot is None or facts.secure_boot.value is False


# Data under digests


@pytest.mark.parametrize("name", BOOTS)
def test_D2_each_bit_that_is_under_a_digest_counts(name):
    """All bits but those of what stands around: GRUB's prefixes, name and head of variables.

    PCR 12 is left out: data without its digest there is no forgery, but leaves the lines open.
    """
    for event in recorded(name):
        if not check_event_data(event) or event.pcr == STUB_PCR:
            continue
        first = 0
        if event.type == EV_IPL:
            first = event.data.index(b": ") + 2
        elif event.type == EV_EFI_VARIABLE_BOOT:
            first = 32 + 2 * int.from_bytes(event.data[16:24], "little")
        step = max(1, (len(event.data) - first) // 40)
        for position in range(first, len(event.data), step):
            for bit in (1, 0x80):
                data = bytearray(event.data)
                data[position] ^= bit
                with pytest.raises(FormatError) as refused:
                    check_event_data(
                        Event(event.number, event.pcr, event.type, event.digests, bytes(data))
                    )
                assert refused.value.code == "boot-log-event-data"
