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
"""oat-attestation-api as a process: how it starts, refuses to start, bears clients, and stops."""

import contextlib
import os
import resource
import signal
import socket
import ssl
import subprocess
import sys
import time

import pytest

from oat_trusted_filter.backend.api import program
from oat_trusted_filter.backend.api.exchange import LARGE_BODY
from oat_trusted_filter.backend.api.gateway import BODIES_IN_ALL
from tests.functional.backend.parts import Http
from tests.lab.backend import alive
from tests.lab.nobody import run_as_nobody
from tests.lab.wait import wait_for

EVERYWHERE = "0.0.0.0"  # noqa: S104
API = [sys.executable, "-m", "oat_trusted_filter.cmd.api"]


@pytest.fixture
def ready(backend_maker):
    """A backend that could start."""
    return backend_maker()


def start_in_vain(backend):
    return subprocess.run(
        [*API, "--config-file", str(backend.config_file)],
        check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30,
    )  # fmt: skip


def one_line(ran, *words):
    assert ran.returncode == 1
    (line,) = ran.stderr.splitlines()
    assert line.startswith("oat-attestation-api: ")
    for word in words:
        assert word in line


def test_a_missing_configuration_file(ready):
    ready.config_file.unlink()
    one_line(start_in_vain(ready), str(ready.config_file))


@pytest.mark.parametrize("name", ["server.pem", "server.key"])
def test_a_missing_tls_file(ready, name):
    (ready.state_dir / name).unlink()
    one_line(start_in_vain(ready), "tls-file-missing", name, "oat-manage")


@pytest.mark.parametrize("name", ["server.pem", "server.key"])
def test_a_tls_file_that_is_none(ready, name):
    (ready.state_dir / name).write_text("nonsense")
    one_line(start_in_vain(ready), "tls-file-invalid", name)


def test_a_key_of_another_certificate(ready):
    (ready.state_dir / "server.key").write_bytes((ready.state_dir / "ca.key").read_bytes())
    one_line(start_in_vain(ready), "tls-file-invalid")


def test_a_database_that_is_not_synced(ready):
    (ready.state_dir / "oat.sqlite").unlink()
    one_line(start_in_vain(ready), "database-not-synced", "db sync")


def test_a_database_that_is_none(ready):
    for path in ready.state_dir.glob("oat.sqlite*"):
        path.unlink()
    (ready.state_dir / "oat.sqlite").write_bytes(b"nonsense" * 1000)
    one_line(start_in_vain(ready), "database-unusable")


@pytest.mark.parametrize(
    ("content", "code"), [(None, "missing"), ("", "invalid"), ("ab", "invalid"), ("x", "invalid")]
)
def test_a_challenge_key_that_is_none(ready, content, code):
    path = ready.state_dir / "challenge.key"
    path.unlink()
    if content is not None:
        path.write_text(content)
    one_line(start_in_vain(ready), f"challenge-key-{code}")


@pytest.mark.parametrize(("content", "code"), [(None, "missing"), ("x", "invalid")])
def test_a_signing_key_that_is_none(ready, content, code):
    path = ready.state_dir / "signing.key"
    path.unlink()
    if content is not None:
        path.write_text(content)
    one_line(start_in_vain(ready), f"signing-key-{code}")


def test_a_port_that_is_taken(ready):
    with socket.socket() as other:
        other.bind(("127.0.0.1", ready.port))
        other.listen()
        one_line(start_in_vain(ready), "port-in-use", str(ready.port))


def test_a_second_service_on_the_same_port(ready):
    with ready:
        one_line(start_in_vain(ready), "port-in-use")
        assert Http(ready).call("GET", "/healthz").status == 200


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_that_is_not_ours(ready, host):
    ready.options["api", "bind_host"] = host
    ready.write_config()
    one_line(start_in_vain(ready), "address-unusable", host)


def test_authorities_that_are_none(ready, tmp_path):
    folder = tmp_path / "ek-ca"
    ready.options["attestation", "ek_ca_dir"] = str(folder)
    ready.write_config()
    one_line(start_in_vain(ready), "ek-ca-invalid", str(folder))
    folder.mkdir()
    (folder / "vendor.pem").write_text("nonsense")
    one_line(start_in_vain(ready), "ek-ca-invalid", "vendor.pem")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_folder_that_cannot_be_written(ready):
    for path in ready.state_dir.iterdir():
        path.chmod(0o644)
    ready.state_dir.chmod(0o755)
    ran = run_as_nobody(program.run, ["--config-file", str(ready.config_file)])
    one_line(ran, "state-dir-unwritable", str(ready.state_dir))


def test_without_credentials_only_on_the_loopback_interface(ready):
    ready.options["api", "auth_strategy"] = "noauth"
    with ready:
        assert Http(ready).call("GET", "/v1/hosts").status == 200
    ready.options["api", "bind_host"] = EVERYWHERE
    ready.write_config()
    one_line(start_in_vain(ready), "noauth", "loopback")


