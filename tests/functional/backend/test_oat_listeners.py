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
"""The ports of OpenAttestation, as its clients have them built in: 8443, 8181 and 8080."""

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess

import pytest
from signxml import XMLVerifier

from tests.functional.backend.parts import Http
from tests.functional.backend.test_service import one_line, start_in_vain
from tests.lab.backend import Backend, alive
from tests.lab.wait import wait_for

ROOTS = (
    "/OpenAttestationWebServices/V1.0", "/AttestationService/resources", "/WLMService/resources",
)  # fmt: skip
HOSTS = "/AttestationService/resources/hosts"
OEM = "/WLMService/resources/oem"


def free_ports(count):
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def listening(**more):
    """Options of a service at two ports with TLS and one without."""
    first, second, plain = free_ports(3)
    options = {
        "enabled": True, "readers_from": "127.0.0.1", "tls_ports": f"{first},{second}",
        "http_port": plain, **more,
    }  # fmt: skip
    return {("oat_compat", name): value for name, value in options.items()}


class Port:
    """One of the ports of a service."""

    def __init__(self, backend, port, *, tls=True):
        self.port = port
        self.tls = tls
        self.cacert = str(backend.cacert)

    def connect(self, context=None):
        if not self.tls:
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        context = context or ssl.create_default_context(cafile=self.cacert)
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=20, context=context)

    def call(self, method, path, body=None, context=None, **headers):
        """Status and body of the answer."""
        if body is not None:
            body = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        with contextlib.closing(self.connect(context)) as connection:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def levels(self, root=ROOTS[1], **keywords):
        """What PollHosts says of a host there is not, if it answers."""
        status, body = self.call("POST", f"{root}/PollHosts", {"hosts": ["x"]}, **keywords)
        assert status == 200, body
        return [host["trust_lvl"] for host in json.loads(body)["hosts"]]

    def answers(self):
        try:
            return self.levels() == ["unknown"]
        except OSError:
            return False

    def is_open(self):
        with contextlib.suppress(OSError), contextlib.closing(self.connect()) as connection:
            connection.connect()
            return True
        return False


def ports_of(backend):
    tls = backend.options["oat_compat", "tls_ports"].split(",")
    return [
        *(Port(backend, int(port)) for port in tls),
        Port(backend, backend.options["oat_compat", "http_port"], tls=False),
    ]


def serving(backend):
    """Wait until every port answers; they open a moment after that of the service."""
    for port in ports_of(backend):
        wait_for(port.answers, 15, f"an answer at {port.port}")


@pytest.fixture(scope="module")
def backend(tmp_path_factory, initialised, allowing):
    """A service at these ports, where this machine may even write."""
    options = listening(allow_writes=True, writers_from="127.0.0.1")
    with Backend(tmp_path_factory.mktemp("backend"), options=allowing | options) as running:
        serving(running)
        yield running


@pytest.fixture
def ready(backend_maker):
    """A service at these ports that could start."""
    return backend_maker(listening())


def test_all_roots_at_all_ports(backend):
    for port in ports_of(backend):
        assert [port.levels(root) for root in ROOTS] == [["unknown"]] * 3


def test_C1_nothing_but_openattestation_at_these_ports(backend):
    headers = {"Authorization": f"Bearer {backend.admin_token}"}
    paths = (
        "/", "/healthz", "/metrics", "/v1/hosts", "/v1/verdicts", "/v1/openapi.json",
        "/.well-known/jwks.json", f"{ROOTS[1]}/../../v1/hosts", f"{ROOTS[1]}/..%2F..%2Fv1/hosts",
        "//v1/hosts", ROOTS[1],
    )  # fmt: skip
    for port in ports_of(backend):
        for path in paths:
            status, body = port.call("GET", path, **headers, **{"X-Forwarded-Prefix": ROOTS[1]})
            assert (status, path) == (404, path)
        assert port.call("POST", "/v1/challenges", {"host": "x"})[0] == 404
    assert Http(backend).call("GET", "/v1/hosts", token=backend.admin_token).status == 200


def test_C1_nothing_is_changed_by_plain_http(backend):
    *tls, plain = ports_of(backend)
    for number, port in enumerate(tls):
        assert port.call("POST", OEM, {"Name": f"OEM {number}"}) == (200, b"true")
    status, body = plain.call("POST", OEM, {"Name": "another"})
    assert (status, json.loads(body)["error_code"]) == (405, "METHOD_NOT_ALLOWED")
    status, body = plain.call("GET", OEM)
    assert [item["Name"] for item in json.loads(body)] == ["OEM 0", "OEM 1"]


def test_plain_http_is_served_to_this_machine_only(backend):
    port = backend.options["oat_compat", "http_port"]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port), timeout=5)


def test_clients_that_know_nothing_newer_than_tls_1_2(backend):
    """As oVirt is delivered (``ExternalCommunicationProtocol``), and Nova of that time."""
    context = ssl.create_default_context(cafile=str(backend.cacert))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    *tls, _ = ports_of(backend)
    for port in tls:
        assert port.levels(context=context) == ["unknown"]


