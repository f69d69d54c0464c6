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
"""``openstack trust ...``: the real OpenStackClient against a real backend."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

OPENSTACK = Path(sys.executable).with_name("openstack")
_SECONDS = 60


class Client:
    """Runs ``openstack`` with this and nothing else of a cloud in the environment."""

    def __init__(self, folder, **settings):
        self.folder = folder
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("OS_")},
            **{f"OS_{name.upper()}": str(value) for name, value in settings.items()},
        }

    def run(self, *argv, **environment):
        return subprocess.run(
            [OPENSTACK, *argv],
            check=False,
            cwd=self.folder,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
        )


@pytest.fixture
def with_token(backend, tmp_path):
    """No Keystone: a token of the backend and its address."""
    return Client(
        tmp_path,
        auth_type="admin_token",
        endpoint=backend.endpoint,
        token=backend.admin_token,
        cacert=backend.cacert,
    )


@pytest.fixture
def with_password(backend, tmp_path):
    """No Keystone: a person whom the backend knows."""
    made = backend.manage("user", "create", "ann", "--role", "reader", stdin="correct horse pass\n")
    assert made.returncode == 0, made.stderr
    return Client(
        tmp_path,
        auth_type="http_basic",
        endpoint=backend.endpoint,
        username="ann",
        password="correct horse pass",
        cacert=backend.cacert,
    )


def test_a_token_and_an_address_are_enough(with_token):
    made = with_token.run("trust", "tag", "create", "country", "de", "fr", "-f", "json")
    assert (made.returncode, json.loads(made.stdout)) == (
        0, {"name": "country", "values": ["de", "fr"]},
    )  # fmt: skip
    listed = with_token.run("trust", "tag", "list", "-f", "csv")
    assert listed.stdout.splitlines() == ['"name","values"', '"country","de, fr"']
    assert with_token.run("trust", "tag", "delete", "country").returncode == 0


def test_a_person_may_do_what_his_role_lets_him(with_password):
    listed = with_password.run("trust", "policy", "list", "-f", "value", "-c", "name")
    assert (listed.returncode, listed.stdout) == (0, "default\n"), listed.stderr
    refused = with_password.run("trust", "tag", "create", "country", "de")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("role-insufficient: "), refused.stderr


def test_failures_have_the_status_they_have_in_oat(with_token, hosts):
    wrong = with_token.run("trust", "host", "list", OS_TOKEN="of-nobody")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert wrong.stderr.startswith("credential-wrong: ")
    assert "OS_*" in wrong.stderr
    stranger = hosts["node-a"].software.ca_certificates[0]
    unknown = with_token.run("trust", "host", "list", OS_CACERT=str(stranger))
    assert (unknown.returncode, unknown.stdout) == (3, "")
    assert len(unknown.stderr.splitlines()) == 1
