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
"""Rounds against a real backend over TLS: enrolment, approval, verdicts, and what may go wrong."""

import pytest

from oat_trusted_filter.client.http import BackendUnreachable
from tests.functional.agent.certified import give_certificate
from tests.functional.agent.running import RunningAgent, run_agent
from tests.lab.boots import Boot, replay
from tests.lab.wait import wait_for


@pytest.fixture
def trusted_host(host_maker, operator):
    """A host that is approved and trusted, and the agent it has been running."""
    host = host_maker()
    agent = host.agent()
    assert agent.round().code == "host-pending"
    operator.approve(host.name)
    agent.round()
    reference = operator.take_reference(host.name)
    assert agent.round().level == "trusted"
    yield host, agent
    operator.call("DELETE", f"/v1/reference-sets/{reference}")


@pytest.mark.parametrize("choice", ["rsa2048", "p256", "p384"])
def test_host_enrols_waits_is_approved_and_judged(host_maker, operator, choice):
    host = host_maker(ek_template=choice)
    if choice == "p256":
        give_certificate(host.software, "EK-ECC256")
    agent = host.agent()
    assert agent.round().code == "host-pending"
    assert agent.round().code == "host-pending"
    shown = operator.show(host.name)
    assert (shown["state"], shown["ek_certificate_status"]) == ("pending", "verified")
    operator.approve(host.name)
    first = agent.round()
    assert first.level == "untrusted"
    assert first.interval == 1.0
    reference = operator.take_reference(host.name)
    assert agent.round().level == "trusted"
    operator.call("DELETE", f"/v1/reference-sets/{reference}")
    assert agent.round().level == "untrusted"


def test_restarted_agent_goes_on(trusted_host):
    host, _ = trusted_host
    assert host.agent().round().level == "trusted"


def test_restarted_backend_goes_on_with_the_running_agent(trusted_host, backend):
    _, agent = trusted_host
    backend.stop()
    with pytest.raises(BackendUnreachable):
        agent.round()
    backend.start()
    assert agent.round().level == "trusted"


def test_reboot_heals_by_itself(trusted_host):
    host, agent = trusted_host
    host.boot("machine-a")
    assert agent.round().level == "trusted"


def test_another_boot_loader_is_seen_and_the_good_one_heals(trusted_host):
    host, _ = trusted_host
    host.boot("machine-a-loader")
    outcome = host.agent().round()
    assert outcome.level == "untrusted"
    assert "PCR 4" in outcome.message
    host.boot("machine-a")
    assert host.agent().round().level == "trusted"


def test_power_cut_is_no_attack(trusted_host):
    host, agent = trusted_host
    host.software.power_cycle(orderly=False)
    replay(Boot("machine-a"), host.software.tcti)
    assert agent.round().level == "trusted"


def test_boot_log_is_sent_once(trusted_host, monkeypatch):
    host, _ = trusted_host
    agent = host.agent()
    sent = []
    submit = agent._api.submit

    def noted(*args, with_log):
        sent.append(with_log)
        return submit(*args, with_log=with_log)

    monkeypatch.setattr(agent._api, "submit", noted)
    assert [agent.round().level for _ in range(3)] == ["trusted"] * 3
    assert sent == [True, False, False]
    # A log the backend says it has never seen is sent in the same round.
    other = host.agent()
    monkeypatch.setattr(other._api, "submit", noted)
    other._known_log = "00" * 32
    sent.clear()
    assert other.round().level == "trusted"
    assert sent == [True]


def test_deleted_host_enrols_again(trusted_host, operator):
    host, agent = trusted_host
    fingerprint = operator.show(host.name)["ek_fingerprint"]
    operator.call("DELETE", f"/v1/hosts/{host.name}?ek_fingerprint={fingerprint}")
    assert agent.round().code == "host-pending"


def test_other_attestation_key_is_enrolled_by_itself(trusted_host):
    host, _ = trusted_host
    host.options["ak_algorithm"] = "rsa"
    assert host.agent().round().level == "trusted"


def test_cleared_tpm_enrols_again(trusted_host):
    from tpm2_pytss import ESAPI, ESYS_TR

    host, agent = trusted_host
    with ESAPI(host.software.tcti) as tpm:
        tpm.clear(ESYS_TR.LOCKOUT)
    assert agent.round().level == "trusted"


def test_untrusted_authority_of_the_backend_is_refused(trusted_host, ek_authority):
    host, _ = trusted_host
    host.options["ca_file"] = str(next(ek_authority.iterdir()))
    with pytest.raises(BackendUnreachable):
        host.agent().round()


def test_once_tells_the_level_by_its_exit_status(host_maker, operator, tmp_path):
    host = host_maker()
    config = host.config(tmp_path)
    pending = run_agent(config, "--once")
    assert (pending.returncode, pending.stdout[:7]) == (2, "unknown")
    operator.approve(host.name)
    untrusted = run_agent(config, "--once")
    assert (untrusted.returncode, untrusted.stdout[:9]) == (1, "untrusted")
    reference = operator.take_reference(host.name)
    trusted = run_agent(config, "--once")
    assert (trusted.returncode, trusted.stdout) == (0, "trusted\n")
    operator.call("DELETE", f"/v1/reference-sets/{reference}")


def test_check_finds_everything_usable(host_maker, tmp_path):
    result = run_agent(host_maker().config(tmp_path), "--check")
    assert result.returncode == 0, result.stdout
    assert "FAIL" not in result.stdout
    assert "in step" in result.stdout


def test_running_agent_needs_no_hand(host_maker, operator, backend, tmp_path):
    """Approval, a backend that goes away, and a reboot under one running agent."""
    host = host_maker()
    with RunningAgent(host.config(tmp_path)) as agent:
        wait_for(lambda: "[host-pending]" in agent.log, 30, "the enrolment")
        operator.approve(host.name)
        wait_for(lambda: "untrusted:" in agent.log, 30, "the first verdict")
        reference = operator.take_reference(host.name)
        wait_for(lambda: "trusted; next round" in agent.log, 30, "trust")
        backend.stop()
        wait_for(lambda: "next try" in agent.log, 30, "a failed attempt")
        backend.start()
        seen = agent.log.count("trusted; next round")
        wait_for(lambda: agent.log.count("trusted; next round") > seen, 60, "trust again")
        host.boot("machine-a")
        seen = len(agent.log)
        wait_for(lambda: "trusted; next round" in agent.log[seen:], 60, "trust after the reboot")
        assert agent.terminate(seconds=5) == 0
        assert "Traceback" not in agent.log
    operator.call("DELETE", f"/v1/reference-sets/{reference}")
