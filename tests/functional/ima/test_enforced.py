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
"""Hosts that have to show every file they use: good ones, and those that cheat."""

import pytest

from oat_trusted_filter.agent import attester as attester_module
from tests.lab.boots import extend_pcr
from tests.lab.file_keys import FileKey


@pytest.fixture
def sent(monkeypatch):
    """The parts an agent sends: offset and bytes."""
    found = []
    genuine = attester_module.read_ima_log

    def noted(path, offset, most):
        part = genuine(path, offset, most)
        found.append((part.offset, len(part.data)))
        return part

    monkeypatch.setattr(attester_module, "read_ima_log", noted)
    return found


def test_nothing_is_asked_for_nothing_is_sent(host, sent):
    assert host.agent().round().level == "trusted"
    assert sent == [(None, 0)]


def test_only_what_is_new_is_sent(enforced, sent):
    host, agent = enforced
    before = len(host.kernel.log)
    agent.round()
    host.run("/usr/bin/login")
    assert agent.round().level == "trusted"
    assert sent == [(before, 0), (before, len(host.kernel.log) - before)]
    # A new agent asks first.
    assert host.agent().round().level == "trusted"
    assert sent[2:] == [(None, 0), (len(host.kernel.log), 0)]


def test_an_unknown_file_costs_trust(enforced, oat):
    host, agent = enforced
    host.run("/tmp/evil", content=b"evil")
    outcome = agent.round()
    assert (outcome.level, outcome.code) == ("untrusted", "ima-unknown-file")
    assert "/tmp/evil" in outcome.message
    host.boot()
    assert agent.round().level == "trusted"
    assert oat.show(host)["level"] == "trusted"


def test_another_file_under_a_known_name_costs_trust(enforced):
    host, agent = enforced
    host.run("/usr/sbin/sshd", content=b"evil")
    assert agent.round().code == "ima-unknown-file"


def test_report_shows_and_costs_nothing(host, oat):
    oat.policy(mode="report")
    outcome = host.agent().round()
    assert (outcome.level, outcome.code) == ("trusted", "ima-unknown-file")
    assert {item["severity"] for item in oat.show(host)["findings"]} == {"warning"}


def test_a_violation_and_a_kernel_behind_the_boot_log_are_seen(enforced, oat):
    host, agent = enforced
    host.violate("/var/log/messages")
    assert agent.round().level == "trusted"
    host.violate("/usr/bin/login")
    assert agent.round().code == "ima-violation"
    host.kexec()
    agent.round()
    shown = oat.show(host)["ima"]
    assert (shown["violations"], shown["kexec"]) == (2, True)


def test_D9_an_entry_skipped(enforced):
    host, agent = enforced
    before = bytes(host.kernel.log)
    host.run("/tmp/evil", content=b"evil")
    evil = len(host.kernel.log)
    host.run("/usr/bin/login")
    host.write_log(before + host.kernel.log[evil:])
    for _ in range(2):
        assert (agent.round().level, agent.round().code) == ("untrusted", "ima-log-mismatch")


def test_D9_a_log_shorter_than_pcr_10(enforced):
    host, agent = enforced
    before = bytes(host.kernel.log)
    host.run("/tmp/evil", content=b"evil")
    host.write_log(before)
    assert agent.round().code == "ima-log-mismatch"
    host.write_log(b"")
    assert agent.round().code == "ima-log-mismatch"
    host.ima_log.unlink()
    assert agent.round().code == "ima-log-missing"


def test_D9_a_malformed_entry(enforced):
    host, agent = enforced
    good = bytes(host.kernel.log)
    host.run("/usr/bin/login")
    for rubbish in (b"rubbish", b"\xff" * 100, host.kernel.log[len(good) : -1]):
        host.write_log(good + rubbish)
        outcome = host.agent().round()
        assert (outcome.level, outcome.code[:8]) == ("untrusted", "ima-log-")
    host.write_log()
    assert agent.round().level == "trusted"


def test_D9_pcr_10_extended_past_the_log(enforced):
    host, agent = enforced
    extend_pcr(host.software.tcti, 10, {"sha256": b"\x01" * 32})
    assert agent.round().code == "ima-log-mismatch"


def test_D9_pcr_10_moves_between_quote_and_log(enforced, monkeypatch):
    host, agent = enforced
    genuine = attester_module.read_ima_log

    def after_more(*arguments):
        host.run("/tmp/evil", content=b"evil")
        return genuine(*arguments)

    monkeypatch.setattr(attester_module, "read_ima_log", after_more)
    assert agent.round().level == "trusted"
    monkeypatch.undo()
    assert agent.round().code == "ima-unknown-file"


def test_D9_a_long_log_comes_in_parts(enforced, sent, monkeypatch):
    host, agent = enforced
    monkeypatch.setattr(attester_module, "MAX_PART_BYTES", 1000)
    host.run(*["/usr/bin/login", "/usr/sbin/sshd"] * 10)
    before = len(host.kernel.log) - 20 * 130
    outcomes = [agent.round()]
    while outcomes[-1].code == "ima-log-incomplete":
        assert (outcomes[-1].level, outcomes[-1].interval) == ("unknown", 1.0)
        outcomes.append(agent.round())
    assert outcomes[-1].level == "trusted"
    assert len(outcomes) > 2
    assert max(size for _, size in sent) == 1000
    assert min(offset for offset, _ in sent) >= before - 1000


def test_signed_files_need_no_list(enforced, oat):
    host, agent = enforced
    key = FileKey.ecc()
    oat.policy(mode="enforce", exclude=["/var/log/.*"], keys=[key.certificate()])
    host.run("/usr/bin/new", content=b"new", signature=key.sign(b"new"))
    assert agent.round().level == "trusted"
    host.run("/tmp/evil", content=b"evil", signature=FileKey.ecc().sign(b"evil"))
    assert agent.round().code == "ima-unknown-file"


def test_a_restarted_backend_goes_on(enforced, backend, sent):
    host, agent = enforced
    backend.restart()
    host.run("/usr/bin/login")
    assert agent.round().level == "trusted"
    assert all(offset for offset, _ in sent)


def test_the_agent_says_what_it_sees_of_the_log(enforced):
    host, _ = enforced
    checked = host.program("--check")
    assert (checked.returncode, checked.stderr) == (0, "")
    (line,) = [line for line in checked.stdout.splitlines() if "IMA log" in line]
    assert "6 entries, leads to PCR 10 of the TPM" in line
    host.write_log(host.kernel.log[:-1])
    assert "is malformed" in host.program("--check").stdout
    host.write_log(b"")
    assert "does not lead to PCR 10" in host.program("--check").stdout
    host.ima_log.unlink()
    checked = host.program("--check")
    assert (checked.returncode, "does not exist" in checked.stdout) == (0, True)
    assert host.program("--once").returncode == 1