def curl(*words):
    ran = subprocess.run(
        ["curl", "-s", "-S", *words], check=True, capture_output=True, text=True, timeout=30
    )  # fmt: skip
    return ran.stdout


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("openssl")), reason="needs both")
def test_commandtool(backend, trusted, tmp_path):
    """``oat_cert``, ``oat_pollhosts`` and ``oat_view_saml``, with the words of these scripts."""
    _, second, plain = ports_of(backend)
    shown = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{second.port}", "-cipher",
         "DHE-RSA-AES256-SHA"],
        check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    (tmp_path / "certfile.cer").write_text(shown.stdout)
    polled = curl(
        "--cacert", str(tmp_path / "certfile.cer"), "-H", "Content-Type: application/json",
        "-X", "POST", "-d", json.dumps({"hosts": [trusted.name]}),
        f"https://localhost:{second.port}{ROOTS[1]}/PollHosts",
    )  # fmt: skip
    assert json.loads(polled)["hosts"][0]["trust_lvl"] == "trusted"
    assertion = curl(
        f"http://localhost:{plain.port}{ROOTS[1]}/saml/assertions/host"
        f"?hostName={trusted.name}&force_verify=false"
    )
    certificate = backend.manage("key", "certificate").stdout
    said = XMLVerifier().verify(assertion.encode(), x509_cert=certificate, id_attribute="ID")
    (value,) = said.signed_xml.xpath("//*[@Name='Trusted']/*")
    assert value.text == "true"
    for method, path in (("GET", "tag-certificates"), ("POST", "tag-kv-attributes")):
        refused = curl("-X", method, f"http://localhost:{plain.port}{ROOTS[1]}/{path}")
        assert json.loads(refused)["error_code"] == "AS_INVALID_ASSET_TAG_CERTIFICATE"


# -- from the start to the end ----------------------------------------------------------------


def test_a_stop_and_a_restart_with_clients_that_are_silent(ready):
    ready.start()
    serving(ready)
    everyone = [ready.pid, *ready.worker_pids()]
    assert len(everyone) == 3
    assert len(ready.log.splitlines()) == 4
    with contextlib.ExitStack() as idle:
        for port in ports_of(ready):
            idle.enter_context(contextlib.closing(port.connect())).connect()
            kept = idle.enter_context(contextlib.closing(port.connect()))
            kept.request("GET", OEM)
            kept.getresponse().read()
        ready.stop()
    assert not any(map(alive, everyone))
    assert not any(port.is_open() for port in ports_of(ready))
    assert ready.log.splitlines()[-1].endswith("stopped")
    assert "Traceback" not in ready.log
    with ready:
        serving(ready)


def test_a_main_process_that_is_killed_leaves_no_port_open(ready):
    ready.start()
    serving(ready)
    os.kill(ready.pid, signal.SIGKILL)
    wait_for(lambda: not any(port.is_open() for port in ports_of(ready)), 10, "the end")
    ready.stop()


def test_a_worker_that_dies_is_replaced_at_these_ports(ready):
    ready.options["api", "workers"] = 1
    with ready:
        serving(ready)
        (victim,) = ready.worker_pids()
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: ready.worker_pids() not in ([], [victim]), 15, "another worker")
        serving(ready)


def test_a_reload_brings_a_new_certificate_and_other_rules(ready):
    """Even that nobody is served any more; the ports stay open until the service ends."""
    ready.options["api", "workers"] = 1
    with ready:
        serving(ready)
        assert ready.manage("ca", "rotate").returncode == 0
        assert reloaded(ready, "readers_from", "192.0.2.1", 401) <= {200, 401}
        shown = ssl.get_server_certificate(("127.0.0.1", ports_of(ready)[0].port))
        assert shown in (ready.state_dir / "server.pem").read_text()
        assert reloaded(ready, "enabled", False, 404) <= {401, 404}


def reloaded(backend, name, value, status):
    """All statuses there were until another worker answers with this one at every port."""
    before, seen = backend.worker_pids(), set()
    backend.options["oat_compat", name] = value
    backend.write_config()
    os.kill(backend.pid, signal.SIGHUP)

    def replaced():
        # A connection that is just being opened when a worker goes is closed.
        with contextlib.suppress(OSError, http.client.HTTPException):
            found = {port.call("GET", OEM)[0] for port in ports_of(backend)}
            seen.update(found)
            return found == {status} and not set(before) & set(backend.worker_pids())
        return False

    wait_for(replaced, 30, "another worker")
    return seen


@pytest.mark.parametrize("name", ["tls_ports", "http_port"])
def test_one_of_the_ports_is_taken(ready, name):
    port = int(str(ready.options["oat_compat", name]).split(",")[-1])
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        one_line(start_in_vain(ready), "port-in-use", str(port))
