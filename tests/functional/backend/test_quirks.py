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
"""Boots with the quirks of real firmware, from the TPM to the verdict."""

import pytest

from tests.functional.backend.parts import ComputeHost
from tests.lab.boots import Boot, extend_pcr, ima_entries
from tests.lab.measuring import Kernel
from tests.lab.swtpm import PCR_BANKS, SoftwareTpm

LINE = {
    # GRUB hands its path over with the line, systemd-stub does not.
    "machine-c": r"(\(hd0,gpt1\)/boot/vmlinuz )?root=UUID=[0-9a-f-]+ ro console=ttyS0 .*",
    "uki": r"root=UUID=[0-9a-f-]+ ro console=ttyS0 .*",
}


@pytest.fixture(scope="module")
def known(backend, tpms):
    """A host nobody has asked much of yet; its TPM boots what a test wants."""
    return ComputeHost(backend, tpms[0])


@pytest.fixture
def lenient(operator):
    """Sets the policy: Secure Boot may be off."""

    def put(**fields):
        document = {
            "name": "default",
            "secure_boot": "optional",
            "requirements": [{"kind": "platform", "pcrs": [0, 2, 4, 7]}],
            **fields,
        }
        operator.call("PUT", "/v1/policies/default", document)

    return put


def approve(host, operator):
    if host.fingerprint is None:
        assert host.enrol() == "pending"
        operator.approve(host)


@pytest.mark.parametrize("name", LINE)
def test_D7_option_roms_a_hundred_events_and_a_unified_kernel(known, operator, lenient, name):
    lenient(kernel_command_line=LINE[name])
    approve(known, operator)
    known.boot(name)
    assert known.round().level == "untrusted"
    operator.trust(known)
    assert known.round().level == "trusted"
    lenient(kernel_command_line="quiet")
    outcome = known.round()
    assert (outcome.level, outcome.code) == ("untrusted", "kernel-command-line")
    # As firmware without Secure Boot says.
    lenient(secure_boot="required", requirements=[])
    assert known.round().code == "secure-boot-off"


@pytest.fixture(scope="module")
def one_bank(tmp_path_factory, ca_dir, tpms):
    """Makes TPMs with only this bank allocated; the authority is that of the others."""
    made = []

    def make(bank):
        software = SoftwareTpm(tmp_path_factory.mktemp("one") / bank, ca_dir, banks=(bank,))
        made.append(software)
        software.create()
        software.start()
        return software

    yield make
    for software in made:
        software.stop()


def test_D7_a_tpm_with_only_the_sha384_bank(backend, operator, lenient, one_bank):
    lenient()
    host = ComputeHost(backend, one_bank("sha384"), boot="sha384")
    approve(host, operator)
    host.round()
    name = operator.trust(host)
    assert host.round().level == "trusted"
    shown = operator.call("GET", f"/v1/reference-sets/{name}")
    assert list(shown["pcrs"]) == ["sha384"]


def test_A2_D7_a_log_in_the_sha1_format_parses_and_proves_too_little(
    backend, operator, lenient, one_bank
):
    lenient()
    host = ComputeHost(backend, one_bank("sha1"), boot="sha1-log")
    approve(host, operator)
    outcome = host.round()
    assert (outcome.level, outcome.code) == ("untrusted", "quote-banks")
    assert "no PCR bank stronger than SHA-1" in outcome.message


def test_D9_a_list_of_a_kernel_that_kexec_started(known, operator, lenient):
    """The boot log is that of the first boot; only IMA gives the second kernel away."""
    first, second = Boot("uki"), Boot("kexec")
    lenient(ima={"mode": "enforce", "exclude": [".*"]})
    approve(known, operator)
    known.boot("uki")
    ima_round(known, first)
    operator.trust(known)
    assert ima_round(known, first) == ("trusted", "")
    known.boot("uki")
    kernel = Kernel()
    for entry in ima_entries(second.ima_log):
        extend_pcr(known.software.tcti, 10, kernel.extends(entry.data, PCR_BANKS))
    assert ima_round(known, second) == ("untrusted", "ima-log-mismatch")
    lenient()
    assert known.round().level == "trusted"


def ima_round(host, boot):
    """A round of an agent that finds the IMA list of this boot."""
    outcome = host.with_settings(ima_log=boot.folder / "ima_log.bin").round()
    return outcome.level, outcome.code
