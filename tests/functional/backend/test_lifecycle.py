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
"""oat-attestation-api under load: reloading, stopping, and what it leaves behind."""

import contextlib
import json
import os
import signal
import ssl
import threading

import pytest

from oat_trusted_filter.backend.settings import Settings
from tests.functional.backend.parts import Http
from tests.lab.wait import wait_for

IPV6 = "::1"


@pytest.fixture
def ready(backend_maker):
    """A backend that could start."""
    return backend_maker()


@contextlib.contextmanager
def load(http, threads=3):
    """Registers hosts all the time; yields those that were acknowledged, and what went wrong."""
    acknowledged, failures, stop = [], [], threading.Event()

    def work(number):
        count = 0
        while not stop.is_set():
            count += 1
            name = f"load-{number}-{count}"
            body = {"host": name, "ek_fingerprint": f"{number:032x}{count:032x}"}
            try:
                answer = http.call("POST", "/v1/hosts", body, token=http.backend.admin_token)
            except OSError as error:
                failures.append(error)
                continue
            (acknowledged if answer.status == 201 else failures).append(name)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    try:
        yield acknowledged, failures
    finally:
        stop.set()
        for worker in workers:
            worker.join(30)


def registered(backend):
    found = Http(backend).call("GET", "/v1/hosts", token=backend.admin_token).json["hosts"]
    return {host["host"] for host in found}


def served_names(backend):
    """The names in the certificate the service shows."""
    context = ssl.create_default_context(cafile=str(backend.cacert))
    connection = Http(backend).connect()
    connection.context = context
    with contextlib.closing(connection):
        connection.connect()
        found = connection.sock.getpeercert()["subjectAltName"]
    return {value for kind, value in found if kind == "DNS"}


def test_reloading_under_load_loses_nothing_and_reads_everything_anew(ready):
    with ready:
        http, before = Http(ready), ready.worker_pids()
        ready.manage("init", "--host", "new.example.org")
        assert "new.example.org" not in served_names(ready)
        with load(http) as (acknowledged, failures):
            wait_for(lambda: len(acknowledged) > 5, 20, "load")
            os.kill(ready.pid, signal.SIGHUP)
            wait_for(
                lambda: len(ready.worker_pids()) == 2 and not {*before} & {*ready.worker_pids()},
                40, "other workers",
            )  # fmt: skip
            wait_for(lambda: "new.example.org" in served_names(ready), 20, "the new certificate")
            mark = len(acknowledged)
            wait_for(lambda: len(acknowledged) > mark + 5, 20, "more load")
        # A worker that goes closes connections it has accepted and not read from; whoever was
        # answered was answered well.
        assert all(isinstance(failure, OSError) for failure in failures)
        assert set(acknowledged) <= registered(ready)


def test_a_reload_that_cannot_work_changes_nothing(ready):
    with ready:
        before = ready.worker_pids()
        (ready.state_dir / "server.pem").write_text("nonsense")
        os.kill(ready.pid, signal.SIGHUP)
        wait_for(lambda: "not reloaded" in ready.log, 20, "a line in the log")
        assert "tls-file-invalid" in ready.log
        assert ready.worker_pids() == before
        assert Http(ready).call("GET", "/healthz").status == 200
        assert "Traceback" not in ready.log


def test_C1_a_service_others_reach_does_not_stop_asking_for_credentials(ready):
    """Not by a reload, and not in a worker that is replaced, though the file names a loopback."""
    ready.options["api", "bind_host"] = "0.0.0.0"  # noqa: S104
    with ready:
        before = ready.worker_pids()
        ready.options["api", "bind_host"] = "127.0.0.1"
        ready.options["api", "auth_strategy"] = "noauth"
        ready.write_config()
        os.kill(ready.pid, signal.SIGHUP)
        wait_for(lambda: "not reloaded" in ready.log, 20, "a line in the log")
        assert "listens on 0.0.0.0" in ready.log
        assert ready.worker_pids() == before
        reload_said = len(ready.log)
        os.kill(before[0], signal.SIGKILL)
        wait_for(
            lambda: "listens on 0.0.0.0" in ready.log[reload_said:], 20, "the new worker to refuse"
        )
        with contextlib.suppress(OSError):
            assert Http(ready).call("GET", "/v1/hosts").status == 401
        assert "Traceback" not in ready.log


