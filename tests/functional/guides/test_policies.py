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
"""Every recipe of the guide to policies does what it says."""

import json
import lzma
import shutil
from pathlib import Path

import pytest

from tests.functional.guides.recipes import Reader, recipes, run_oat
from tests.functional.ima.parts import MeasuredHost, Operator
from tests.lab.backend import Backend
from tests.lab.boots import Boot, launch_dynamically, replay
from tests.lab.measuring import Kernel
from tests.lab.swtpm import SoftwareTpm

ROOT = Path(__file__).resolve().parents[3]
RECIPES = recipes(ROOT / "doc" / "source" / "admin" / "policies.rst")
SHIM = ROOT / "tests" / "data" / "images" / "shimx64.efi.signed.xz"
COMPUTE = {"compute-1": "machine-a", "compute-2": "machine-b"}


@pytest.fixture(scope="module")
def tpms(tmp_path_factory):
    """A TPM for each host, and that of a new main board."""
    folder = tmp_path_factory.mktemp("recipe-tpms")
    made = {
        name: SoftwareTpm(folder / name, folder / "ca") for name in (*COMPUTE, "new-board")
    }
    for software in made.values():
        software.create()
        software.start()
    yield made
    for software in made.values():
        software.stop()


@pytest.fixture(scope="module")
def backend(tmp_path_factory, tpms):
    """The service."""
    folder = tmp_path_factory.mktemp("recipe-ek-ca")
    for path in tpms["compute-1"].ca_certificates:
        shutil.copy(path, folder)
    options = {
        ("attestation", "allow_software_tpm"): True,
        ("attestation", "ek_ca_dir"): str(folder),
        # The end of the old set is far away, so that the guide stays true.
        ("attestation", "expiry_warning"): 10**10,
    }
    with Backend(tmp_path_factory.mktemp("recipe-backend"), options=options) as running:
        yield running


@pytest.fixture
def oat(backend, tmp_path, monkeypatch):
    """The operator at his terminal, in a folder of his own."""
    operator = Operator(backend)
    for name, value in operator.environment.items():
        if name.startswith("OAT_"):
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("CLIFF_FIT_WIDTH", "0")
    monkeypatch.setattr("logging.root.handlers", [])
    monkeypatch.chdir(tmp_path)
    yield operator
    operator.clean()
    for policy in operator.call("GET", "/v1/policies")["policies"]:
        if policy["name"] != "default":
            operator.call("DELETE", f"/v1/policies/{policy['name']}")


class Host(MeasuredHost):
    """A compute host with the name it has in the guide."""

    def __init__(self, backend, software, folder, name):
        self._first = COMPUTE[name]
        super().__init__(backend, software, folder)
        self.name = name

    def boot(self, name="", locality=0):
        """Boot a recording, and start the agent."""
        recorded = Boot(name or self._first)
        self.software.power_cycle(locality=locality)
        replay(recorded, self.software.tcti)
        self.boot_log = recorded.boot_log_path
        self.kernel = Kernel(recorded.ima_log)
        self.write_log()
        self._agent = None

    def round(self):
        """A round of the agent."""
        self._agent = self._agent or self.agent()
        return self._agent.round()


@pytest.fixture
def hosts(backend, tpms, tmp_path, oat):
    """Both hosts of the guide, trusted by the set it begins with."""
    made = {name: Host(backend, tpms[name], tmp_path, name) for name in COMPUTE}
    for host in made.values():
        assert host.round().code == "host-pending"
        oat.approve(host)
        host.round()
    reader("Policies, step by step", tmp_path).follow()
    assert levels(oat) == {"compute-1": "trusted", "compute-2": "trusted"}
    return made


def reader(title, folder):
    return Reader(RECIPES[title], folder)


def levels(oat):
    return {host["host"]: host["level"] for host in oat.call("GET", "/v1/hosts")["hosts"]}


def shown(oat, name="compute-1"):
    return oat.call("GET", f"/v1/hosts/{name}")


def test_every_recipe_has_a_test():
    with_commands = {title for title, blocks in RECIPES.items() if blocks}
    text = Path(__file__).read_text()
    assert {title for title in with_commands if f'"{title}"' not in text} == set()


def test_a_draft_is_seen_before_it_counts(hosts, oat, tmp_path):
    hosts["compute-2"].boot("machine-a-cmdline")
    hosts["compute-2"].round()
    recipe = reader("Seeing what a policy would do", tmp_path)
    text = recipe.follow()
    assert "compute-2 trusted untrusted yes PCR 8" in text
    assert levels(oat) == {"compute-1": "trusted", "compute-2": "trusted"}
    assert "zone=dmz" in recipe.follow()
    assert shown(oat)["policy"] == "strict"
    run_oat("host", "set", "compute-2", "--label", "zone=dmz")
    assert levels(oat) == {"compute-1": "trusted", "compute-2": "untrusted"}
    run_oat("host", "set", "compute-2", "--unset-label", "zone")
    recipe.follow()
    assert recipe.finished()
    assert shown(oat)["policy"] == "default"


def test_secure_boot_only(hosts, oat, tmp_path):
    recipe = reader("Secure Boot only", tmp_path)
    recipe.follow()
    assert recipe.finished()
    hosts["compute-1"].boot("machine-a-loader")
    assert hosts["compute-1"].round().level == "trusted"
    hosts["compute-1"].boot("direct")
    assert hosts["compute-1"].round().code == "secure-boot-off"


