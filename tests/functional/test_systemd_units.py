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
"""The units under etc/, by systemd's own checkers."""

import configparser
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab.backend import Backend
from tests.lab.boots import Boot
from tests.lab.swtpm import SoftwareTpm

REPOSITORY = Path(__file__).resolve().parents[2]
ETC = REPOSITORY / "etc"
UNITS = sorted(path.name for path in (ETC / "systemd").glob("*.service"))
AGENT = "oat-agent.service"
SYSTEM_UNITS = Path("/usr/lib/systemd/system")

#: Highest exposure (0 to 10) by "systemd-analyze security". What is left are the network, Unix
#: sockets, and for the agent the TPM and the capability to read the logs of root.
HIGHEST_EXPOSURE = {
    AGENT: 1.7,
    "oat-attestation-api.service": 1.1,
    "oat-enforcer.service": 1.1,
}
_SECONDS = 60


class Unit:
    """A unit file; options may be given several times."""

    def __init__(self, name):
        self.name = name
        self._values = {}
        section = ""
        for line in (ETC / "systemd" / name).read_text().splitlines():
            if line.startswith("["):
                section = line.strip("[]")
            elif line and not line.startswith("#"):
                option, value = line.split("=", 1)
                self._values.setdefault((section, option), []).append(value)

    def all(self, option, section="Service"):
        """All values in order."""
        return self._values.get((section, option), [])

    def one(self, option, section="Service"):
        """The only value."""
        (value,) = self.all(option, section)
        return value

    def words(self, option, section="Service"):
        """All words of all values."""
        return [word for value in self.all(option, section) for word in value.split()]


@pytest.fixture(scope="module")
def units():
    return {name: Unit(name) for name in UNITS}


def _tool(name):
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed (Debian: systemd)")
    return path


def _run(*command):
    return subprocess.run(
        command,
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
    )


@pytest.fixture
def machine(tmp_path):
    """The root of a machine that has systemd's own units, ours, and their programs."""
    if not SYSTEM_UNITS.is_dir():
        pytest.skip("the units of systemd itself are not there (Debian: systemd)")
    root = tmp_path / "machine"
    shutil.copytree(SYSTEM_UNITS, root / "usr/lib/systemd/system", symlinks=True)
    ours = root / "etc/systemd/system"
    ours.mkdir(parents=True)
    for name in UNITS:
        shutil.copy(ETC / "systemd" / name, ours)
        for option in ("ExecStart", "ExecReload"):
            for command in Unit(name).all(option):
                program = root / command.split()[0].removeprefix("/")
                program.parent.mkdir(parents=True, exist_ok=True)
                program.touch(0o755)
    return root


def _verify(machine, name):
    return _run(_tool("systemd-analyze"), "verify", f"--root={machine}", name)


@pytest.mark.parametrize("name", UNITS)
def test_systemd_has_nothing_to_say_about_a_unit(name, machine):
    verified = _verify(machine, name)
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("NoNewPrivileges=", "NoNewPriviliges="),
        ("SystemCallFilter=@system-service", "SystemCallFilter=@system-servise"),
        ("/opt/oat/bin/oat-agent", "/opt/oat/bin/oat-agend"),
    ],
)
def test_systemd_would_say_so_if_there_were_a_mistake(good, bad, machine):
    unit = machine / "etc/systemd/system" / AGENT
    assert good in unit.read_text()
    unit.write_text(unit.read_text().replace(good, bad))
    assert _verify(machine, AGENT).stderr


@pytest.mark.parametrize("name", UNITS)
def test_exposure_is_low(name):
    judged = _run(
        _tool("systemd-analyze"),
        "security",
        "--offline=yes",
        "--no-pager",
        f"--threshold={HIGHEST_EXPOSURE[name] * 10:.0f}",
        str(ETC / "systemd" / name),
    )
    assert judged.returncode == 0, judged.stdout
    assert f"Overall exposure level for {name}" in judged.stdout


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_starts_a_program_of_ours_with_a_file_that_has_a_sample(name, units):
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    programs = {
        line.split("=")[0].strip() for line in setup["entry_points"]["console_scripts"].splitlines()
    }
    program, switch, config = units[name].words("ExecStart")
    assert Path(program).parent == Path("/opt/oat/bin")
    assert Path(program).name in programs
    assert switch == "--config-file"
    assert (ETC / "oat" / Path(config).name).is_file()


def test_each_service_has_a_user_of_its_own(units):
    users = [unit.one("User") for unit in units.values()]
    assert len(set(users)) == len(users) == 3
    assert "root" not in users


@pytest.mark.parametrize("name", UNITS)
def test_no_service_gains_privileges_or_writes_outside_its_state(name, units):
    unit = units[name]
    assert unit.one("NoNewPrivileges") == "yes"
    assert unit.one("ProtectSystem") == "strict"
    assert unit.one("ProtectHome") == "yes"
    assert not unit.all("ReadWritePaths")
    if name != AGENT:
        assert unit.one("CapabilityBoundingSet") == ""
        assert not unit.all("AmbientCapabilities")
        assert not unit.all("DeviceAllow")


def test_the_agent_has_the_tpm_and_no_other_device(units):
    agent = units[AGENT]
    assert agent.one("DevicePolicy") == "closed"
    assert agent.all("DeviceAllow") == ["/dev/tpmrm0 rw"]
    assert agent.all("SupplementaryGroups") == ["tss"]
    # It would add the clock's device.
    assert not agent.all("ProtectClock")


