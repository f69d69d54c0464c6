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
"""The recorded boots: what they must be for the other tests and the demo to mean anything."""

import re
import subprocess
from pathlib import Path

import pytest

from oat_trusted_filter.tcg import bootlog
from oat_trusted_filter.tcg.events import event_type_name
from tests.lab.boots import (
    BOOTS,
    BOOTS_DIR,
    DERIVED_BOOTS,
    KEXEC_BOOT,
    Boot,
    ReplayError,
    ima_entries,
    power_on,
    read_pcrs,
    replay,
)
from tests.lab.derived import derive
from tests.lab.swtpm import SoftwareTpm

BANKS = ("sha1", "sha256", "sha384")
RECORDED = (*BOOTS, KEXEC_BOOT)
# What the default policy asks of identical machines.
PLATFORM = (0, 2, 4, 7)
# What the firmware and the boot loaders extend; the operating system extends the others.
FIRMWARE_PCRS = (*range(10), 14)


@pytest.fixture(scope="module")
def tpm(tmp_path_factory):
    """A running software TPM."""
    folder = tmp_path_factory.mktemp("boots")
    with SoftwareTpm(folder / "tpm", folder / "ca") as software_tpm:
        yield software_tpm


def differing(one: Boot, other: Boot, bank: str) -> set[int]:
    return {pcr for pcr in range(24) if one.pcrs[bank][pcr] != other.pcrs[bank][pcr]}


def outline(boot: Boot) -> list[tuple[int, int]]:
    return [(event.pcr, event.type) for event in bootlog.parse_boot_log(boot.boot_log).events]


@pytest.mark.parametrize("name", [*BOOTS, "h-crtm", "locality-3"])
def test_replay_gives_a_fresh_tpm_the_recorded_pcrs(tpm, name):
    boot = Boot(name)

    power_on(boot, tpm)

    found = read_pcrs(tpm.tcti, BANKS)
    assert {bank: found[bank] for bank in boot.pcrs} == boot.pcrs


@pytest.mark.parametrize("name", [*RECORDED, *DERIVED_BOOTS])
def test_boot_log_alone_explains_the_pcrs_of_the_firmware(name):
    boot = Boot(name)
    log = bootlog.parse_boot_log(boot.boot_log)

    assert set(log.banks) >= set(boot.pcrs)
    for bank in boot.pcrs:
        values = bootlog.replay(log, bank)
        assert {pcr: values[pcr] for pcr in FIRMWARE_PCRS} == {
            pcr: boot.pcrs[bank][pcr] for pcr in FIRMWARE_PCRS
        }


@pytest.mark.parametrize("name", DERIVED_BOOTS)
def test_deriving_anew_gives_the_same_boot(name, tmp_path):
    derive(name, tmp_path)

    for file in ("boot_log.bin", "ima_log.bin", "pcrs.json", "provenance.json"):
        assert (tmp_path / name / file).read_bytes() == (BOOTS_DIR / name / file).read_bytes()


def test_D6_D7_the_start_of_pcr_0_is_told_by_the_log():
    logs = {name: bootlog.parse_boot_log(Boot(name).boot_log) for name in DERIVED_BOOTS}

    assert {name: (log.startup_locality, log.h_crtm) for name, log in logs.items()} == {
        "h-crtm": (4, True),
        "locality-3": (3, False),
        "sha1-log": (0, False),
    }
    assert logs["sha1-log"].banks == ("sha1",)


def test_replay_refuses_a_tpm_that_started_otherwise(tpm):
    tpm.power_cycle()

    with pytest.raises(ReplayError, match="power-cycle"):
        replay(Boot("locality-3"), tpm.tcti)


def test_D7_option_roms_and_a_hundred_events():
    log = bootlog.parse_boot_log(Boot("machine-c").boot_log)
    drivers = [
        event
        for event in log.events
        if event_type_name(event.type) == "EV_EFI_BOOT_SERVICES_DRIVER" and event.pcr == 2
    ]

    assert len(log.events) > 100
    assert len(drivers) == 2


def test_replay_refuses_a_tpm_that_booted_already(tpm):
    tpm.power_cycle()
    replay(Boot("machine-a"), tpm.tcti)

    with pytest.raises(ReplayError, match="power-cycle"):
        replay(Boot("machine-a"), tpm.tcti)


@pytest.mark.parametrize("bank", BANKS)
def test_identical_machines_agree_on_the_platform_and_on_little_else(bank):
    found = differing(Boot("machine-a"), Boot("machine-b"), bank)

    assert found.isdisjoint(PLATFORM)
    # Boot entries with the MAC, disk GUIDs, root UUID on the command line, initrd, IMA.
    assert found == {1, 5, 8, 9, 10}


@pytest.mark.parametrize("bank", BANKS)
def test_command_line_shows_in_pcr_8_and_not_in_the_platform(bank):
    found = differing(Boot("machine-a"), Boot("machine-a-cmdline"), bank)

    assert 8 in found
    assert found.isdisjoint(PLATFORM)


@pytest.mark.parametrize("bank", BANKS)
def test_boot_loader_shows_in_pcr_4_alone_of_the_platform(bank):
    found = differing(Boot("machine-a"), Boot("machine-a-loader"), bank)

    assert found & set(PLATFORM) == {4}


def test_direct_boot_ran_without_secure_boot():
    direct, secure = Boot("direct"), Boot("machine-a")

    assert not direct.provenance["secure_boot"]
    assert secure.provenance["secure_boot"]
    assert differing(direct, secure, "sha256") >= {4, 7}


@pytest.mark.parametrize("name", BOOTS)
def test_ima_log_starts_with_the_boot_aggregate_and_names_the_first_program(name):
    entries = list(ima_entries(Boot(name).ima_log))

    assert b"boot_aggregate\0" in entries[0].data
    assert any(b"/init\0" in entry.data for entry in entries)
    assert {entry.pcr for entry in entries} == {10}


@pytest.mark.parametrize("name", RECORDED)
def test_provenance_is_told_and_names_no_machine_path(name):
    boot = Boot(name)
    text = (boot.folder / "provenance.json").read_text()

    assert boot.provenance["name"] == name
    assert boot.provenance["command"] == f"tools/record-boot {name}"
    assert boot.provenance["shows"]
    assert "ovmf" in boot.provenance["packages"]
    assert not re.search(r'[="]/(home|tmp|root|work|usr|var)\b', text)


def test_every_recording_is_listed():
    assert {path.name for path in BOOTS_DIR.iterdir() if path.is_dir()} == {
        *RECORDED,
        *DERIVED_BOOTS,
    }


@pytest.fixture(scope="module")
def recorded_anew(tmp_path_factory):
    """A folder with all boots recorded just now."""
    folder = tmp_path_factory.mktemp("anew")
    tool = Path(__file__).resolve().parents[2] / "tools" / "record-boot"
    subprocess.run([tool, "--out", folder], check=True)
    return folder


@pytest.mark.record
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", BOOTS)
def test_recording_anew_gives_the_same_boot(recorded_anew, name, tpm):
    kept, anew = Boot(name), Boot(name, recorded_anew)
    power_on(anew, tpm)

    found = read_pcrs(tpm.tcti, BANKS)
    assert {bank: found[bank] for bank in anew.pcrs} == anew.pcrs
    if kept.provenance["packages"] == anew.provenance["packages"]:
        assert anew.provenance["files_sha256"] == kept.provenance["files_sha256"]
        assert anew.pcrs == kept.pcrs
    else:
        # Newer packages measure other things, but in the same order.
        assert outline(anew) == outline(kept)
