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
"""The backend has to prove who it is."""

import socket
import ssl
import threading

import pytest

from oat_trusted_filter.client.http import AttestationClient, BackendUnreachable, ClientError
from tests.lab.scripted_backend import ScriptedBackend


def refused(client):
    with pytest.raises(BackendUnreachable) as caught:
        client.get_verdicts()
    return caught.value


@pytest.fixture
def stranger(tmp_path):
    folder = tmp_path / "stranger"
    folder.mkdir()
    with ScriptedBackend(folder) as scripted:
        yield scripted


def test_a_certificate_of_another_ca_is_not_trusted(make_client, backend, stranger):
    error = refused(make_client(endpoint=stranger.endpoint))
    assert error.code == "tls-certificate"
    assert "self-signed certificate" in str(error)
    assert stranger.requests == []


def test_a_certificate_for_another_name_is_not_trusted(tmp_path, make_client):
    with ScriptedBackend(tmp_path, name="attest.example.org") as other:
        error = refused(make_client(endpoint=other.endpoint, cacert=other.cacert))
        assert error.code == "tls-certificate"
        assert other.requests == []


def test_without_a_ca_file_the_system_decides(make_client):
    assert refused(make_client(cacert=None)).code == "tls-certificate"


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_insecure_checks_nothing(make_client, stranger):
    client = make_client(endpoint=stranger.endpoint, cacert=None, insecure=True)
    assert client.get_verdicts().full


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_insecure_does_not_even_read_the_ca_file(make_client):
    assert make_client(cacert="/nowhere/ca.pem", insecure=True).get_verdicts().full


def test_a_certificate_bundle_of_the_environment_does_not_count(
    make_client, backend, stranger, monkeypatch
):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(stranger.cacert))
    monkeypatch.setenv("CURL_CA_BUNDLE", str(stranger.cacert))
    assert refused(make_client(endpoint=stranger.endpoint)).code == "tls-certificate"


def test_a_server_without_tls_fails(make_client):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            connection, _ = listener.accept()
            with connection:
                connection.recv(1)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        threading.Thread(target=serve, daemon=True).start()
        error = refused(make_client(endpoint=f"https://127.0.0.1:{listener.getsockname()[1]}"))
    assert error.code == "tls-failed"


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
def test_an_old_tls_version_is_refused(backend, make_client):
    backend._context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    backend._context.maximum_version = ssl.TLSVersion.TLSv1_1
    assert refused(make_client()).code == "tls-failed"


def test_a_refused_connection_is_told_from_a_slow_one(make_client):
    error = refused(make_client(endpoint="https://127.0.0.1:1"))
    assert error.code == "backend-unreachable"
    assert "Connection refused" in str(error)


def test_a_missing_ca_file_is_said_when_the_client_is_made(tmp_path):
    path = tmp_path / "none.pem"
    with pytest.raises(ClientError) as caught:
        AttestationClient("https://127.0.0.1:1", cacert=path)
    assert caught.value.code == "ca-file-missing"
    assert str(path) in str(caught.value)
    assert "No such file or directory" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"no certificate", b"\x00\xff" * 50])
def test_a_ca_file_without_certificate_is_said(tmp_path, content):
    path = tmp_path / "ca.pem"
    path.write_bytes(content)
    with pytest.raises(ClientError) as caught:
        AttestationClient("https://127.0.0.1:1", cacert=path)
    assert caught.value.code == "ca-file-invalid"


def test_a_folder_in_place_of_a_ca_file_is_said(tmp_path):
    with pytest.raises(ClientError) as caught:
        AttestationClient("https://127.0.0.1:1", cacert=tmp_path)
    assert caught.value.code.startswith("ca-file-")
