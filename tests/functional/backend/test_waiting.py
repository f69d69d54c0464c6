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
"""Who has to wait for whom."""

import contextlib
import sqlite3
from concurrent.futures import ThreadPoolExecutor

from oat_trusted_filter.backend.api.gateway import THREADS
from oat_trusted_filter.backend.store import hosts
from oat_trusted_filter.backend.store.engine import Store
from tests.functional.backend.parts import Http
from tests.lab.load import SimulatedHost, Wire, context_of
from tests.unit.backend.conftest import candidate_of


def test_hosts_that_wait_for_the_database_keep_nobody_else_waiting(backend_maker):
    """Somebody writes for a long time, and SQLite lets nobody else."""
    backend = backend_maker({("api", "workers"): 1})
    made = [SimulatedHost(f"node-{number}") for number in range(THREADS + 2)]
    path = backend.state_dir / "oat.sqlite"
    store = Store(f"sqlite:///{path}")
    for host in made:
        candidate = candidate_of(host)
        store.write(lambda c, one=candidate: hosts.approve(c, hosts.enrol(c, one, 1)))
    store.close()
    with backend, contextlib.ExitStack() as stack:
        wires = [stack.enter_context(Wire(backend, context_of(backend))) for _ in made]
        rounds = stack.enter_context(ThreadPoolExecutor(len(made)))
        database = stack.enter_context(contextlib.closing(sqlite3.connect(path)))
        database.execute("BEGIN IMMEDIATE")
        doing = [
            rounds.submit(wire.round, host, with_log=True)
            for wire, host in zip(wires, made, strict=True)
        ]
        http, token = Http(backend), {"Authorization": f"Bearer {backend.scheduler_token}"}
        for _ in range(20):
            answer = http.send("GET", "/v1/verdicts", headers=token, timeout=5)
            assert answer.status == 200
            body = {"region": "", "host": made[0].name}
            assert http.call("POST", "/v1/challenges", body).status == 200
        assert not any(one.done() for one in doing)
        database.rollback()
        for one in doing:
            one.result(30)
