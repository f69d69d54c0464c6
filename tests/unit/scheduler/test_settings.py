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
"""Options keep the meaning they had, and a mistake in them is said and never fatal."""

import textwrap

import pytest
from oslo_config import cfg

from oat_trusted_filter.client.drivers.oat import Connection
from oat_trusted_filter.client.errors import ClientError
from oat_trusted_filter.conf import trusted_computing
from oat_trusted_filter.scheduler.settings import Settings


@pytest.fixture
def conf_of(tmp_path):
    """The configuration from the text of the group ``[trusted_computing]``."""

    def read(text=""):
        path = tmp_path / "nova.conf"
        path.write_text(f"[trusted_computing]\n{textwrap.dedent(text)}\n")
        conf = cfg.ConfigOpts()
        trusted_computing.register_opts(conf)
        conf(["--config-file", str(path)])
        return conf

    return read


@pytest.fixture
def settings(conf_of):
    """How the filter works."""
    return lambda text="": Settings.from_conf(conf_of(text))


@pytest.fixture
def connection(conf_of):
    """How the backend is reached."""
    return lambda text="": Connection.from_conf(conf_of(text))


def test_a_file_of_the_old_filter_still_means_what_it_meant(conf_of):
    conf = conf_of(
        """
        attestation_server = attest.example.org
        attestation_port = 9999
        attestation_server_ca_file = /etc/nova/ca.pem
        attestation_api_url = /OpenAttestationWebServices/V1.0
        attestation_auth_blob = secret
        attestation_auth_timeout = 90
        attestation_insecure_ssl = true
        """
    )
    connection, found = Connection.from_conf(conf), Settings.from_conf(conf)
    assert connection.endpoint == "https://attest.example.org:9999"
    assert connection.ca_file == "/etc/nova/ca.pem"
    assert connection.auth_blob == "secret"
    assert connection.insecure
    assert found.max_age == 90.0
    assert any("attestation_api_url has no effect" in warning for warning in found.warnings)


def test_the_defaults_are_those_of_the_old_filter_where_it_had_them(settings, connection):
    reached = connection("attestation_server = attest.example.org")
    assert reached.endpoint == "https://attest.example.org:8443"
    assert not reached.insecure
    assert reached.warnings == ()
    found = settings()
    assert found.driver == "oat"
    assert found.max_age == 60.0
    assert (found.deadline, found.refresh_interval) == (2.0, 5.0)
    assert (found.region, found.check_rebuild, found.observe) == ("", "untrusted", False)
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("server", "endpoint"),
    [
        ("192.0.2.7", "https://192.0.2.7:8443"),
        ("2001:db8::7", "https://[2001:db8::7]:8443"),
        ("[2001:db8::7]", "https://[2001:db8::7]:8443"),
    ],
)
def test_a_server_may_be_an_address(connection, server, endpoint):
    found = connection(f"attestation_server = {server}")
    assert found.endpoint == endpoint
    assert found.make_client().endpoint == endpoint


def test_an_endpoint_wins_over_a_server(connection):
    found = connection("endpoint = https://a.example.org\nattestation_server = b.example.org")
    assert found.endpoint == "https://a.example.org"


@pytest.mark.parametrize(
    "line",
    [
        "attestation_auth_timeout = 0",
        "attestation_auth_timeout = long",
        "deadline = 0",
        "deadline = 61",
        "refresh_interval = -1",
        "attestation_port = 70000",
        "attestation_insecure_ssl = perhaps",
        "check_rebuild = sometimes",
        "enforcement = no",
    ],
)
def test_a_value_that_cannot_be_is_an_error_that_names_the_option(conf_of, line):
    conf = conf_of(f"attestation_server = a.example.org\n{line}")
    with pytest.raises(cfg.Error) as caught:
        (Settings.from_conf(conf), Connection.from_conf(conf))
    assert line.split()[0] in str(caught.value)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "not-configured"),
        ("endpoint = attest.example.org", "endpoint-invalid"),
        ("attestation_server = https://attest.example.org", "endpoint-invalid"),
        ("endpoint = https://a\nattestation_server_ca_file = /none/ca.pem", "ca-file-missing"),
        ("endpoint = https://a\ntoken_file = /none/token", "token-file-missing"),
        ("endpoint = https://a\nusername = nova", "credential-invalid"),
    ],
)
def test_a_client_that_cannot_be_made_says_why(connection, text, code):
    found = connection(text)
    with pytest.raises(ClientError) as caught:
        found.make_client()
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "token-file-empty"),
        (b" \n\n", "token-file-empty"),
        (b"\xff\xfe", "token-file-missing"),
        (b"two\nlines", "credential-invalid"),
    ],
)
def test_a_token_file_has_to_hold_a_token(connection, tmp_path, content, code):
    path = tmp_path / "token"
    path.write_bytes(content)
    with pytest.raises(ClientError) as caught:
        connection(f"endpoint = https://a\ntoken_file = {path}").make_client()
    assert caught.value.code == code
    assert "lines" not in str(caught.value)


def test_a_token_file_that_may_not_be_read_is_said(connection, tmp_path):
    with pytest.raises(ClientError) as caught:
        connection(f"endpoint = https://a\ntoken_file = {tmp_path}").make_client()
    assert caught.value.code == "token-file-missing"
    assert "Is a directory" in str(caught.value)


def test_a_connection_anybody_can_change_is_warned_of(connection):
    def warned(text):
        return any("call a host trusted" in warning for warning in connection(text).warnings)

    assert warned("endpoint = http://attest.example.org")
    assert warned("endpoint = https://attest.example.org\nattestation_insecure_ssl = true")
    assert not warned("endpoint = https://attest.example.org")


def test_no_secret_is_shown(connection):
    shown = repr(
        connection("endpoint = https://a\npassword = pw-7\nattestation_auth_blob = blob-7")
    )
    assert "pw-7" not in shown
    assert "blob-7" not in shown


def test_every_option_is_in_the_sample_with_a_help_text():
    ((group, options),) = trusted_computing.list_opts()
    assert group.name == "trusted_computing"
    assert all(option.help.strip() for option in options)
    assert {"attestation_server", "endpoint", "deadline"} <= {option.name for option in options}
