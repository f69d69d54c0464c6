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
"""nova-scheduler makes its filters, then forks its workers; it may run on green threads."""

import json
import multiprocessing
import os
import subprocess
import sys
import textwrap
import threading

import pytest

from oat_trusted_filter.scheduler.source import VerdictSource
from tests.lab.scripted_backend import hang
from tests.lab.wait import wait_for
from tests.unit.scheduler.conftest import passed

NAMES = ("a", "b")
_FORK = multiprocessing.get_context("fork")


def in_a_fork(function):
    """Start ``function`` in a fork; returns what waits for its result."""
    receiver, sender = _FORK.Pipe(duplex=False)

    def work():
        try:
            sender.send(function())
        finally:
            sender.close()

    process = _FORK.Process(target=work, daemon=True)
    process.start()
    sender.close()

    def result():
        try:
            assert receiver.poll(30), "the fork does not answer"
            return receiver.recv()
        finally:
            process.join(5)
            if process.is_alive():
                process.kill()

    return result


def test_nothing_is_started_when_the_filter_is_made(make_filter, backend):
    threads = set(threading.enumerate())
    make_filter()
    assert threads.issuperset(threading.enumerate())
    assert backend.connections == 0


def test_every_worker_has_its_own_verdicts_and_its_own_connection(make_filter, backend):
    backend.say("trusted", "a")
    trusted_filter = make_filter()
    results = [in_a_fork(lambda: [passed(trusted_filter, NAMES) for _ in range(3)])
               for _ in range(2)]  # fmt: skip
    assert [result() for result in results] == [[["a"]] * 3] * 2
    assert (backend.connections, len(backend.requests)) == (2, 2)


def test_a_filter_that_was_used_before_the_fork_works_on_both_sides(make_filter, backend):
    trusted_filter = make_filter(refresh_interval=0.0)
    backend.say("trusted", "a")
    assert passed(trusted_filter, NAMES) == ["a"]
    assert in_a_fork(lambda: passed(trusted_filter, NAMES))() == ["a"]
    assert backend.connections == 2
    assert passed(trusted_filter, NAMES) == ["a"]
    assert backend.connections == 2, "the connection of the parent was left alone"


def test_a_fork_while_a_request_is_under_way_does_not_wait_for_it(make_filter, backend):
    trusted_filter = make_filter(deadline=30.0)
    backend.say("trusted", "a")
    release = threading.Event()

    def hold(handler):
        backend.fault = None
        release.wait(30)
        handler.answer_now()

    backend.fault = hold
    found = []
    parent = threading.Thread(target=lambda: found.append(passed(trusted_filter, NAMES)))
    parent.start()
    try:
        wait_for(lambda: len(backend.requests) == 1, 10, "the request of the parent")
        assert in_a_fork(lambda: passed(trusted_filter, NAMES))() == ["a"]
        assert found == []
    finally:
        release.set()
        parent.join(30)
    assert found == [["a"]]


def test_a_fork_while_the_lock_is_held_does_not_wait_for_it(make_filter, backend):
    trusted_filter = make_filter()
    backend.say("trusted", "a")
    passed(trusted_filter, NAMES)
    source = trusted_filter._source
    assert isinstance(source, VerdictSource)
    with source._processes[os.getpid()].lock:
        assert in_a_fork(lambda: passed(trusted_filter, NAMES))() == ["a"]


def _run(code, *arguments, **environment):
    """Run a program of its own; returns what it prints, from JSON."""
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code), *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


def test_the_packages_of_the_filter_need_neither_nova_nor_a_tpm_library():
    assert _run(
        """
        import json, sys

        class Missing:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in ("nova", "tpm2_pytss", "falcon", "msgspec",
                                              "sqlalchemy", "alembic", "granian", "bcrypt",
                                              "cliff"):
                    raise ImportError(name)

        sys.meta_path.insert(0, Missing())
        import oat_trusted_filter.scheduler
        from oat_trusted_filter.client import http
        from oat_trusted_filter.conf import trusted_computing
        from oat_trusted_filter.scheduler import decision, settings, snapshot, source
        print(json.dumps([n for n in sys.modules if n.startswith("oat_trusted_filter.backend")]))
        """
    ) == []  # fmt: skip


