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
"""Each attack the verifier has to withstand has a test with its code in the name."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
NAME = re.compile(r"^ *def test_([A-Z][0-9]+)_", re.MULTILINE)

#: What is tried, in a few words.
ATTACKS = {
    # The quote
    "A1": "the selection that was signed is not the one claimed beside it",
    "A2": "the selection lacks a PCR, is empty, or is of the wrong bank",
    "A3": "two banks, or a bank twice, where that was not asked for",
    "A4": "a bad or cut signature, or that of another host's key",
    "A5": "wrong magic, another type of attestation, bytes left over",
    "A6": "a nonce replayed, of another host, expired, empty, in another encoding",
    "A7": "nonces that can be foretold",
    "A8": "another scheme or hash than the key's, r or s out of range, odd DER",
    "A9": "the clock goes back within a boot",
    "A10": "another firmware version",
    "A11": "a bank the firmware left alone, filled with a forged log",
    "A12": "a genuine quote of another machine",
    # Identity and enrolment
    "B1": "an attestation key that may sign anything, or is weak",
    "B2": "another TPM under an approved name",
    "B3": "two approvals of one name at once, a squatter",
    "B4": "a certificate nobody vouches for",
    "B5": "the attestation key swapped after the check",
    "B6": "a wrong activation secret",
    "B7": "neither certificate nor approval",
    "B8": "names made to deceive",
    "B9": "evidence in the name of another host",
    "B10": "a software TPM where none is allowed",
    # Boot log and IMA log
    "D1": "events of another type than they were measured with",
    "D2": "data that is not what was measured",
    "D3": "a state of Secure Boot that is not the real one",
    "D4": "a PCR the log has no event for",
    "D5": "logs that are none",
    "D6": "a startup locality that is not the real one",
    "D7": "none: quirks of real firmware",
    "D8": "bytes that make a parser fail",
    "D9": "an IMA log with something left out, changed or malformed",
    # State
    "E1": "a fault of the verifier itself",
    "E2": "silence",
    "E7": "clocks that are put forward or back",
    "E9": "rules that change while a host attests",
    "E11": "a lapse nobody announces, a cursor of another time",
}


@pytest.fixture(scope="module")
def codes():
    """The codes in the names of all tests."""
    return {
        code for path in TESTS.rglob("test_*.py") for code in NAME.findall(path.read_text())
    }


@pytest.mark.parametrize("code", ATTACKS)
def test_an_attack_is_tried(codes, code):
    assert code in codes