def test_it_says_one_line_at_the_start_and_one_at_the_end(ready):
    with ready:
        lines = ready.log.splitlines()
    assert len(lines) == 1
    assert ready.endpoint in lines[0]
    assert ready.log.splitlines()[-1].endswith("stopped")


def test_workers_that_are_only_beginning_end_at_once(ready):
    for _ in range(3):
        ready.restart()  # it serves as soon as one of them does
    ready.stop()
    assert "refused to gracefully stop" not in ready.log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_and_all_its_workers(ready, number):
    ready.start()
    process, everyone = ready._process, [ready.pid, *ready.worker_pids()]
    assert len(everyone) == 3
    with contextlib.closing(Http(ready).connect()) as idle:
        idle.connect()
        os.kill(ready.pid, number)
        assert process.wait(10) == 0
    wait_for(lambda: not any(map(alive, everyone)), 5, "the end")
    assert "Traceback" not in ready.log
    ready.stop()


def test_workers_end_with_a_main_process_that_is_killed(ready):
    ready.start()
    workers = ready.worker_pids()
    os.kill(ready.pid, signal.SIGKILL)
    ready._process.wait(5)
    wait_for(lambda: not any(map(alive, workers)), 10, "the end")
    ready.stop()


def test_a_worker_that_dies_is_replaced(ready):
    with ready:
        victim = ready.worker_pids()[0]
        os.kill(victim, signal.SIGKILL)
        wait_for(
            lambda: len(ready.worker_pids()) == 2 and victim not in ready.worker_pids(), 15,
            "another worker",
        )  # fmt: skip

        def serves():
            try:
                return all(Http(ready).call("GET", "/healthz").status == 200 for _ in range(10))
            except OSError:
                return False

        wait_for(serves, 15, "the service to be whole again")


def test_it_speaks_nothing_older_than_tls_1_3(backend):
    context = ssl.create_default_context(cafile=str(backend.cacert))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection(("127.0.0.1", backend.port)) as plain,
        pytest.raises(ssl.SSLError),
    ):
        context.wrap_socket(plain, server_hostname="localhost")


def secure(backend):
    context = ssl.create_default_context(cafile=str(backend.cacert))
    plain = socket.create_connection(("127.0.0.1", backend.port), timeout=10)
    return context.wrap_socket(plain, server_hostname="localhost")