def test_importing_the_filter_starts_nothing_and_reads_no_configuration():
    assert _run(
        """
        import json, socket, sys, threading
        import nova.conf  # asks the kernel for the address of this machine

        def forbidden(*args, **kwargs):
            raise AssertionError("a connection")

        socket.socket.connect = forbidden
        from oat_trusted_filter.scheduler.trusted_filter import TrustedFilter
        print(json.dumps([threading.active_count(), "trusted_computing" in nova.conf.CONF]))
        """,
        OS_NOVA_DISABLE_EVENTLET_PATCHING="true",
    ) == [1, False]


_GREEN = """
import json, sys, time
from nova import monkey_patch
if hasattr(monkey_patch, "patch"):  # before Nova 31 the import alone does it
    monkey_patch.patch()
import eventlet
import logging
logging.disable(logging.CRITICAL)
import nova.conf
from nova.objects.flavor import Flavor
from nova.objects.request_spec import RequestSpec
from nova.scheduler.host_manager import HostState
from oat_trusted_filter.conf import trusted_computing
from oat_trusted_filter.scheduler.trusted_filter import TrustedFilter

trusted_computing.register_opts(nova.conf.CONF)
for name, value in json.loads(sys.argv[1]).items():
    nova.conf.CONF.set_override(name, value, group="trusted_computing")
trusted_filter = TrustedFilter()
spec = RequestSpec(
    flavor=Flavor(name="f", extra_specs={"trust:trusted_host": "trusted"}), scheduler_hints={}
)
hosts = [HostState(name, name, None) for name in ("a", "b")]
ticks = []

def tick():
    while True:
        ticks.append(1)
        eventlet.sleep(0.02)

ticker = eventlet.spawn(tick)
started = time.monotonic()
greenlets = [eventlet.spawn(trusted_filter.filter_all, hosts, spec) for _ in range(20)]
found = [[host.nodename for host in greenlet.wait()] for greenlet in greenlets]
took = time.monotonic() - started
eventlet.sleep(float(sys.argv[2]))
print(json.dumps({"found": found, "took": took, "ticks": len(ticks),
                  "patched": eventlet.patcher.is_monkey_patched("socket")}))
"""


@pytest.fixture
def green_scheduler(backend, token_file):
    """Twenty requests at once in a scheduler that runs on eventlet."""
    options = {
        "endpoint": backend.endpoint,
        "attestation_server_ca_file": backend.cacert,
        "token_file": str(token_file),
        "deadline": 1.0,
    }

    def run(linger=0, **more):
        return _run(
            _GREEN, json.dumps(options | more), str(linger),
            OS_NOVA_DISABLE_EVENTLET_PATCHING="false",
        )  # fmt: skip

    return run


def test_on_green_threads_many_share_one_request(green_scheduler, backend):
    backend.say("trusted", "a")
    outcome = green_scheduler()
    assert outcome["patched"]
    assert outcome["found"] == [["a"]] * 20
    assert len(backend.requests) == 1


def test_on_green_threads_the_verdicts_are_kept_fresh_between_passes(green_scheduler, backend):
    backend.say("trusted", "a")
    outcome = green_scheduler(linger=1.0, refresh_interval=0.1)
    assert outcome["found"] == [["a"]] * 20
    assert len(backend.requests) >= 3


def test_on_green_threads_a_hang_costs_the_deadline_and_stops_nobody_else(green_scheduler, backend):
    backend.fault = hang
    outcome = green_scheduler()
    assert outcome["found"] == [[]] * 20
    assert 0.9 < outcome["took"] < 3.0
    assert outcome["ticks"] > 10
    assert len(backend.requests) == 1
