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
"""The same commands as a plugin of OpenStackClient."""

import importlib.metadata
import json
import logging

import pytest
from openstackclient.shell import OpenStackShell
from osc_lib.clientmanager import ClientManager

from oat_trusted_filter.cli import plugin
from tests.unit.cli.conftest import CLOUD, ENDPOINT, catalogue, token_of

POLICY = {"name": "default", "secure_boot": "required"}


def names(group):
    return {entry.name: entry.value for entry in importlib.metadata.entry_points(group=group)}


def test_every_command_is_there_in_both_programs():
    ours = {f"trust_{name}": value for name, value in names("oat.cli").items()}
    assert names("openstack.trust_attestation.v1") == ours


@pytest.fixture
def openstack(no_environment, monkeypatch, tmp_path, capsys):
    """Runs one command line of ``openstack`` in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("logging.root.handlers", [])
    # What a program sets up once is set up for each test.
    for name in list(logging.root.manager.loggerDict):
        monkeypatch.setattr(logging.getLogger(name), "level", logging.getLogger(name).level)
    monkeypatch.setattr(ClientManager, plugin.API_NAME, property(plugin.make_client))

    def run(*argv):
        try:
            status = OpenStackShell().run(list(argv))
        except SystemExit as stop:
            status = stop.code
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def keystone(monkeypatch, requests_mock):
    """A cloud in the environment whose catalogue has these services."""

    def offers(**services):
        for name, value in {
            "AUTH_URL": f"{CLOUD}/v3", "USERNAME": "ann", "PASSWORD": "secret",
            "PROJECT_NAME": "ops", "USER_DOMAIN_ID": "default", "PROJECT_DOMAIN_ID": "default",
        }.items():  # fmt: skip
            monkeypatch.setenv(f"OS_{name}", value)
        token_of(requests_mock, catalogue(**services))

    return offers


def test_the_backend_is_found_in_the_catalogue(openstack, keystone, api):
    keystone(**{"trust-attestation": ENDPOINT})
    api("GET", "/v1/policies", json={"policies": [POLICY]})
    status, out, _ = openstack("trust", "policy", "list", "-f", "json")
    assert (status, json.loads(out)[0]["name"]) == (0, "default")
    assert api.history()[-1].headers["X-Auth-Token"] == "t"


def test_a_catalogue_without_the_backend_is_wrong_use(openstack, keystone):
    keystone(compute=f"{CLOUD}/compute")
    status, out, err = openstack("trust", "policy", "list")
    assert (status, out) == (2, "")
    assert "trust-attestation" in err
    assert len(err.splitlines()) == 1


def test_a_keystone_that_is_away_when_the_token_ends_is_not_wrong_use(
    openstack, keystone, api, requests_mock
):
    keystone(**{"trust-attestation": ENDPOINT})

    def refuse(request, context):
        requests_mock.post(f"{CLOUD}/v3/auth/tokens", status_code=503)
        context.status_code = 401
        return {"code": "credential-wrong", "detail": "it has ended", "status": 401}

    api("GET", "/v1/policies", json=refuse)
    status, out, err = openstack("trust", "policy", "list")
    assert (status, out) == (3, "")
    assert err.startswith("Keystone gives no token: ")


def test_nova_is_that_of_the_catalogue(openstack, keystone, api, cloud):
    keystone(**{"trust-attestation": ENDPOINT, "compute": f"{CLOUD}/compute/v2.1"})
    api("GET", "/v1/hosts", json={"hosts": []})
    listed = [{"id": "uuid-1", "hypervisor_hostname": "node-1"}]
    cloud("/os-hypervisors?limit=1000", json={"hypervisors": listed})
    status, out, _ = openstack("trust", "host", "compare-nova", "-f", "json")
    assert (status, json.loads(out)[0]["host"]) == (0, "node-1")


def test_a_refusal_has_the_status_of_oat(openstack, api):
    problem = {"code": "host-unknown", "detail": "there is no host x", "status": 404}
    api("GET", "/v1/hosts/x", status_code=404, json=problem)
    where = ("--os-auth-type", "none", "--os-endpoint", ENDPOINT)
    assert openstack(*where, "trust", "host", "show", "x") == (
        1, "", "host-unknown: there is no host x\n",
    )  # fmt: skip
    assert "X-Auth-Token" not in api.history()[-1].headers


def test_a_command_line_that_is_wrong_has_status_2(openstack, api):
    where = ("--os-auth-type", "none", "--os-endpoint", ENDPOINT)
    status, out, err = openstack(*where, "trust", "host", "show", "..")
    assert (status, out, err) == (2, "", "'..' is not a name\n")