@pytest.fixture
def many_files():
    """This process may have some thousand connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096) if hard > 0 else 4096, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_C3_slow_clients_do_not_hold_up_the_others(backend, http, many_files):
    """Handshakes that do not begin, headers and bodies that do not end."""
    slow = []
    try:
        for _ in range(1200):
            slow.append(socket.create_connection(("127.0.0.1", backend.port)))
        for _ in range(40):
            header = secure(backend)
            header.sendall(b"GET / HTTP/1.1\r\nHost:")
            body = secure(backend)
            body.sendall(
                b"POST /v1/challenges HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                b'Content-Length: 100\r\n\r\n{"ho'
            )
            slow += [header, body]
        for _ in range(10):
            began = time.monotonic()
            answer = http.call("POST", "/v1/challenges", {"host": "node-1"})
            assert answer.status == 200
            # Were one of them waited for, it would be for half a minute.
            assert time.monotonic() - began < 10
    finally:
        for connection in slow:
            connection.close()


def test_C3_clients_that_go_away_in_the_middle_of_a_body_are_no_fault_of_the_service(ready):
    with ready:
        for size in (100, 100_000):
            with contextlib.closing(secure(ready)) as connection:
                connection.sendall(
                    b"POST /v1/evidence HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                    b"Content-Length: %d\r\n\r\n{" % size
                )
                # Another one's answer comes when the worker has begun with this one.
                assert Http(ready).call("POST", "/v1/challenges", {"host": "node-1"}).status == 200
    assert "Traceback" not in ready.log


def test_C3_500_idle_tls_connections_leave_the_service_answering(backend, http, many_files):
    before = memory(backend)
    with contextlib.ExitStack() as idle:
        for _ in range(500):
            idle.enter_context(contextlib.closing(secure(backend)))
        for _ in range(10):
            began = time.monotonic()
            assert http.call("POST", "/v1/challenges", {"host": "node-1"}).status == 200
            assert time.monotonic() - began < 10
        # Some 40 kB each.
        assert memory(backend) - before < 50_000


def spoken(backend, *parts, timeout=20.0):
    """Whatever comes back until the service closes or is silent."""
    with contextlib.closing(secure(backend)) as connection:
        connection.settimeout(timeout)
        received = b""
        with contextlib.suppress(OSError):
            for part in parts:
                connection.sendall(part)
        with contextlib.suppress(OSError):
            while chunk := connection.recv(65536):
                received += chunk
                if b'"request_id"' in received:
                    break
        return received


def test_C2_an_announced_body_that_is_too_large_is_not_read(backend):
    head = (
        b"POST /v1/evidence HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: 99999999999\r\n\r\n"
    )
    assert b" 413 " in spoken(backend, head)[:20]


def test_C2_endless_chunks_are_refused_at_once(backend):
    head = (
        b"POST /v1/evidence HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    )
    received = spoken(backend, head, b"5\r\nhello\r\n")
    assert b" 411 " in received[:20]
    assert b"body-length-missing" in received


def test_C2_a_body_that_ends_early(backend):
    head = (
        b"POST /v1/challenges HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b'Connection: close\r\nContent-Length: 50\r\n\r\n{"host": "a"}'
    )
    with contextlib.closing(secure(backend)) as connection:
        connection.sendall(head)
        with contextlib.suppress(OSError):
            connection.unwrap()
    assert Http(backend).call("GET", "/healthz").status == 200


@pytest.mark.parametrize("length", [b"-1", b"x", b"1 1", b"0x10", b"99999999999999999999999999"])
def test_C2_odd_lengths(backend, length):
    head = b"POST /v1/challenges HTTP/1.1\r\nHost: x\r\nContent-Length: " + length + b"\r\n\r\n"
    received = spoken(backend, head, timeout=5.0)
    assert received[:13] in (b"HTTP/1.1 400 ", b"HTTP/1.1 413 ") or received == b""


def memory(backend):
    """Kilobytes of all processes."""
    total = 0
    for pid in [backend.pid, *backend.worker_pids()]:
        with open(f"/proc/{pid}/status") as status:
            total += next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
    return total


def test_C2_memory_stays_bounded_under_large_bodies(backend, http):
    before = memory(backend)
    body = b'{"host": "a", "x": "' + b"a" * 10_000_000 + b'"}'
    headers = {"Content-Type": "application/json"}
    for _ in range(20):
        assert http.send("POST", "/v1/evidence", body, headers).status == 400
    assert memory(backend) - before < 200_000


def test_C3_large_bodies_that_do_not_end_leave_room_for_small_ones(ready):
    ready.options["api", "workers"] = 1
    part, stalled = BODIES_IN_ALL // 6, []
    head = (
        b"POST /v1/evidence HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % LARGE_BODY
    )
    with ready:
        try:
            for _ in range(6):
                stalled.append(secure(ready))
                with contextlib.suppress(OSError):  # those that find no room any more
                    stalled[-1].sendall(head + bytes(part))
            for _ in range(10):
                answer = Http(ready).call("POST", "/v1/challenges", {"host": "node-1"})
                assert answer.status == 200
        finally:
            for connection in stalled:
                connection.close()


def test_C2_nesting_and_compression_bombs(backend, http):
    headers = {"Content-Type": "application/json"}
    nested = b'{"host": "a", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    assert http.send("POST", "/v1/challenges", nested, headers).status in (200, 400)
    answer = http.send(
        "POST", "/v1/challenges", b"\x1f\x8b" + bytes(100), {**headers, "Content-Encoding": "gzip"}
    )
    assert (answer.status, answer.code) == (415, "content-encoding")
    assert http.call("GET", "/healthz").status == 200


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/hosts/a%2Fb", 404),
        ("/v1/hosts/a%00", 400),
        ("/v1/hosts/%2e%2e", 400),
        ("/v1/hosts/%252e", 400),
        ("/v1/hosts/%ff", 400),
        ("/v1/hosts/a%0d%0ab", 400),
        ("/v1/hosts/n%C3%B6de", 400),
        ("/v1/hosts/node%2d1", 404),
    ],
)
def test_paths_are_decoded_once(backend, http, path, status):
    answer = http.call("GET", path, token=backend.admin_token)
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"


def test_headers_cannot_be_forged_by_underscores(backend, http):
    headers = {"Authorization_": "x", "AUTHORIZATION_X": "y"}
    assert http.send("GET", "/v1/hosts", None, headers).status == 401
    connection = http.connect()
    connection.putrequest("GET", "/v1/hosts")
    connection.putheader("Authorization", "Bearer wrong")
    connection.putheader("Authorization", f"Bearer {backend.admin_token}")
    connection.endheaders()
    assert connection.getresponse().status == 401
    connection.close()


def test_the_date_is_in_every_answer(http):
    """The agent compares its clock with it."""
    assert http.call("GET", "/").headers["date"]


def test_a_restart_begins_a_new_epoch(ready):
    with ready:
        http = Http(ready)
        first = http.call("GET", "/v1/verdicts", token=ready.scheduler_token).json
        ready.restart()
        path = f"/v1/verdicts?since={first['epoch']}:{first['cursor']}"
        second = http.call("GET", path, token=ready.scheduler_token).json
    assert second["full"] is True
    assert second["epoch"] != first["epoch"]
