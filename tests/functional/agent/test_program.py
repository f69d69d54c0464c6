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
"""oat-agent as its operator meets it: mistakes, --help, --check, start and stop."""

import socket

import pytest

from tests.functional.agent.running import RunningAgent, run_agent, write_config
from tests.lab.boots import Boot, replay
from tests.lab.wait import wait_for

AWAY = "http://127.0.0.1:9"  # the discard port; nobody listens


@pytest.fixture(scope="module")
def booted_tpm(shared_tpm):
    """A TPM with the PCRs of a recorded boot."""
    replay(Boot("machine-a"), shared_tpm.tcti)
    return shared_tpm


@pytest.fixture
def good(booted_tpm):
    """Options that work, but for the backend, which is away."""
    return {
        "endpoint": AWAY,
        "host": "host-1",
        "tcti": booted_tpm.tcti,
        "boot_log": Boot("machine-a").boot_log_path,
    }


@pytest.mark.parametrize("switch", ["--once", "--check", None])
@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("ca_file", "/missing/ca.pem", "ca_file /missing/ca.pem cannot be read"),
        ("ca_file", "/dev/null", "holds no PEM certificates"),
        ("endpoint", "attest.example.org", "endpoint is 'attest.example.org'"),
        ("endpoint", "https://host:port", "endpoint is 'https://host:port'"),
        ("ek_template", "dsa", "ek_template"),
        ("timeout", "soon", "timeout"),
        ("host", "a/b", "host is 'a/b'"),
        ("host", "a..b", "host is 'a..b'"),
    ],
)
def test_mistakes_in_the_configuration_are_one_line(tmp_path, good, option, value, said, switch):
    config = write_config(tmp_path, **{**good, option: value})
    result = run_agent(config, *([switch] if switch else []))
    assert result.returncode == 3
    assert result.stderr.startswith("oat-agent: ")
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("switch", ["--once", None])
@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("tcti", "device:/dev/no-tpm", "[tpm-unreachable] no TPM at [agent] tcti"),
        ("tcti", "swtpm:path=/missing", "[tpm-unreachable] no TPM at [agent] tcti"),
        ("boot_log", "/missing/log", "[boot-log-unreadable] [agent] boot_log /missing/log"),
        ("boot_log", "/", "[boot-log-unreadable]"),
        ("boot_log", "/dev/null", "[boot-log-empty]"),
    ],
)
def test_missing_parts_of_the_host_are_one_line(tmp_path, good, option, value, said, switch):
    config = write_config(tmp_path, **{**good, option: value})
    result = run_agent(config, *([switch] if switch else []))
    assert result.returncode == 3
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_missing_configuration_file_and_unknown_switch(tmp_path, good):
    missing = run_agent(tmp_path / "missing.conf")
    assert missing.returncode == 3
    assert str(tmp_path / "missing.conf") in missing.stderr
    assert len(missing.stderr.splitlines()) == 1
    unknown = run_agent(write_config(tmp_path, **good), "--onse")
    assert unknown.returncode == 3
    assert "--onse" in unknown.stderr
    assert "Traceback" not in unknown.stderr


def test_help_tells_the_exit_statuses(tmp_path, good):
    result = run_agent(write_config(tmp_path, **good), "--help")
    assert result.returncode == 0
    text = " ".join(result.stdout.split())
    assert "0 trusted, 1 untrusted, 2 unknown or waiting for approval, 3 an error" in text


def test_once_without_backend_is_an_error_in_one_line(tmp_path, good):
    result = run_agent(write_config(tmp_path, **good), "--once")
    assert result.returncode == 3
    assert len(result.stderr.splitlines()) == 1
    assert "Traceback" not in result.stderr


def lines_of(result):
    """The lines of --check: subject -> (OK or FAIL, text)."""
    return {
        line[6:21].strip(): (line[:4].strip(), line[23:]) for line in result.stdout.splitlines()
    }


def test_check_names_what_fails_and_what_does_not(tmp_path, good):
    result = run_agent(write_config(tmp_path, **good), "--check")
    lines = lines_of(result)
    assert result.returncode == 3
    assert {subject: state for subject, (state, _) in lines.items()} == {
        "host": "OK",
        "TPM": "OK",
        "endorsement key": "OK",
        "quote": "OK",
        "boot log": "OK",
        "IMA log": "OK",
        "backend": "FAIL",
        "clock": "FAIL",
    }
    assert "leads to the PCRs of the TPM" in lines["boot log"][1]
    assert "sha1, sha256, sha384" in lines["quote"][1]
    assert "RSA-2048, with certificate" in result.stdout


def test_check_sees_the_log_of_another_boot(tmp_path, good):
    config = write_config(tmp_path, **{**good, "boot_log": Boot("machine-a-loader").boot_log_path})
    state, text = lines_of(run_agent(config, "--check"))["boot log"]
    assert state == "FAIL"
    assert "sha256:4" in text


def test_check_without_tpm_goes_on(tmp_path, good):
    result = run_agent(write_config(tmp_path, **{**good, "tcti": "device:/dev/no"}), "--check")
    lines = lines_of(result)
    assert lines["TPM"][0] == "FAIL"
    assert lines["boot log"][0] == "OK"
    assert "not compared with the TPM" in lines["boot log"][1]


def test_agent_waits_for_a_backend_that_is_away_and_stops_at_once(tmp_path, good):
    config = write_config(tmp_path, **good, retry_max=0.1)
    with RunningAgent(config) as agent:
        wait_for(lambda: agent.log.count("next try") >= 3, 30, "three attempts")
        assert agent.terminate(seconds=5) == 0
    assert "Traceback" not in agent.log


def test_agent_stops_while_a_request_hangs(tmp_path, good):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        config = write_config(tmp_path, **{**good, "endpoint": f"http://127.0.0.1:{port}"})
        with RunningAgent(config) as agent:
            silent.settimeout(30)
            connection, _ = silent.accept()
            with connection:
                assert agent.terminate(seconds=10) == 0


def test_stack_is_silent(tmp_path, good):
    result = run_agent(write_config(tmp_path, **{**good, "ek_template": "p256"}), "--check")
    assert "WARNING" not in result.stderr
    assert "ERROR" not in result.stderr
