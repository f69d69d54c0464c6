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
"""Credentials beside tokens: Keystone, client certificates; from the options to the wire."""

import json
import ssl

import pytest
from oslo_config import cfg

from oat_trusted_filter.client.drivers.oat import OatDriver
from oat_trusted_filter.client.errors import ClientError
from oat_trusted_filter.conf import trusted_computing
from oat_trusted_filter.fixture import make_certificate
from tests.lab.scripted_backend import hang, reply


class Keystone:
    """The part of Keystone's API that gives tokens, before the scripted backend."""

    def __init__(self, backend):
        self.backend = backend
        self.tokens = []
        self.password = "secret"
        backend.authorized = lambda headers: headers.get("X-Auth-Token") == self.tokens[-1]
        backend.fault = self

    def __call__(self, handler):
        if handler.path != "/v3/auth/tokens":
            handler.answer_now()
            return
        asked = json.loads(self.backend.bodies[-1])["auth"]["identity"]["password"]["user"]
        if asked["password"] != self.password:
            reply(handler, 401, {"error": {"code": 401, "message": "no"}})
            return
        self.tokens.append(f"token-{len(self.tokens)}")
        body = {"token": {"expires_at": "2099-01-01T00:00:00.000000Z", "methods": ["password"]}}
        reply(handler, 201, body, {"X-Subject-Token": self.tokens[-1]})

    @property
    def asked(self):
        """How often a token was asked for."""
        return sum(path == "/v3/auth/tokens" for path, _ in self.backend.requests)


@pytest.fixture
def keystone(backend):
    return Keystone(backend)


@pytest.fixture
def driver_of(backend, tmp_path):
    """The driver as nova.conf says."""

    def make(**options):
        options = {
            "endpoint": backend.endpoint,
            "attestation_server_ca_file": backend.cacert,
            "cafile": backend.cacert,
            **options,
        }
        path = tmp_path / "nova.conf"
        lines = [f"{key} = {value}" for key, value in options.items() if value is not None]
        path.write_text("\n".join(["[trusted_computing]", *lines]))
        conf = cfg.ConfigOpts()
        conf(["--config-file", str(path)])
        trusted_computing.register_opts(conf)
        return OatDriver.from_conf(conf)

    return make


@pytest.fixture
def with_keystone(backend, keystone, driver_of):
    def make(**options):
        options = {
            "auth_type": "v3password",
            "auth_url": f"{backend.endpoint}/v3",
            "username": "nova",
            "password": "secret",
            "user_domain_id": "default",
            **options,
        }
        return driver_of(**options)

    return make


def ask(driver, timeout=10.0):
    return driver.get_verdicts(None, None, timeout=timeout)


def test_a_token_of_keystone_is_asked_for_once(with_keystone, keystone):
    driver = with_keystone()
    for _ in range(3):
        assert ask(driver).full
    assert keystone.asked == 1


def test_a_token_that_is_refused_is_replaced(with_keystone, keystone):
    driver = with_keystone()
    ask(driver)
    keystone.tokens.append("keystone has forgotten the others")
    assert ask(driver).full
    assert keystone.asked == 2


def test_a_token_that_is_refused_again_is_an_error(with_keystone, backend):
    backend.authorized = lambda headers: False
    with pytest.raises(ClientError) as caught:
        ask(with_keystone())
    assert caught.value.code == "unauthorized"


def test_a_wrong_password_is_said_and_not_shown(with_keystone):
    with pytest.raises(ClientError) as caught:
        ask(with_keystone(password="wrong-password"))
    assert caught.value.code == "keystone-failed"
    assert "wrong-password" not in str(caught.value)


@pytest.mark.parametrize("auth_url", ["https://127.0.0.1:1/v3", "https://nowhere.invalid/v3"])
def test_E3_a_keystone_that_is_not_there_is_said(with_keystone, auth_url):
    with pytest.raises(ClientError) as caught:
        ask(with_keystone(auth_url=auth_url))
    assert caught.value.code == "keystone-failed"


def test_E3_a_keystone_that_hangs_costs_the_deadline(with_keystone, backend):
    driver = with_keystone(deadline=0.5)
    backend.fault = hang
    with pytest.raises(ClientError) as caught:
        ask(driver, timeout=0.5)
    assert caught.value.code in ("backend-timeout", "keystone-failed")


@pytest.mark.parametrize(
    "options",
    [
        {"auth_type": "nonsense"},
        {"auth_section": "nowhere", "auth_type": None},
    ],
)
def test_an_auth_type_there_is_not_is_said(with_keystone, options):
    with pytest.raises(ClientError) as caught:
        with_keystone(**options)
    assert caught.value.code == "credential-invalid"


def test_keystone_and_a_token_file_are_one_too_many(with_keystone, backend, tmp_path):
    path = tmp_path / "token"
    path.write_text(backend.token)
    with pytest.raises(ClientError) as caught:
        with_keystone(token_file=path)
    assert caught.value.code == "credential-invalid"


def test_without_auth_type_a_user_name_goes_as_http_basic(driver_of, backend):
    backend.authorized = lambda headers: headers["Authorization"].startswith("Basic ")
    assert ask(driver_of(username="nova", password="secret")).full


@pytest.fixture
def client_certificate(tmp_path):
    folder = tmp_path / "client"
    folder.mkdir()
    return make_certificate(folder, "nova-scheduler")


def test_a_client_certificate_is_shown_to_a_backend_that_asks(
    driver_of, backend, client_certificate
):
    certificate, key = client_certificate
    backend.authorized = lambda headers: True
    backend._context.verify_mode = ssl.CERT_REQUIRED
    backend._context.load_verify_locations(certificate)
    assert ask(driver_of(certfile=certificate, keyfile=key)).full
    with pytest.raises(ClientError):
        ask(driver_of())


def test_a_client_certificate_that_is_none_is_said(driver_of, tmp_path, client_certificate):
    (tmp_path / "bad.pem").write_text("nothing")
    certificate, _ = client_certificate
    for options in (
        {"certfile": "/none/cert.pem"},
        {"certfile": tmp_path / "bad.pem"},
        {"certfile": certificate, "keyfile": tmp_path / "bad.pem"},
    ):
        with pytest.raises(ClientError) as caught:
            driver_of(**options)
        assert caught.value.code == "certificate-invalid"