def test_a_new_kernel_is_rolled_out_without_a_gap(hosts, oat, tmp_path):
    recipe = reader("Rolling out a new kernel or boot loader", tmp_path)
    recipe.follow()
    hosts["compute-1"].boot("machine-a-loader")
    assert hosts["compute-1"].round().level == "trusted"
    text = recipe.follow()
    assert "on the word of admin: tries kernel 6.1.0-51" in text
    assert "PCR 4 differs: event 34 EV_EFI_BOOT_SERVICES_APPLICATION" in text
    assert hosts["compute-1"].round().level == "trusted"
    assert shown(oat)["findings"] == []
    text = recipe.follow()
    assert "warning: reference set debian-12, which this verdict rests on, ends at" in text
    assert shown(oat)["findings"] == []
    hosts["compute-2"].boot("machine-a-loader")
    assert hosts["compute-2"].round().level == "trusted"
    recipe.follow()
    assert recipe.finished()
    assert levels(oat) == {"compute-1": "trusted", "compute-2": "trusted"}


def test_a_boot_loader_is_known_before_anybody_boots_it(hosts, oat, tmp_path):
    (tmp_path / "shimx64.efi").write_bytes(lzma.decompress(SHIM.read_bytes()))
    recipe = reader("Knowing a boot loader before anybody boots it", tmp_path)
    recipe.follow()
    assert recipe.finished()
    # The kernel and GRUB of the recordings are not here; shim is known, they are not.
    document = {"secure_boot": "required", "requirements": [], "images": ["boot-loader"]}
    answer = oat.call(
        "POST", "/v1/policies/images/check", {"document": document, "hosts": ["compute-1"]}
    )
    (host,) = answer["hosts"]
    unknown = [finding["description"] for finding in host["findings"]]
    assert r"\EFI\BOOT\grubx64.efi" in unknown
    assert not any("BOOTX64" in name for name in unknown)


def test_firmware_is_updated_apart_from_the_system(hosts, oat, tmp_path):
    recipe = reader("Updating firmware", tmp_path)
    assert "compute-2 trusted trusted no" in recipe.follow()
    assert levels(oat) == {"compute-1": "trusted", "compute-2": "trusted"}
    hosts["compute-1"].boot("locality-3", locality=3)
    assert hosts["compute-1"].round().level == "untrusted"
    assert "PCR 0 differs" in recipe.follow()
    assert recipe.finished()
    assert levels(oat) == {"compute-1": "trusted", "compute-2": "trusted"}


def test_a_minimum_of_dbx(hosts, oat, tmp_path):
    recipe = reader("Updating dbx", tmp_path)
    recipe.follow()
    assert recipe.finished()
    assert levels(oat) == {"compute-1": "trusted", "compute-2": "trusted"}
    document = json.loads(json.dumps(oat.call("GET", "/v1/policies/dbx")))
    document["dbx_minimum"].append("cd" * 32)
    answer = oat.call("POST", "/v1/policies/dbx/check", {"document": document})
    assert {host["findings"][0]["code"] for host in answer["hosts"]} == {"dbx-outdated"}


def test_a_dynamic_launch(hosts, oat, tmp_path):
    launch_dynamically(hosts["compute-1"].software, "sinit", "kernel")
    hosts["compute-1"].round()
    recipe = reader("Intel TXT and AMD SKINIT", tmp_path)
    recipe.follow()
    assert recipe.finished()
    assert shown(oat)["level"] == "trusted"
    hosts["compute-1"].boot()
    assert hosts["compute-1"].round().code == "no-dynamic-launch"


def test_files_that_are_used(hosts, oat, tmp_path):
    host = hosts["compute-1"]
    host.run("/usr/bin/login")
    recipe = reader("Files that are used: IMA", tmp_path)
    recipe.follow()
    # The first round of the policy asks for the log.
    host.round()
    host.round()
    text = recipe.follow()
    assert recipe.finished()
    assert "warning: PCR 10:" in text
    assert "compute-1 trusted trusted no" in text
    host.run("/usr/bin/other")
    assert host.round().code == "ima-unknown-file"


def test_a_main_board_is_replaced(hosts, backend, tpms, oat, tmp_path):
    board = Host(backend, tpms["new-board"], tmp_path, "compute-2")
    assert board.round().code == "host-pending"
    found = oat.call("GET", "/v1/hosts")["hosts"]
    (waiting,) = [host for host in found if host["state"] == "pending"]
    recipe = reader("Replacing a main board", tmp_path)
    assert waiting["ek_fingerprint"] in recipe.follow(FINGERPRINT=waiting["ek_fingerprint"])
    assert recipe.finished()
    board.round()
    assert board.round().level == "trusted"
    assert shown(oat, "compute-2")["ek_fingerprint"] == waiting["ek_fingerprint"]


def test_a_bad_day(hosts, oat, tmp_path):
    recipe = reader("On a bad day", tmp_path)
    text = recipe.follow()
    assert recipe.finished()
    assert "compute-1" in text
    assert "disks are being looked at" in text
    assert levels(oat)["compute-1"] == "trusted"
