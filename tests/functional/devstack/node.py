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
"""A node on which devstack's scripts are played to the plugin."""

import getpass
import os
import shlex
import subprocess
import sys
from pathlib import Path

from oslo_config import cfg

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[2]
NAME = "node-1"
COMMANDS = ("answers", "hostname", "openstack", "record", "sudo", "systemctl")
#: Programs of the project, unless the real ones are used.
PROGRAMS = ("oat", "oat-agent", "oat-manage")
CONTROL = "key,mysql,placement-api,n-api,n-sch,n-cond,n-cpu,g-api"
COMPUTE = "n-cpu,neutron-agent"
_SECONDS = 300


class Played:
    """What one script did: its exit status, its output, and the calls in their order."""

    def __init__(self, completed, calls):
        self.status = completed.returncode
        self.output = completed.stdout + completed.stderr
        self.calls = calls

    @property
    def services(self):
        """The services that were enabled in the end."""
        return self.only("ENABLED_SERVICES")[0][0].split(",")

    def only(self, *names):
        """The arguments of all calls of these functions or commands."""
        return [call[1:] for call in self.calls if call[0] in names]

    def named(self, *names):
        """The calls of these functions or commands, whole."""
        return [call for call in self.calls if call[0] in names]

    def position(self, *call):
        """When a call that begins with these words was made; it has to be made once."""
        (found,) = [
            number for number, made in enumerate(self.calls) if made[: len(call)] == list(call)
        ]
        return found

    def during(self, *phase):
        """The calls of one phase."""
        begin = self.position("run_phase", *phase)
        later = [
            number
            for number, call in enumerate(self.calls)
            if number > begin and call[0] in ("run_phase", "ENABLED_SERVICES")
        ]
        return self.calls[begin + 1 : later[0]]


class Node:
    """One node.

    :param folder: where all of its files are.
    :param devstack: a checkout of devstack whose functions are used, or None for stand-ins.
    :param services: what is enabled in its localrc.
    :param programs: folder with the programs of the project; None for ones that only pretend.
    :param localrc: further settings.
    """

    def __init__(self, folder, *, devstack=None, services=CONTROL, programs=None, **localrc):
        self.folder = folder
        self.data = folder / "data"
        self.oat_dir = self.data / "oat"
        self.etc = folder / "etc"
        self.nova_conf = folder / "nova.conf"
        self.programs = Path(programs or folder / "programs")
        self._devstack = devstack
        self._starts = programs is not None
        for made in (self.data, self.etc, folder / "state", folder / "commands"):
            made.mkdir(parents=True)
        for name in COMMANDS:
            (folder / "commands" / name).symlink_to(HERE / "commands.sh")
        if programs is None:
            self.programs.mkdir()
            for name in PROGRAMS:
                (self.programs / name).symlink_to(HERE / "commands.sh")
        self.nova_conf.write_text("[filter_scheduler]\nenabled_filters = ComputeFilter\n")
        self.settings = {
            "ADMIN_PASSWORD": "secret",
            "API_WORKERS": 1,
            "BIN_DIR": self.programs,
            "DATA_DIR": self.data,
            "DATABASE_TYPE": "mysql",
            "DEFAULT_IMAGE_NAME": "cirros",
            "DEST": folder,
            "ENABLED_SERVICES": services,
            "ENABLE_DEBUG_LOG_LEVEL": "False",
            "KEYSTONE_SERVICE_URI": "http://192.0.2.10/identity",
            "NOVA_CONF": self.nova_conf,
            "OAT_CONF_DIR": self.etc / "oat",
            "OAT_SOFTWARE_TPM": "True",
            "PYTHON": sys.executable,
            "REGION_NAME": "RegionOne",
            "SERVICE_HOST": "192.0.2.10",
            "SERVICE_LISTEN_ADDRESS": "0.0.0.0",  # noqa: S104  nothing listens there
            "SERVICE_PASSWORD": "secret",
            "SERVICE_TIMEOUT": 60,
            "SSL_BUNDLE_FILE": self.data / "ca-bundle.pem",
            "STACK_USER": getpass.getuser(),
            "SYSTEMCTL": "systemctl",
            "SYSTEMD_DIR": folder / "units",
            "TOP_DIR": folder,
            "VIRT_DRIVER": "libvirt",
            **localrc,
        }

    def path(self, name):
        """The file with the state of a command that pretends; see commands.sh."""
        return self.folder / "state" / name

    def play(self, script):
        """Run ``stack``, ``unstack`` or ``clean`` to its end."""
        lines = [f"{name}={shlex.quote(str(value))}" for name, value in self.settings.items()]
        (self.folder / "localrc").write_text("\n".join([*lines, ""]))
        calls = self.folder / "calls"
        calls.write_text("")
        environment = {
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "NODE": str(self.folder),
            "NODE_NAME": NAME,
            "PATH": f"{self.folder / 'commands'}:{os.environ['PATH']}",
            "PLUGIN": str(REPOSITORY),
            "SYSTEMD_DIR": str(self.settings["SYSTEMD_DIR"]),
        }
        if self._devstack:
            environment["DEVSTACK_DIR"] = self._devstack
        if self._starts:
            environment["NODE_STARTS"] = "1"
        completed = subprocess.run(
            ["bash", str(HERE / "driver.sh"), script],
            check=False,
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
        )
        return Played(
            completed,
            [call.split("\x1f")[:-1] for call in calls.read_text().split("\x1e") if call],
        )

    def stack(self):
        """Run ``stack``, which has to succeed."""
        played = self.play("stack")
        assert played.status == 0, played.output
        return played


def read_options(path, *options):
    """Read a file as the service does that it is for.

    :param options: pairs of a group and an option of oslo.config; what is not there is None.
    """
    conf = cfg.ConfigOpts()
    for group, option in options:
        conf.register_opt(option, group=group)
    conf([], default_config_files=[str(path)])
    return {(group, option.name): conf[group][option.dest] for group, option in options}
