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
"""Challenges: which ones are known again, and for whom."""

import base64
import hashlib

import pytest

from oat_trusted_filter.backend.api.challenge import Challenges
from oat_trusted_filter.backend.api.problems import Problem
from oat_trusted_filter.backend.challenge_key import ChallengeKey

NOW = 1_800_000_000_000
LIFETIME = 60_000
KEY = ChallengeKey(b"k" * 32, 0)
OTHER = ChallengeKey(b"l" * 32, 0)


@pytest.fixture
def challenges():
    return Challenges(lambda: (KEY,), LIFETIME)


def refused(challenges, text, region="", host="node-1", now=NOW):
    with pytest.raises(Problem) as caught:
        challenges.check(text, region, host, now)
    return caught.value.code


def test_a_challenge_is_known_again(challenges):
    text = challenges.issue("r", "node-1", NOW)
    known = challenges.check(text, "r", "node-1", NOW + 10)
    assert known.issued_at == NOW
    assert known.nonce == hashlib.sha256(base64.urlsafe_b64decode(text)).digest()


def test_another_server_with_the_same_key_knows_it(challenges):
    text = challenges.issue("", "node-1", NOW)
    # Its clock may be a little behind.
    Challenges(lambda: (KEY,), LIFETIME).check(text, "", "node-1", NOW - 1000)
    assert refused(Challenges(lambda: (OTHER,), LIFETIME), text) == "challenge-invalid"


@pytest.mark.parametrize(
    ("region", "host"), [("", "node-2"), ("r", "node-1"), ("", "NODE-1"), ("", "node-1.")]
)
def test_A6_another_hosts_challenge_is_refused(challenges, region, host):
    text = challenges.issue("", "node-1", NOW)
    assert refused(challenges, text, region, host) == "challenge-invalid"


def test_A6_region_and_host_cannot_be_shifted_into_each_other(challenges):
    text = challenges.issue("a", "bc", NOW)
    assert refused(challenges, text, "ab", "c") == "challenge-invalid"


@pytest.mark.parametrize("age", [LIFETIME, LIFETIME * 10, -3000])
def test_A6_an_expired_challenge_is_refused_and_one_of_the_future(challenges, age):
    text = challenges.issue("", "node-1", NOW)
    assert refused(challenges, text, now=NOW + age) == "challenge-expired"


def test_A6_exactly_one_encoding_is_legal(challenges):
    text = challenges.issue("", "node-1", NOW)
    data = base64.urlsafe_b64decode(text)
    others = [
        "", text[:-1], text[:-4], text[:48], text + "A", text + "=", text + "====", f" {text}",
        f"{text}\n", text.lower(), text.upper(), data.hex(), base64.b32encode(data).decode(),
        base64.b64encode(data).decode() + "=", text.replace(text[50], "+", 1), text + text,
        text[:95] + "\u0101", "é" * 96, "\0" * 96,
    ]  # fmt: skip
    for other in others:
        code = refused(challenges, other)
        assert code in ("challenge-malformed", "challenge-invalid"), other


def test_A6_every_bit_counts(challenges):
    data = bytearray(base64.urlsafe_b64decode(challenges.issue("", "node-1", NOW)))
    for index in range(len(data)):
        data[index] ^= 1
        text = base64.urlsafe_b64encode(bytes(data)).decode()
        assert refused(challenges, text) == "challenge-invalid"
        data[index] ^= 1


def test_A7_ten_thousand_challenges_are_distinct_and_long_enough(challenges):
    texts = {challenges.issue("", "node-1", NOW) for _ in range(10_000)}
    random = {base64.urlsafe_b64decode(text)[8:40] for text in texts}
    assert len(texts) == len(random) == 10_000
    assert len(challenges.check(next(iter(texts)), "", "node-1", NOW).nonce) == 32


def test_a_spent_challenge_is_kept_until_nobody_can_use_it(challenges):
    known = challenges.check(challenges.issue("", "node-1", NOW), "", "node-1", NOW)
    text = challenges.issue("", "node-1", NOW)
    assert refused(challenges, text, now=challenges.expires_at(known)) == "challenge-expired"
