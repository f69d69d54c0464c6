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
"""Reading the IMA log, and what is said about it to the backend."""

import base64
import types

import pytest

from oat_trusted_filter.agent import attester as attester_module
from oat_trusted_filter.agent import ima_log
from oat_trusted_filter.agent.api import BackendApi, Challenge, Judgement
from oat_trusted_filter.agent.attester import Attester
from oat_trusted_filter.agent.errors import AnswerError
from oat_trusted_filter.agent.evidence import BOOT_LOG_LARGEST, BootLogFile, SignedPcrs
from oat_trusted_filter.agent.ima_log import ImaLogPart, read_entries, read_ima_log
from oat_trusted_filter.client.http import BackendRefused
from oat_trusted_filter.tcg.errors import FormatError
from oat_trusted_filter.tcg.ima import MAX_PART_BYTES
from tests.lab.boots import Boot

CHALLENGE = Challenge("YQ", (10,), b"n" * 32)
SIGNED = SignedPcrs(b"quote", b"signature", {"sha256": {10: bytes(32)}})
LOG = BootLogFile(b"log", "ab" * 32)


@pytest.fixture
def path(tmp_path):
    """A log of ten bytes."""
    made = tmp_path / "ima"
    made.write_bytes(b"0123456789")
    return made


@pytest.mark.parametrize(
    ("offset", "most", "part"),
    [
        (None, 100, ImaLogPart(None)),
        (0, 100, ImaLogPart(0, b"0123456789")),
        (0, 10, ImaLogPart(0, b"0123456789")),
        (0, 9, ImaLogPart(0, b"012345678", more=True)),
        (4, 3, ImaLogPart(4, b"456", more=True)),
        (10, 100, ImaLogPart(10)),
        (99, 100, ImaLogPart(99)),
        (0, 0, ImaLogPart(0, more=True)),
    ],
)
def test_parts(path, offset, most, part):
    assert read_ima_log(path, offset, most) == part


@pytest.mark.parametrize("offset", [None, 0])
def test_a_log_that_is_not_there_or_unreadable_is_for_the_policy_to_judge(
    tmp_path, path, offset, caplog
):
    assert read_ima_log(tmp_path / "none", offset) is None
    assert caplog.text == ""
    assert read_ima_log(path / "below", offset) is None
    assert "ima_log" in caplog.text


def test_all_entries_are_read_whatever_the_size_of_the_parts(tmp_path, monkeypatch):
    path = tmp_path / "ima"
    path.write_bytes(Boot("machine-a").ima_log)
    whole = [entry.path for entry in read_entries(path)]
    assert whole[:2] == ["boot_aggregate", "/init"]
    genuine = ima_log.read_ima_log
    monkeypatch.setattr(
        ima_log, "read_ima_log", lambda path, offset: genuine(path, offset, most=200)
    )
    assert [entry.path for entry in read_entries(path)] == whole
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(FormatError):
        list(read_entries(path))
    assert list(read_entries(tmp_path / "none")) == []


class Backend:
    """A client that gives these answers and remembers what it was asked."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    def request(self, method, path, json=None):
        self.asked.append(json)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return 200, {}, answer


def refusal(code, **body):
    return BackendRefused(409, code, "refused", {"code": code, **body})


def attester_of(path, *answers):
    backend = Backend(*answers)
    settings = types.SimpleNamespace(ima_log=path)
    return Attester(settings, BackendApi(backend, "", "host")), backend


TRUSTED = {"level": "trusted", "interval": 1}


@pytest.mark.parametrize("value", [-1, "0", 1.0, True, 2**60, []])
def test_a_place_that_is_none_is_an_error(path, value):
    attester, _ = attester_of(path, TRUSTED | {"ima_offset": value})
    with pytest.raises(AnswerError):
        attester._submit(CHALLENGE, SIGNED, LOG)


def test_a_host_without_log_says_nothing_of_it(tmp_path):
    attester, backend = attester_of(tmp_path / "none", TRUSTED)
    assert attester._submit(CHALLENGE, SIGNED, LOG) == Judgement("trusted", (), 1.0, None)
    assert "ima_log" not in backend.asked[0]


def test_what_is_wanted_is_sent_at_once_with_the_same_quote(path):
    attester, backend = attester_of(
        path,
        refusal("boot-log-needed"),
        refusal("ima-offset", ima_offset=4),
        TRUSTED | {"ima_offset": 10},
        TRUSTED | {"ima_offset": 10},
    )
    attester._known_log = LOG.digest
    attester._submit(CHALLENGE, SIGNED, LOG)
    attester._submit(CHALLENGE, SIGNED, LOG)

    parts = [body["ima_log"] for body in backend.asked]
    data = base64.b64encode(b"456789").decode()
    assert parts == [
        {"offset": None, "data": "", "more": False},
        {"offset": None, "data": "", "more": False},
        {"offset": 4, "data": data, "more": False},
        {"offset": 10, "data": "", "more": False},
    ]
    assert [body["boot_log"]["data"] is None for body in backend.asked] == [
        True, False, False, True,
    ]  # fmt: skip
    assert len({body["quote"] for body in backend.asked}) == 1


def test_a_backend_that_cannot_be_pleased_is_left(path):
    answers = [refusal("ima-offset", ima_offset=number) for number in range(9)]
    attester, backend = attester_of(path, *answers)
    with pytest.raises(BackendRefused):
        attester._submit(CHALLENGE, SIGNED, LOG)
    assert len(backend.asked) == attester_module._SUBMISSIONS
    # And one that wants what there is not, at once.
    attester, backend = attester_of(path / "none", *answers)
    with pytest.raises(BackendRefused):
        attester._submit(CHALLENGE, SIGNED, LOG)
    assert len(backend.asked) == 1


@pytest.mark.parametrize(
    ("boot_log", "part"),
    [(0, MAX_PART_BYTES), (BOOT_LOG_LARGEST - 100, 100), (BOOT_LOG_LARGEST, 0)],
)
def test_both_logs_fit_into_one_request(path, boot_log, part):
    path.write_bytes(bytes(MAX_PART_BYTES + 1))
    attester, backend = attester_of(path, TRUSTED | {"ima_offset": 0})
    attester._ima_offset = 0
    attester._submit(CHALLENGE, SIGNED, BootLogFile(bytes(boot_log), "cd" * 32))
    sent = backend.asked[0]["ima_log"]
    assert (len(base64.b64decode(sent["data"])), sent["more"]) == (part, True)
