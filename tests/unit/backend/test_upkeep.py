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
"""What goes on beside the requests: the audit trail leaves the house, whoever takes it."""

import json
import os
import socket
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from oat_trusted_filter import trail
from oat_trusted_filter.backend.api import upkeep
from oat_trusted_filter.backend.api.upkeep import Upkeep
from oat_trusted_filter.backend.store import audit
from oat_trusted_filter.trail import HEAD_TYPE, Head, Row
from tests.lab.wait import wait_for


def act(place, number=1):
    for _ in range(number):
        place.store.write(lambda c: audit.record(c, actor="änn", action="thing.do"))


def made(place, **options):
    settings = replace(place.settings, **options)
    service = place.service
    return Upkeep(
        settings, service.store, service.signing, service.clock, upkeep.receivers(settings)
    )


def read(text):
    """Rows and heads of an export."""
    lines = [json.loads(line) for line in text.splitlines()]
    rows = [
        Row(**{**line["row"], "details": trail.canonical(line["row"]["details"])})
        for line in lines if "row" in line
    ]  # fmt: skip
    return rows, [line["head"] for line in lines if "head" in line]


def heads(place, tokens):
    return [
        Head(said["sequence"], said["digest"])
        for said in (place.service.signing.verify(token, HEAD_TYPE) for token in tokens)
    ]


class Receiver(HTTPServer):
    """A webhook on the loopback interface that answers as the test says."""

    def __init__(self):
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):  # noqa: N802
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.answering.wait(20)
                receiver.bodies.append(json.loads(body))
                self.send_response(receiver.status)
                self.end_headers()

            def log_message(self, *args):
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.bodies = []
        self.status = 204
        self.answering = threading.Event()
        self.answering.set()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/hook"

    @property
    def sequences(self):
        return [row["sequence"] for body in self.bodies for row in body["rows"]]


@pytest.fixture
def receiver():
    server = Receiver()
    yield server
    server.answering.set()
    server.shutdown()
    server.server_close()


def test_rows_and_signed_heads_get_into_a_file(place, tmp_path):
    path = tmp_path / "audit.jsonl"
    work = made(place, audit_file=path)
    act(place, 3)
    work.run_pass()
    work.run_pass()
    act(place, 2)
    work.run_pass()
    rows, tokens = read(path.read_text())
    assert [row.sequence for row in rows] == [1, 2, 3, 4, 5]
    assert [head.sequence for head in heads(place, tokens)] == [3, 5]
    assert trail.faults(rows, heads(place, tokens)) == []
    # Another process goes on from there.
    act(place)
    made(place, audit_file=path).run_pass()
    assert [row.sequence for row in read(path.read_text())[0]] == [1, 2, 3, 4, 5, 6]


def test_C6_others_may_not_read_the_file_whatever_the_umask_is(place, tmp_path):
    path = tmp_path / "audit.jsonl"
    act(place)
    umask = os.umask(0)
    try:
        made(place, audit_file=path).run_pass()
    finally:
        os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o640
    assert read(path.read_text())[0]


def test_C6_the_address_of_a_webhook_stays_out_of_the_log(place, caplog):
    act(place)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    made(place, audit_webhook=f"http://127.0.0.1:{port}/hook-s3cret?key=s3cret").run_pass()
    assert "the audit trail does not get to webhook: ConnectionError" in caplog.text
    assert "s3cret" not in caplog.text


def test_syslog(place, tmp_path):
    path = str(tmp_path / "log")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(path)
        log.settimeout(10)
        act(place)
        made(place, audit_syslog=path).run_pass()
        row, head = log.recv(65536).decode(), log.recv(65536).decode()
    assert row.startswith("<86>oat-audit: {")
    assert json.loads(row.partition(": ")[2])["row"]["actor"] == "änn"
    assert json.loads(head.partition(": ")[2])["head"]


def test_a_webhook_gets_all_rows_in_their_order(place, receiver, monkeypatch):
    monkeypatch.setattr(upkeep, "BATCH", 4)
    act(place, 10)
    made(place, audit_webhook=receiver.url).run_pass()
    assert receiver.sequences == list(range(1, 11))
    assert heads(place, [receiver.bodies[-1]["head"]])[0].sequence == 10


@pytest.mark.parametrize("status", [301, 403, 500])
def test_what_a_receiver_refuses_goes_out_again(place, receiver, status):
    receiver.status = status
    work = made(place, audit_webhook=receiver.url)
    act(place)
    work.run_pass()
    receiver.status = 200
    act(place)
    work.run_pass()
    work.run_pass()
    assert receiver.sequences == [1, 1, 2]


def test_a_receiver_that_fails_keeps_no_other_one_waiting(place, tmp_path):
    path = tmp_path / "audit.jsonl"
    act(place)
    for bad in ({"audit_webhook": "http://127.0.0.1:1/"}, {"audit_syslog": "/no/such/socket"}):
        made(place, audit_file=path, **bad).run_pass()
    assert len(read(path.read_text())[0]) == 1


def test_E10_a_slow_or_dead_receiver_leaves_attestation_alone(place, receiver):
    host = place.approved_host()
    host.attest()
    place.trust(host)
    receiver.answering.clear()
    work = made(place, audit_webhook=receiver.url)
    thread = threading.Thread(target=work.run_pass)
    thread.start()
    # The receiver holds its batch while hosts attest, are found out, and operators act.
    assert host.attest() == "trusted"
    host.boot("machine-a-loader")
    assert host.attest() == "untrusted"
    place.trust(host)
    assert thread.is_alive()
    receiver.answering.set()
    thread.join(20)
    assert not thread.is_alive()
    work.run_pass()
    with place.store.read() as connection:
        assert receiver.sequences[-1] == audit.head(connection).sequence
    dead = made(place, audit_webhook="http://127.0.0.1:1/")
    dead.run_pass()
    assert host.attest() == "trusted"


def test_the_settled_head_is_remembered(place):
    act(place)
    work = made(place)
    work.run_pass()
    signing = place.service.signing
    assert upkeep.remembered_head(place.settings, signing) is None
    act(place)
    place.clock.pass_by(upkeep.SETTLED_SECONDS)
    work.run_pass()
    assert upkeep.remembered_head(place.settings, signing).sequence == 1
    place.clock.pass_by(upkeep.SETTLED_SECONDS)
    work.run_pass()
    assert upkeep.remembered_head(place.settings, signing).sequence == 2
    upkeep.state_file(place.settings).write_text("nonsense")
    assert upkeep.remembered_head(place.settings, signing) is None
    act(place)
    work.run_pass()


def test_only_one_worker_of_a_machine_does_it(place, tmp_path):
    service = replace(
        place.service,
        settings=replace(
            place.settings, audit_file=tmp_path / "audit.jsonl", audit_interval=0.01
        ),
    )
    threads = [upkeep.start(service) for _ in range(3)]
    act(place, 5)
    path = tmp_path / "audit.jsonl"
    wait_for(lambda: path.exists() and path.read_text().count('"row"') >= 5, 20, "the export")
    rows, _ = read(path.read_text())
    assert [row.sequence for row in rows] == [1, 2, 3, 4, 5]
    assert all(thread.daemon for thread in threads)
