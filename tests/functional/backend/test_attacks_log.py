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
"""Group D of the attacks over HTTPS: boot logs rewritten by whoever controls the host."""

import random

import pytest

from oat_trusted_filter.backend.store.tables import hosts as hosts_table
from oat_trusted_filter.tcg.bootlog import EV_NO_ACTION, Event
from oat_trusted_filter.tcg.events import (
    EV_EFI_ACTION,
    EV_EFI_PLATFORM_FIRMWARE_BLOB,
    EV_EFI_VARIABLE_AUTHORITY,
    EV_SEPARATOR,
)
from tests.functional.backend.wire import Wire
from tests.unit.tcg.logs import changed, encode, measured, recorded
from tests.unit.tcg.test_facts import SECURE_BOOT, SEPARATOR, secure_boot, separator

#: Only the state of Secure Boot counts, so that nothing else can refuse what widens trust in it.
SECURE_BOOT_ONLY = {"name": "default", "secure_boot": "required", "requirements": []}
AUTHORITY = next(event for event in recorded() if event.type == EV_EFI_VARIABLE_AUTHORITY)
DEBUGGER = measured(7, EV_EFI_ACTION, b"UEFI Debug Mode")


@pytest.fixture(scope="module")
def wire(backend):
    made = Wire(backend)
    made.operate("PUT", "/v1/policies/default", SECURE_BOOT_ONLY)
    yield made
    made.store.close()


@pytest.fixture(scope="module")
def soft(wire):
    """A host whose TPM has any PCRs it is told, trusted because Secure Boot is on."""
    return wire.approved_host("soft")


@pytest.fixture
def host(soft):
    """It has booted well."""
    soft.boot("machine-a")
    assert soft.attest() == "trusted"
    return soft


def outcome(host, events):
    """What comes of these events, with PCRs they lead to: the codes of the findings."""
    host.log_is(encode(events))
    return answered(host)


def answered(host):
    """The codes, of a refusal or of findings; whatever it is, the host is not trusted."""
    answer = host.submit()
    assert host.place.show(host)["level"] == "untrusted", answer.text
    if answer.status_code == 422:
        assert answer.json["level"] == "untrusted"
        return [answer.json["code"]]
    assert answer.status_code == 200, answer.text
    return [finding["code"] for finding in answer.json["findings"]]


def at(events, number, *inserted):
    """The events with others in front of this one."""
    return [*events[: number - 1], *inserted, *events[number - 1 :]]


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (EV_EFI_PLATFORM_FIRMWARE_BLOB, bytes(16)),
        (EV_EFI_ACTION, b""),
        (EV_NO_ACTION, b""),
        (EV_SEPARATOR, bytes(4)),
    ],
)
def test_D1_the_real_state_hidden_behind_another_type(host, kind, data):
    """Booted without Secure Boot; then PCR 7 is extended with all that a good boot would show."""
    real = recorded("machine-c")
    good = [event for event in recorded() if event.pcr == 7]
    host.log_is(encode([*real, *good]))
    hidden = changed(real, SECURE_BOOT, type=kind, data=data)
    host.boot_log = encode([*hidden, *good])
    assert answered(host)[0] in (
        "secure-boot-ambiguous", "boot-log-event-data", "boot-log-mismatch",
    )  # fmt: skip
    # Also with the separator hidden that came before.
    host.boot_log = encode(
        [*changed(hidden, SEPARATOR, type=EV_EFI_PLATFORM_FIRMWARE_BLOB, data=b""), *good]
    )
    assert answered(host)[0] in (
        "secure-boot-ambiguous", "boot-log-event-data", "boot-log-mismatch",
    )  # fmt: skip


def test_D1_a_debugger_hidden_behind_another_type(host):
    hidden = DEBUGGER._replace(type=EV_EFI_PLATFORM_FIRMWARE_BLOB, data=bytes(16))
    assert "uefi-debugger" in outcome(host, [*recorded(), hidden])