def test_stopping_under_load_loses_no_acknowledged_request(ready):
    ready.start()
    with load(Http(ready)) as (acknowledged, failures):
        wait_for(lambda: len(acknowledged) > 10, 20, "load")
        ready.stop()
        wait_for(lambda: failures, 20, "the end")
    with ready:
        assert set(acknowledged) <= registered(ready)
    assert "Traceback" not in ready.log


def test_it_serves_ipv6(ready):
    ready.options["api", "bind_host"] = IPV6
    ready.options["api", "challenges_per_minute"] = 1
    assert Settings.__dataclass_fields__["bind_host"]
    endpoint = f"https://[{IPV6}]:{ready.port}"
    type(ready).endpoint, kept = property(lambda self: endpoint), type(ready).endpoint
    try:
        with ready:
            assert endpoint in ready.log
            connection = Http(ready).connect()
            connection.host = IPV6
            with contextlib.closing(connection):
                connection.request("GET", "/")
                href = json.loads(connection.getresponse().read())["versions"][0]["links"][0]
            assert href["href"].startswith(endpoint)
    finally:
        type(ready).endpoint = kept


def test_structured_logs_and_figures_of_all_workers(ready):
    ready.options["DEFAULT", "use_json"] = True
    came = "req-11111111-2222-3333-4444-555555555555"
    with ready:
        http = Http(ready)
        for number in range(30):
            assert http.call("GET", f"/v1/nothing-{number}").code == "route-unknown"
        body = {"host": "json-1", "ek_fingerprint": "5" * 64}
        answer = http.call(
            "POST", "/v1/hosts", body, token=ready.admin_token, X_OpenStack_Request_ID=came
        )
        for _ in range(4):
            text = http.call("GET", "/metrics", token=ready.admin_token).body.decode()
            assert 'oat_refusals_total{code="route-unknown"} 30.0' in text
    lines = [json.loads(line) for line in ready.log.splitlines()]
    (said,) = [line for line in lines if "json-1" in line["message"]]
    assert said["context"]["request_id"] == answer.headers["x-openstack-request-id"]
    assert said["context"]["global_request_id"] == came


def test_C6_no_secret_in_logs_answers_or_files_others_can_read(ready, tmp_path):
    ready.options["DEFAULT", "debug"] = True
    with ready:
        http = Http(ready)
        token = ready.manage("token", "create", "c6", "--role", "reader").stdout.strip()
        password = "correct horse battery"
        ready.manage("user", "create", "ann", "--role", "reader", stdin=f"{password}\n")
        answers = [
            http.call("GET", "/v1/hosts", token=token),
            http.call("GET", "/v1/hosts", token=f"{token}x"),
            http.call("GET", f"/v1/hosts/{token}", token=token),
            http.call("POST", "/v1/evidence", {"host": "a", "challenge": token}, token=token),
            http.call("GET", "/metrics", token=token),
            http.call("GET", "/v1/audit", token=token),
        ]
        ready.manage("token", "rotate", "c6")
    said = ready.log + "".join(answer.body.decode() for answer in answers[:2] + answers[3:])
    secrets = [token, password, ready.admin_token, ready.scheduler_token]
    secrets += [
        line.split()[0]
        for line in (ready.state_dir / "challenge.key").read_text().splitlines()
    ]
    for secret in secrets:
        assert secret not in said
    for path in ready.state_dir.iterdir():
        data = path.read_bytes()
        if any(secret.encode() in data for secret in secrets) or b"PRIVATE KEY" in data:
            assert path.stat().st_mode & 0o077 == 0, path
