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
"""The README and the installation guide, command by command, on a machine of their own.

What this test adds is what only a reader has: names and addresses, a TPM and its vendor, users of
other software. What needs more than a Debian machine is named in ``ELSEWHERE``.
"""

import json
import re
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from tests.functional.guides import machine as machines
from tests.functional.guides.machine import REPOSITORY
from tests.lab.boots import Boot, replay
from tests.lab.guide import blocks
from tests.lab.swtpm import SoftwareTpm
from tests.lab.wait import wait_for

GUIDES = {
    "install": REPOSITORY / "doc" / "source" / "install" / "index.rst",
    "README": REPOSITORY / "README.rst",
}
#: Commands of other distributions, of a whole cloud, and the README's own two.
ELSEWHERE = ("dnf ", "zypper ", "openstack ", "tools/demo", "systemctl restart nova-scheduler")
ONLINE = ("apt-get ", "pip install")
FINGERPRINT = "FINGERPRINT"
REFERENCE = "oat reference create"
SECONDS = 60

pytestmark = [pytest.mark.network, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def folder():
    """A folder other users may enter, which those of pytest are not."""
    with tempfile.TemporaryDirectory(prefix="oat-guides-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.fixture(scope="module")
def tpm(folder):
    """A TPM that has seen a known boot, and that any user may use."""
    with SoftwareTpm(folder / "tpm", folder / "ca") as tpm:
        replay(Boot("machine-a"), tpm.tcti)
        socket = Path(tpm.tcti.removeprefix("swtpm:path="))
        for path in (socket, tpm.control_socket):
            path.chmod(0o666)
        socket.parent.chmod(0o755)
        yield tpm


@pytest.fixture(scope="module")
def machine(folder, tpm):
    """The machine, as it is before the reader begins."""
    if not machines.possible():
        pytest.skip("needs root and a mount namespace, which there is not in a chroot")
    boot = Boot("machine-a")
    for source in (boot.boot_log_path, boot.boot_log_path.with_name("ima_log.bin")):
        shutil.copy(source, folder)
    with machines.machine(folder) as made:
        made.run("echo 127.0.0.1 attest.example.org >> /etc/hosts")
        made.run("groupadd --force nova; id nova || useradd --system --gid nova nova")
        made.run("groupadd --force tss")
        made.run("python3 -m venv /opt/nova")
        for name, path in zip(
            ("vendor-root.pem", "vendor-issuer.pem"), tpm.ca_certificates, strict=True
        ):
            shutil.copy(path, folder / name)
            made.run(f"cp {folder / name} {REPOSITORY / name}")
        yield made


class Reader:
    """Whoever follows the guide, and knows what only he can know."""

    def __init__(self, machine, tpm):
        self.machine = machine
        self.ran = []
        self.left_out = []
        self._additions = {
            # Only software TPMs can be had here.
            "/etc/oat/oat.conf": "allow_software_tpm = true\ninterval = 1\n",
            "/etc/oat/oat-agent.conf": (
                f"host = compute-1\ntcti = {tpm.tcti}\nboot_log = {machine.folder}/boot_log.bin\n"
                f"ima_log = {machine.folder}/ima_log.bin\n"
            ),
        }

    def follow(self, block):
        """Do what a block says."""
        if block.language == "ini":
            self.machine.write(block.file, block.script + self._additions.get(block.file, ""))
            return
        script = block.script
        if any(word in script for word in ELSEWHERE):
            self.left_out.append(block)
            return
        if "ca.pem" in script and "install" in script:
            self.machine.run("cp /var/lib/oat/ca.pem /var/lib/oat/scheduler.token .")
        for path, addition in self._additions.items():
            script = script.replace(f"cat > {path} <<END\n", f"cat > {path} <<END\n{{{path}}}")
            script = self._with_addition(script, path, addition)
        self.ran.append(block)
        for part in _parts(script):
            self._type(part)

    def _type(self, part):
        if FINGERPRINT in part:
            self.await_host(lambda host: host["state"] == "pending")
            (host,) = self.hosts()
            part = re.sub(rf"{FINGERPRINT}\w*", host["ek_fingerprint"], part)
        if REFERENCE in part:
            self.await_host(lambda host: host["level"] == "untrusted")
        self.machine.run(part, online=any(word in part for word in ONLINE))
        if REFERENCE in part:
            self.await_host(lambda host: host["level"] == "trusted")

    @staticmethod
    def _with_addition(script, path, addition):
        """A configuration file of a here-document, with the addition at its end."""
        head, mark, body = script.partition(f"{{{path}}}")
        if not mark:
            return script
        content, end, rest = body.partition("END\n")
        return f"{head}{content}{addition}{end}{rest}"

    def hosts(self):
        return json.loads(
            self.machine.run("/opt/oat/bin/oat host list --long -f json", noisy=False)
        )

    def await_host(self, condition):
        """Wait until the only host is as it should be."""
        wait_for(
            lambda: any(condition(host) for host in self.hosts()),
            SECONDS,
            "the host of the guide",
            poll_seconds=0.5,
        )


@pytest.mark.parametrize("name", GUIDES)
def test_a_reader_gets_from_nothing_to_a_trusted_host(name, machine, tpm):
    reader = Reader(machine, tpm)
    machine.run("rm -rf /etc/oat /var/lib/oat /etc/nova; unset OAT_ENDPOINT OAT_TOKEN OAT_CACERT")
    try:
        for block in blocks(GUIDES[name]):
            try:
                reader.follow(block)
            except AssertionError as error:
                raise AssertionError(f"{block.where}: {error}") from error
        (host,) = reader.hosts()
        assert (host["host"], host["level"]) == ("compute-1", "trusted")
        machine.write("/etc/nova/check.py", SCHEDULER)
        passed = machine.run(f"{sys.executable} /etc/nova/check.py", noisy=False)
        assert passed.strip() == "['compute-1']"
        assert len(reader.ran) > len(reader.left_out)
    finally:
        machine.stop()


def _parts(script):
    """The script in parts: by themselves what needs the network, and what has to be waited for."""
    part = ""
    for line in script.splitlines(keepends=True):
        if any(word in line for word in (*ONLINE, FINGERPRINT, REFERENCE)):
            yield part
            yield line
            part = ""
        else:
            part += line
    yield part


#: What nova-scheduler does with the nova.conf of the guide: the hosts of two that pass.
SCHEDULER = """
import nova.conf
from nova import objects
from nova.scheduler.host_manager import HostState
nova.conf.CONF(["--config-file", "/etc/nova/nova.conf"], project="nova")
objects.register_all()
from oat_trusted_filter.scheduler.trusted_filter import TrustedFilter
assert nova.conf.CONF.filter_scheduler.enabled_filters[-1] == "TrustedFilter"
name = f"{TrustedFilter.__module__}.{TrustedFilter.__name__}"
assert name in nova.conf.CONF.filter_scheduler.available_filters
flavor = objects.Flavor(name="trusted.small", extra_specs={"trust:trusted_host": "trusted"})
spec = objects.RequestSpec(flavor=flavor)
hosts = [HostState(node, node, None) for node in ("compute-1", "compute-2")]
print([host.nodename for host in TrustedFilter().filter_all(hosts, spec)])
"""
