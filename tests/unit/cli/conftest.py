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
"""A way to run ``oat`` in this process and see what it says and sends."""

import io
from dataclasses import dataclass

import pytest

from oat_trusted_filter.cli.app import OatApp

ENDPOINT = "https://backend.example:8443"
CLOUD = "https://cloud.example"


@dataclass
class Ran:
    """What a run of the program left."""

    status: int
    out: str
    err: str


class Terminal(io.StringIO):
    """Standard input, or output, with a person in front of it."""

    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    """Only the test says which backend, and as whom."""
    for name in ("ENDPOINT", "TOKEN", "USERNAME", "PASSWORD", "CACERT", "REGION"):
        monkeypatch.delenv(f"OAT_{name}", raising=False)
    monkeypatch.setenv("CLIFF_FIT_WIDTH", "0")


@pytest.fixture
def oat(no_environment, monkeypatch):
    """Runs one command line: ``oat("host", "list")``."""
    monkeypatch.setenv("OAT_ENDPOINT", ENDPOINT)
    monkeypatch.setenv("OAT_TOKEN", "secret-token")

    def run(*argv, answer=None, watched=False):
        out, err = io.StringIO(), Terminal() if watched else io.StringIO()
        stdin = io.StringIO("") if answer is None else Terminal(answer)
        monkeypatch.setattr("sys.stderr", err)
        monkeypatch.setattr("logging.root.handlers", [])
        app = OatApp(stdin=stdin, stdout=out, stderr=err)
        try:
            status = app.run(list(argv))
        except SystemExit as stop:
            status = stop.code
        return Ran(status, out.getvalue(), err.getvalue())

    return run


@pytest.fixture
def api(requests_mock):
    """Declares replies: ``api("GET", "/v1/hosts", json={...})``."""

    def declare(method, path, **reply):
        return requests_mock.register_uri(method, f"{ENDPOINT}{path}", **reply)

    declare.history = lambda: requests_mock.request_history
    return declare


def version(url, **fields):
    return {"version": {"links": [{"rel": "self", "href": url}], **fields}}


def catalogue(**services):
    """What Keystone says where services are."""
    return [
        {
            "type": kind,
            "name": kind,
            "endpoints": [{"interface": "public", "region": "r1", "url": url}],
        }
        for kind, url in services.items()
    ]


def token_of(requests_mock, catalog):
    """Keystone gives whoever asks the token ``t``."""
    token = {
        "methods": ["password"],
        "expires_at": "2099-01-01T00:00:00.000000Z",
        "issued_at": "2026-01-01T00:00:00.000000Z",
        "user": {"id": "u", "name": "ann", "domain": {"id": "default", "name": "Default"}},
        "project": {"id": "p", "name": "ops", "domain": {"id": "default", "name": "Default"}},
        "roles": [],
        "catalog": catalog,
    }
    requests_mock.post(
        f"{CLOUD}/v3/auth/tokens", json={"token": token}, headers={"X-Subject-Token": "t"}
    )
    requests_mock.get(f"{CLOUD}/v3", json=version(f"{CLOUD}/v3", id="v3.14", status="stable"))


@pytest.fixture
def cloud(monkeypatch, requests_mock, tmp_path):
    """An OpenStack cloud in the environment."""
    for name, value in {
        "AUTH_URL": f"{CLOUD}/v3",
        "USERNAME": "ann",
        "PASSWORD": "secret",
        "PROJECT_NAME": "ops",
        "USER_DOMAIN_ID": "default",
        "PROJECT_DOMAIN_ID": "default",
        "IDENTITY_API_VERSION": "3",
    }.items():
        monkeypatch.setenv(f"OS_{name}", value)
    monkeypatch.chdir(tmp_path)
    token_of(requests_mock, catalogue(compute=f"{CLOUD}/compute/v2.1"))
    compute = version(
        f"{CLOUD}/compute/v2.1/", id="v2.1", status="CURRENT", version="2.96", min_version="2.1"
    )
    for end in ("", "/"):
        requests_mock.get(f"{CLOUD}/compute/v2.1{end}", json=compute)

    def nova(path, **reply):
        return requests_mock.get(f"{CLOUD}/compute/v2.1{path}", **reply)

    return nova
