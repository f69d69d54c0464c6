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
"""Answers of a backend that is wrong, old or not one: a clear error, never a crash."""

import base64
import hashlib

import pytest

from oat_trusted_filter.agent.api import BackendApi, EnrolmentRequest
from oat_trusted_filter.agent.errors import AnswerError
from oat_trusted_filter.agent.evidence import BootLogFile, SignedPcrs

SIGNED = SignedPcrs(b"quote", b"signature", {"sha256": {10: b"\x01" * 32, 0: b"\x00" * 32}})
LOG = BootLogFile(b"log", "ab" * 32)
REQUEST = EnrolmentRequest(b"ek", None, (), b"ak", ("sha256",))


class Canned:
    """A client that gives one answer and remembers what it was asked."""

    def __init__(self, answer):
        self.answer = answer
        self.asked = []

    def request(self, method, path, json=None):
        self.asked.append((method, path, json))
        return 200, {}, self.answer


def api_of(answer):
    return BackendApi(Canned(answer), "region-1", "host-1")


def test_nonce_is_the_digest_of_the_decoded_challenge():
    raw = bytes(range(250, 256)) + b"abcd"
    text = base64.urlsafe_b64encode(raw).decode().rstrip("=")
    challenge = api_of({"challenge": text, "pcrs": [7, 0], "expires_in": 60}).challenge()
    assert challenge.text == text
    assert challenge.nonce == hashlib.sha256(raw).digest()
    assert challenge.pcrs == (0, 7)


@pytest.mark.parametrize(
    "answer",
    [
        None,
        [],
        {},
        {"challenge": "", "pcrs": [0]},
        {"challenge": "YQ", "pcrs": []},
        {"challenge": "YQ", "pcrs": [24]},
        {"challenge": "YQ", "pcrs": [True]},
        {"challenge": "YQ", "pcrs": "0"},
        {"challenge": "*", "pcrs": [0]},
        {"challenge": "é", "pcrs": [0]},
    ],
)
def test_odd_challenges_are_errors(answer):
    with pytest.raises(AnswerError):
        api_of(answer).challenge()


def submitted(answer, *, with_log=True):
    api = api_of({"challenge": "YQ", "pcrs": [0]})
    challenge = api.challenge()
    api._client.answer = answer
    return api, api.submit(challenge, SIGNED, LOG, with_log=with_log)


@pytest.mark.parametrize(("with_log", "data"), [(True, "bG9n"), (False, None)])
def test_evidence_is_written_as_the_interface_says(with_log, data):
    api, judgement = submitted({"level": "trusted", "interval": 30}, with_log=with_log)
    assert api._client.asked[-1] == (
        "POST",
        "/v1/evidence",
        {
            "region": "region-1",
            "host": "host-1",
            "challenge": "YQ",
            "quote": "cXVvdGU=",
            "signature": "c2lnbmF0dXJl",
            "pcrs": {"sha256": {"0": "00" * 32, "10": "01" * 32}},
            "boot_log": {"digest": "ab" * 32, "data": data},
        },
    )
    assert (judgement.level, judgement.interval, judgement.findings) == ("trusted", 30.0, ())


@pytest.mark.parametrize("answer", [None, {}, {"level": "splendid"}, {"level": True}])
def test_odd_verdicts_are_errors(answer):
    with pytest.raises(AnswerError):
        submitted(answer)


@pytest.mark.parametrize(
    ("interval", "kept"),
    [(10, 10.0), (0, 0.1), (-1, 0.1), (1e9, 3600.0), (float("nan"), None), ("9", None)],
)
def test_interval_is_kept_in_bounds(interval, kept):
    assert submitted({"level": "trusted", "interval": interval})[1].interval == kept


def test_findings_of_an_unknown_form_are_left_out():
    findings = [{"code": "pcr-differs", "message": "PCR 4"}, "text", None]
    _, judgement = submitted({"level": "untrusted", "findings": findings})
    assert judgement.findings == (("pcr-differs", "PCR 4"),)


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"id": "../admin", "credential_blob": "YQ==", "encrypted_secret": "YQ=="},
        {"id": "", "credential_blob": "YQ==", "encrypted_secret": "YQ=="},
        {"id": "1", "credential_blob": "*", "encrypted_secret": "YQ=="},
        {"id": "1", "credential_blob": "YQ=="},
    ],
)
def test_odd_enrolment_challenges_are_errors(answer):
    with pytest.raises(AnswerError):
        api_of(answer).enrol(REQUEST)


def test_what_is_not_set_is_not_sent():
    api = api_of({"id": "7-a", "credential_blob": "YQ==", "encrypted_secret": "Yg=="})
    assert api.enrol(REQUEST).encrypted_secret == b"b"
    body = api._client.asked[-1][2]
    assert "service_host" not in body
    assert body["ek_certificate"] is None


@pytest.mark.parametrize("answer", [{}, {"state": "maybe", "ek_fingerprint": "ab"}])
def test_odd_activations_are_errors(answer):
    with pytest.raises(AnswerError):
        api_of(answer).activate("7", b"secret")