def test_the_agent_may_read_the_logs_of_root_and_nothing_more(units):
    agent = units[AGENT]
    assert agent.all("CapabilityBoundingSet") == ["CAP_DAC_READ_SEARCH"]
    assert agent.all("AmbientCapabilities") == ["CAP_DAC_READ_SEARCH"]
    assert "-/etc/shadow" in agent.words("InaccessiblePaths")
    # By a file handle the capability would reach what is out of sight; @privileged has that call.
    assert "@privileged" in agent.all("SystemCallFilter")[-1].removeprefix("~").split()


def test_a_host_that_has_booted_attests_before_nova_compute_starts(units):
    agent = units[AGENT]
    assert set(agent.words("Before", "Unit")) == {
        "nova-compute.service",
        "openstack-nova-compute.service",
    }
    # Order only: a broken agent is no reason to stop servers that ask for no trust.
    for option in ("Requires", "BindsTo", "RequiredBy"):
        assert not agent.all(option, "Unit") + agent.all(option, "Install")


@pytest.fixture
def agent_options(tmp_path):
    """What the agent needs to start: a TPM and a boot log."""
    with SoftwareTpm(tmp_path / "tpm", tmp_path / "ca") as software:
        boot_log = Boot("machine-a").boot_log_path
        yield f"[agent]\nhost = host-1\ntcti = {software.tcti}\nboot_log = {boot_log}\n"


@pytest.fixture
def enforcer_options(tmp_path):
    """What the enforcer needs to start: a token, and where placement would be."""
    (tmp_path / "token").write_text("token\n")
    return (
        f"[enforcer]\ntoken_file = {tmp_path / 'token'}\n"
        "[placement]\nauth_type = none\nendpoint_override = http://127.0.0.1:9\n"
    )


@pytest.fixture
def api_options(tmp_path):
    """What the backend needs to start: a state folder that is set up, and a port."""
    # One worker: it is ready as soon as any answers, and a second one may still be starting.
    backend = Backend(tmp_path / "backend", {("api", "workers"): 1})
    backend.init()
    return backend.config_file.read_text()


@pytest.mark.parametrize(
    ("program", "unit"),
    [
        ("agent", AGENT),
        ("api", "oat-attestation-api.service"),
        ("enforcer", "oat-enforcer.service"),
    ],
)
def test_a_service_tells_systemd_when_it_is_ready_and_when_it_stops(
    program, unit, units, tmp_path, request
):
    assert units[unit].one("Type") == "notify"
    config = tmp_path / f"{program}.conf"
    config.write_text(request.getfixturevalue(f"{program}_options"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(_SECONDS)
        with (
            (tmp_path / "log").open("wb") as log,
            subprocess.Popen(
                [sys.executable, "-m", f"oat_trusted_filter.cmd.{program}",
                 "--config-file", str(config)],
                env=os.environ | {"NOTIFY_SOCKET": str(tmp_path / "notify")},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            ) as service,
        ):  # fmt: skip
            try:
                assert _told(manager, service) == "READY=1"
                service.send_signal(signal.SIGTERM)
                assert _told(manager, service) == "STOPPING=1"
                assert service.wait(_SECONDS) == 0
            finally:
                service.kill()


def _told(manager, service):
    """The state in the next message; systemd ignores those that are not of the main process."""
    message, ancillary, _, _ = manager.recvmsg(4096, socket.CMSG_SPACE(struct.calcsize("3i")))
    ((_, _, credentials),) = ancillary
    assert struct.unpack("3i", credentials)[0] == service.pid
    return message.decode().split("\n")[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to other users")
def test_users_folders_and_modes_on_a_new_machine(tmp_path, units):
    etc = tmp_path / "etc"
    (etc / "oat").mkdir(parents=True)
    for name in ("oat.conf", "oat-agent.conf", "enforcer.token"):
        (etc / "oat" / name).touch()
    for _ in range(2):
        made = _run(_tool("systemd-sysusers"), f"--root={tmp_path}", ETC / "sysusers.d/oat.conf")
        assert made.returncode == 0, made.stderr
        made = _run(
            _tool("systemd-tmpfiles"),
            f"--root={tmp_path}",
            "--create",
            ETC / "tmpfiles.d/oat.conf",
        )
        assert made.returncode == 0, made.stderr
    users = _table(etc / "passwd")
    groups = _table(etc / "group")
    for unit in units.values():
        assert unit.one("User") in users
        assert unit.one("Group") in groups
    assert groups["tss"][3].split(",") == ["oat-agent"]

    def owner(path):
        status = (tmp_path / path).stat()
        return status.st_uid, status.st_gid, f"{status.st_mode & 0o7777:o}"

    assert owner("etc/oat/oat.conf") == (0, int(groups["oat"][2]), "640")
    assert owner("etc/oat/oat-agent.conf") == (0, int(groups["oat-agent"][2]), "640")
    assert owner("etc/oat/enforcer.token") == (0, int(groups["oat-enforcer"][2]), "640")
    assert owner("etc/oat/ek-ca") == (0, 0, "755")
    assert owner("var/lib/oat") == (int(users["oat"][2]), int(groups["oat"][2]), "750")


def _table(path):
    return {line.split(":")[0]: line.split(":") for line in path.read_text().splitlines()}
