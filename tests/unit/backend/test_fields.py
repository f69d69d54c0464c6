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
"""What values on the wire may look like."""

import base64
import json

import msgspec
import pytest

from oat_trusted_filter.backend.api.challenges import ChallengeRequest
from oat_trusted_filter.backend.api.exchange import decoded, decoded_strictly
from oat_trusted_filter.backend.api.fields import binary, checked_host, moment, pcr_values
from oat_trusted_filter.backend.api.problems import Problem

SHA1 = "ab" * 20


def problem(work, *arguments):
    """The code of the problem this raises."""
    with pytest.raises(Problem) as caught:
        work(*arguments)
    return caught.value.code


@pytest.mark.parametrize(
    "name", ["a", "node-1", "node_1.example.org", "10.0.0.1", "fe80::1", "A" * 255, "0"]
)
def test_names_of_hosts(name):
    assert checked_host(name) == name
    assert decoded(json.dumps({"host": name}).encode(), ChallengeRequest).host == name


@pytest.mark.parametrize(
    "name",
    [
        "", ".", "..", "a..b", "a/b", "../a", "a\n", "\na", "a\0", "a\x1b[31mb", "a b", " a", "-a",
        "a-", "a.", "nоde", "ａ", "a'--", "A" * 256, "x" * 10_000, "a%00",
    ],
)  # fmt: skip
def test_B8_names_no_host_has_are_refused(name):
    assert problem(checked_host, name) == "field-invalid"
    body = json.dumps({"host": name}).encode()
    assert problem(decoded, body, ChallengeRequest) == "field-invalid"
    if name:
        body = json.dumps({"host": "a", "region": name}).encode()
        assert problem(decoded, body, ChallengeRequest) == "field-invalid"


@pytest.mark.parametrize("data", [b"", b"a", b"ab", b"abc", bytes(range(256))])
def test_canonical_base64(data):
    assert binary(base64.b64encode(data).decode(), "x") == data


@pytest.mark.parametrize(
    "text",
    [
        "YQ",
        "YQ=",
        "YQ===",
        "YR==",
        "YQ==\n",
        " YQ==",
        "Y Q==",
        "YQ==YQ==",
        "-_-_",
        "é",
        "=",
        "YWJj=",
    ],
)
def test_every_other_base64_is_refused(text):
    assert problem(binary, text, "x") == "field-invalid"


def raw(document):
    return msgspec.Raw(document.encode())


def test_pcr_values():
    assert pcr_values(raw(f'{{"sha1": {{"0": "{SHA1}", "23": "{SHA1}"}}}}')) == {
        "sha1": {0: bytes.fromhex(SHA1), 23: bytes.fromhex(SHA1)}
    }
    assert pcr_values(raw("{}")) == {}


@pytest.mark.parametrize(
    "text",
    [
        "[]", "7", '{"sha1": 7}', '{"sha1": {"0": 7}}',
        f'{{"md5": {{"0": "{SHA1}"}}}}',
        f'{{"sha1": {{"00": "{SHA1}"}}}}',
        f'{{"sha1": {{"24": "{SHA1}"}}}}',
        f'{{"sha1": {{"-1": "{SHA1}"}}}}',
        f'{{"sha1": {{"0": "{SHA1.upper()}"}}}}',
        f'{{"sha1": {{"0": "{SHA1[:-2]}"}}}}',
        f'{{"sha1": {{"0": "{SHA1[:-2]}  "}}}}',
        f'{{"sha256": {{"0": "{SHA1}"}}}}',
        f'{{"sha1": {{"0": "{SHA1}", "0": "{SHA1}"}}}}',
        f'{{"sha1": {{"0": "{SHA1}"}}, "sha1": {{"0": "{SHA1}"}}}}',
        f'{{"sha1": {{"0": "{SHA1}"}}, "sha\\u0031": {{"0": "{SHA1}"}}}}',
    ],
)  # fmt: skip
def test_odd_pcr_values_are_refused(text):
    assert problem(pcr_values, raw(text)) == "field-invalid"


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"\xff", b"nonsense", b'{"host": "a"} x', b'{"host": NaN}', b"[" * 100_000,
        b'{"host": "a", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)  # fmt: skip
def test_C2_what_is_not_json_is_refused(body):
    assert problem(decoded, body, ChallengeRequest) in ("body-invalid", "field-invalid")


@pytest.mark.parametrize("host", [7, None, ["a"], {"a": "b"}, True, 10**400])
def test_C2_other_types_are_refused(host):
    body = json.dumps({"host": host}).encode()
    assert problem(decoded, body, ChallengeRequest) in ("body-invalid", "field-invalid")


def test_C2_a_field_that_is_there_twice_is_refused_where_people_write():
    body = b'{"host": "a", "host": "b"}'
    assert problem(decoded_strictly, body, ChallengeRequest) == "body-invalid"
    nested = b'{"host": "a", "more": {"x": 1, "x": 2}}'
    assert problem(decoded_strictly, nested, ChallengeRequest) == "body-invalid"


def test_moments():
    assert moment(None) is None
    assert moment(0) == "1970-01-01T00:00:00.000Z"
    assert moment(1_800_000_000_007) == "2027-01-15T08:00:00.007Z"
