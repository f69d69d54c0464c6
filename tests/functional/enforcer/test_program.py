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
"""``oat-enforcer`` as the program it is."""

import os
import signal
import subprocess
import sys

import pytest

from oat_trusted_filter.traits import TRUSTED
from tests.lab.wait import wait_for

COMMAND = [sys.executable, "-m", "oat_trusted_filter.cmd.enforcer"]
SECONDS = 60


@pytest.fixture
def config(tmp_path, front, backend):
    """Writes a configuration file; options in capitals belong to [placement]."""

    def write(name="enforcer.conf", **options):
        groups = {
            "enforcer": {
                "endpoint": backend.endpoint,
                "ca_file": backend.cacert,
                "token_file": backend.token_file,
                "refresh_interval": 0.1,
                "name": name,
            },
            "placement": {
                "auth_type": "admin_token",
                "endpoint": front.endpoint,
                "token": "admin",
            },
        }
        for option, value in options.items():
            group = groups["placement" if option.isupper() else "enforcer"]
            group[option.lower()] = value
        lines = []
        for group, values in groups.items():
            lines.append(f"[{group}]")
            lines += [f"{key} = {value}" for key, value in values.items() if value is not None]
        path = tmp_path / name
        path.write_text("\n".join([*lines, ""]))
        return path

    return write


def run(*arguments):
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )


class Running:
    """The daemon, with its log in a file; a context manager."""

    def __init__(self, config):
        self._config = config
        self.log_path = config.with_suffix(".log")

    def __enter__(self):
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*COMMAND, "--config-file", str(self._config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return self

    def __exit__(self, *exc_info):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(SECONDS)

    @property
    def log(self):
        return self.log_path.read_text()

    def stop(self):
        """SIGTERM; returns the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(SECONDS)


def test_the_daemon_follows_the_verdicts_until_sigterm(config, placement, backend):
    host = placement.add("compute-1")
    backend.say("trusted", "compute-1")
    with Running(config()) as daemon:
        wait_for(lambda: placement.traits(host) == {TRUSTED}, SECONDS, "the trait")
        backend.say("untrusted", "compute-1", reason="pcr-mismatch")
        wait_for(lambda: placement.traits(host) == set(), SECONDS, "its end")
        assert daemon.stop() == 0
        assert (
            "removed CUSTOM_OAT_TRUSTED; host compute-1 is untrusted (pcr-mismatch)" in daemon.log
        )
        assert "traits: all compared: 1 set, 0 removed" in daemon.log
        assert "Traceback" not in daemon.log


def test_two_daemons_one_acts_and_the_other_takes_over(config, placement, backend, tmp_path):
    host = placement.add("compute-1")
    url = f"file://{tmp_path}/coordination"
    with Running(config("one.conf", coordination_url=url)) as one:
        wait_for(lambda: "this enforcer acts" in one.log, SECONDS, "the first to act")
        with Running(config("two.conf", coordination_url=url)) as two:
            wait_for(lambda: "following the verdicts" in two.log, SECONDS, "the second")
            assert "this enforcer acts" not in two.log
            # Not an orderly stop, but a crash.
            os.kill(one.process.pid, signal.SIGKILL)
            one.process.wait(SECONDS)
            wait_for(lambda: "this enforcer acts" in two.log, SECONDS, "the second to act")
            backend.say("trusted", "compute-1")
            wait_for(lambda: placement.traits(host) == {TRUSTED}, SECONDS, "the trait")
            assert two.stop() == 0


def test_the_daemon_starts_before_backend_and_placement(config, placement, front, backend):
    host = placement.add("compute-1")
    backend.say("trusted", "compute-1")
    front.fault = lambda method, path: 503
    good, backend.token = backend.token, "not yet"
    with Running(config()) as daemon:
        wait_for(lambda: "gives no verdicts" in daemon.log, SECONDS, "the first complaint")
        backend.token = good
        wait_for(lambda: "[placement-failed]" in daemon.log, SECONDS, "the second complaint")
        front.fault = None
        wait_for(lambda: placement.traits(host) == {TRUSTED}, SECONDS, "the trait")
        assert daemon.stop() == 0


def test_once_does_all_and_says_how_it_went(config, placement, backend):
    good, bad = placement.add("compute-1"), placement.add("compute-2")
    backend.say("trusted", "compute-1", "compute-3")
    backend.say("untrusted", "compute-2")
    done = run("--config-file", config(), "--once")
    assert (done.returncode, placement.traits(good)) == (0, {TRUSTED})
    assert done.stdout.splitlines()[-1] == (
        "1 set, 0 removed, 0 failed, 0 incidents, 1 unchanged, 1 waiting, 0 pending"
    )

    placement.change(bad, add={TRUSTED})
    dry = run("--config-file", config(), "--once", "--dry-run")
    assert dry.returncode == 2
    assert "incident trait-not-ours" in dry.stdout + dry.stderr
    assert placement.traits(bad) == {TRUSTED}

    done = run("--config-file", config(), "--once")
    assert (done.returncode, placement.traits(bad)) == (2, set())
    assert run("--config-file", config(), "--once").returncode == 0


def test_once_without_verdicts_or_placement_is_an_error_and_touches_nothing(
    config, placement, front, backend
):
    host = placement.add("compute-1")
    placement.change(host, add={TRUSTED})
    front.fault = lambda method, path: 503
    backend.say("untrusted", "compute-1")
    done = run("--config-file", config(), "--once")
    assert done.returncode == 3
    assert "oat-enforcer: [placement-failed]" in done.stderr

    front.fault = None
    backend.stop()
    done = run("--config-file", config(outage_grace=0.0), "--once")
    assert done.returncode == 3
    assert "oat-enforcer: [no-verdicts]" in done.stderr
    assert placement.traits(host) == {TRUSTED}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"token_file": "/nonexistent"}, "token-file-missing"),
        ({"ca_file": "/nonexistent"}, "ca-file-missing"),
        ({"endpoint": "attest.example.org"}, "endpoint-invalid"),
        ({"refresh_interval": "soon"}, "refresh_interval"),
        ({"coordination_url": "nonsense://here"}, "coordination_url"),
        ({"AUTH_TYPE": None}, "[placement] auth_type is not set"),
        ({"AUTH_TYPE": "nonsense"}, "[placement] cannot be used"),
        ({"AUTH_TYPE": "password"}, "[placement] cannot be used"),
    ],
)
def test_a_mistake_of_the_operator_is_one_clear_line(config, options, words):
    done = run("--config-file", config(**options))
    assert done.returncode == 3
    assert done.stderr.startswith("oat-enforcer: ")
    assert done.stderr.count("\n") == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_help_and_wrong_switches(config):
    done = run("--help")
    assert done.returncode == 0
    assert "--dry-run" in done.stdout
    assert "2 done, and" in done.stdout
    assert run("--nonsense").returncode == 3
