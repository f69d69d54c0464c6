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
"""What the plugin starts, really started: the API, the agent, the enforcer and a software TPM.

Only OpenStack pretends, and systemd: a unit is started as a plain process. So the enforcer learns
the verdicts and has nowhere to go with them.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from oslo_config import cfg

from oat_trusted_filter.client.http import AttestationClient
from tests.functional.devstack.node import NAME, read_options
from tests.lab.wait import wait_for

PROGRAMS = Path(sys.executable).parent
SERVICES = "key,placement-api,n-api,n-sch,n-cpu,g-api"
_SECONDS = 60


@pytest.fixture(params=["127.0.0.1", "[::1]"])
def node(request, make_node):
    """A control node that also computes, reached by an address of each family."""
    address = request.param
    node = make_node(
        programs=PROGRAMS,
        services=SERVICES,
        SERVICE_HOST=address,
        SERVICE_LISTEN_ADDRESS=address,
        OAT_SERVICE_PORT=_free_port(address),
        OAT_AGENT_HOST=NAME,
        KEYSTONE_SERVICE_URI="http://127.0.0.1:9/identity",
        # Neither keystone nor the database of devstack runs here.
        OAT_AUTH_STRATEGY="http_basic",
        OAT_DATABASE="sqlite",
    )
    yield node
    for service in _services(node):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(service, signal.SIGKILL)


def _free_port(address):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as probe:
        try:
            probe.bind((address.strip("[]"), 0))
        except OSError as error:
            pytest.skip(f"no address {address} on this machine: {error}")
        return probe.getsockname()[1]


def _services(node):
    """The processes that were started and not stopped, each the leader of a group."""
    return [int(path.read_text()) for path in node.path("").glob("*.pid")]


def _processes_below(folder):
    """All processes that were started with a path of this folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if str(folder).encode() in path.read_bytes():
                found.append(path.parent.name)
    return found


def _admin(node, *command):
    """Run a command of oat with the credential that the plugin leaves to the operator."""
    ran = subprocess.run(
        ["bash", "-c", '. "$1"; shift; exec "$@"', "bash",
         str(node.oat_dir / "admin-openrc"), str(PROGRAMS / "oat"), *command, "-f", "json"],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def _levels_for_nova(node):
    """The verdicts, asked for with what nova.conf says."""
    group = "trusted_computing"
    names = ("endpoint", "attestation_server_ca_file", "token_file")
    found = read_options(node.nova_conf, *((group, cfg.StrOpt(name)) for name in names))
    endpoint, authority, token_file = (found[group, name] for name in names)
    client = AttestationClient(
        endpoint, cacert=authority, token=Path(token_file).read_text().strip()
    )
    with contextlib.closing(client):
        return {record.host: record.level for record in client.get_verdicts().hosts}


def _wait_for_log(node, service, text):
    log = node.path(f"devstack@{service}.service.log")
    wait_for(lambda: text in log.read_text(), _SECONDS, f"{text!r} in the log of {service}")


@pytest.mark.timeout(400)
def test_from_nothing_to_a_trusted_host_and_back(node):
    node.stack()

    (host,) = _admin(node, "host", "list", "--long")
    assert (host["host"], host["state"], host["level"]) == (NAME, "approved", "trusted")
    assert host["software_tpm"] is True
    assert host["ek_certificate_status"] == "verified"
    assert _levels_for_nova(node) == {NAME: "trusted"}
    _wait_for_log(node, "oat-agent", "untrusted: [no-reference]")
    _wait_for_log(node, "oat-enforcer", "following the verdicts about")
    assert len(_services(node)) == 4

    # The database is new, the TPM is the same: the host goes the same way once more.
    node.stack()
    (again,) = _admin(node, "host", "list", "--long")
    assert again["level"] == "trusted"
    assert again["ek_fingerprint"] == host["ek_fingerprint"]
    assert again["created_at"] > host["created_at"]
    assert _levels_for_nova(node) == {NAME: "trusted"}

    assert node.play("unstack").status == 0
    assert not _services(node)
    assert not _processes_below(node.folder)

    assert node.play("clean").status == 0
    assert not node.oat_dir.exists()