@pytest.mark.parametrize("number", [1, SECURE_BOOT, 7, SEPARATOR, 40])
def test_D2_data_that_was_not_measured(host, number):
    event = recorded()[number - 1]
    data = event.data[:-1] + bytes([event.data[-1] ^ 1])
    host.boot_log = encode(changed(recorded(), number, data=data))
    assert answered(host)[0] in ("boot-log-event-data", "secure-boot-ambiguous")


def states():
    real = recorded()
    on, off = secure_boot(b"\1"), secure_boot(b"\0")
    return {
        "twice": at(real, SECURE_BOOT, on),
        "off-and-on": at(real, SECURE_BOOT, off),
        "after-the-separator": [*real, on],
        "length-0": changed(real, SECURE_BOOT, **parts(secure_boot(b""))),
        "value-2": changed(real, SECURE_BOOT, **parts(secure_boot(b"\2"))),
        "two-bytes": changed(real, SECURE_BOOT, **parts(secure_boot(b"\1\0"))),
        "two-separators": at(real, SEPARATOR, separator()),
        "no-separator": [event for event in real if event.number != SEPARATOR],
    }


def parts(event):
    return {"data": event.data, "digests": event.digests}


@pytest.mark.parametrize("name", states())
def test_D3_a_state_of_secure_boot_that_cannot_be_told(host, name):
    assert outcome(host, states()[name]) == ["secure-boot-ambiguous"]


def test_D3_off_without_authority_or_with_a_debugger(host):
    real = recorded()
    off = changed(real, SECURE_BOOT, **parts(secure_boot(b"\0")))
    assert outcome(host, off) == ["secure-boot-off"]
    nobody = [event for event in real if event.type != EV_EFI_VARIABLE_AUTHORITY]
    assert outcome(host, nobody) == ["secure-boot-authority"]
    assert outcome(host, at(real, SECURE_BOOT, DEBUGGER)) == ["uefi-debugger"]


def locality(number):
    digests = {bank: bytes(len(digest)) for bank, digest in AUTHORITY.digests.items()}
    return Event(0, 0, EV_NO_ACTION, digests, b"StartupLocality\0" + bytes([number]))


@pytest.mark.parametrize(
    ("events", "code"),
    [
        ([locality(3), *recorded()], "boot-log-mismatch"),
        ([locality(4), *recorded()], "boot-log-mismatch"),
        ([*recorded(), locality(3)], "boot-log-mismatch"),
        ([locality(0), locality(0), *recorded()], "boot-log-startup-locality"),
    ],
    ids=["3", "4", "late", "twice"],
)
def test_D6_a_locality_that_was_not_the_real_one(host, events, code):
    host.boot_log = encode(events)
    assert answered(host) == [code]


def test_D6_the_real_locality_left_out(host):
    host.log_is(encode([locality(3), *recorded()]))
    assert host.attest() == "trusted"
    host.boot_log = encode(recorded())
    assert answered(host) == ["boot-log-mismatch"]


def test_D8_logs_with_a_few_bytes_changed(host):
    """Whatever comes of it is said in one answer, and the next one is as good as ever."""
    chance = random.Random(8)
    good = host.boot_log
    for _ in range(40):
        data = bytearray(good)
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        host.boot_log = bytes(data)
        answer = host.submit()
        assert answer.status_code in (200, 422), answer.text
        if answer.status_code == 422:
            assert answer.json["code"].startswith(("boot-log", "secure-boot", "signature-d"))
    host.boot_log = good
    assert host.attest() == "trusted"


def test_E1_a_fault_of_the_verifier_over_https(host, wire):
    """What is known of the host cannot be read, which nobody has foreseen."""

    def write(ak_public):
        wire.store.write(
            lambda connection: connection.execute(
                hosts_table.update()
                .where(hosts_table.c.host == host.name)
                .values(ak_public=ak_public)
            )
        )

    write(b"\0")
    answer = host.submit()
    assert (answer.status_code, answer.json["code"]) == (500, "verifier-error")
    assert "Traceback" not in answer.text
    write(host.key.public)
    assert host.attest() == "trusted"
