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
"""What a round makes of the backend's refusals."""

from pathlib import Path

import pytest

from oat_trusted_filter.agent import attester as attester_module
from oat_trusted_filter.agent.api import Enrolled
from oat_trusted_filter.agent.attester import Attester, Outcome
from oat_trusted_filter.agent.enrolment import Enrolment
from oat_trusted_filter.agent.settings import Settings
from oat_trusted_filter.client.http import BackendRefused

TRUSTED = Outcome("trusted", interval=60.0)


class NoApi:
    def __init__(self):
        self.closed = 0

    def close(self):
        self.closed += 1


class Scripted(Attester):
    """An attester whose evidence meets the answers given."""

    def __init__(self, boot_log, *answers):
        self.answers = list(answers)
        settings = Settings(
            endpoint="https://backend",
            ca_file=None,
            timeout=1.0,
            region="",
            host="host-1",
            service_host=None,
            resource_provider=None,
            tcti="device:/dev/no-tpm",
            boot_log=boot_log,
            ek_template="auto",
            ak_algorithm="ecc",
            interval=60.0,
            retry_max=60.0,
        )
        super().__init__(settings, NoApi())

    def _attest(self, boot_log):
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def boot_log(tmp_path):
    path = Path(tmp_path / "log")
    path.write_bytes(b"a log")
    return path


@pytest.fixture
def enrolments(monkeypatch):
    """The states enrolments end in; each enrolment takes one."""
    states = []

    def enrol(settings, api, cache, token=None):
        return Enrolment(Enrolled(states.pop(0), "ab" * 32), "RSA-2048", certified=True)

    monkeypatch.setattr(attester_module, "enrol", enrol)
    return states


@pytest.mark.parametrize("code", ["host-unknown", "tpm-cleared", "signature-invalid"])
def test_enrolment_follows_in_the_same_round(boot_log, enrolments, code):
    enrolments.append("approved")
    attester = Scripted(boot_log, BackendRefused(404, code, "enrol"), TRUSTED)
    assert attester.round() == TRUSTED
    assert attester._api.closed == 1


def test_new_host_waits_and_names_its_key(boot_log, enrolments):
    enrolments.append("pending")
    outcome = Scripted(boot_log, BackendRefused(404, "host-unknown", "who?")).round()
    assert (outcome.level, outcome.code) == ("unknown", "host-pending")
    assert "ab" * 32 in outcome.message


def test_a_backend_that_forgets_at_once_is_asked_once_a_round(boot_log, enrolments):
    unknown = BackendRefused(404, "host-unknown", "who?")
    enrolments.append("approved")
    with pytest.raises(BackendRefused):
        Scripted(boot_log, unknown, unknown).round()
    assert enrolments == []


def test_a_key_that_stays_wrong_is_enrolled_once(boot_log, enrolments):
    wrong = BackendRefused(403, "signature-invalid", "not the enrolled key")
    enrolments.extend(["approved"])
    attester = Scripted(boot_log, wrong, wrong, wrong)
    for _ in range(2):
        with pytest.raises(BackendRefused):
            attester.round()
    assert attester.answers == []


def test_refused_evidence_that_is_the_hosts_own_is_a_verdict(boot_log):
    refusal = BackendRefused(
        422, "boot-log-replay", "PCR 4 is not what the log leads to", {"level": "untrusted"}
    )
    outcome = Scripted(boot_log, refusal).round()
    assert outcome == Outcome("untrusted", "boot-log-replay", "PCR 4 is not what the log leads to")


@pytest.mark.parametrize("body", [{}, {"level": "splendid"}, {"level": ["trusted"]}])
def test_other_refusals_are_failures(boot_log, body):
    attester = Scripted(boot_log, BackendRefused(422, "field-invalid", "no", body))
    with pytest.raises(BackendRefused):
        attester.round()
    assert attester._api.closed == 1
