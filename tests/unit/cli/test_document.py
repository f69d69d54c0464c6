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
"""What is wrong with a file is told by file, line and field."""

import pytest

POLICY = """\
name: strict
requirements:
  - kind: platform
    pcrs: [0, 2]
  - kind: kernel
    pcrs: [4, 99]
ima:
  mode: report
  exclude:
    - /tmp/.*
    - "("
"""
JSON = """{
  "name": "strict",
  "secure_boot": true
}
"""


def refuse(api, code, field, detail):
    problem = {"code": code, "field": field, "detail": detail, "status": 400}
    return api("PUT", "/v1/policies/strict", status_code=400, json=problem)


@pytest.mark.parametrize(
    ("text", "field", "detail", "told"),
    [
        (POLICY, "requirements[1].pcrs", "requirements[1].pcrs: 99 is not a PCR",
         "6: requirements[1].pcrs: 99 is not a PCR"),
        (POLICY, "ima.exclude[1]", "ima.exclude[1] is not a regular expression",
         "11: ima.exclude[1]: is not a regular expression"),
        (POLICY, "ima", "ima has no field x", "7: ima: has no field x"),
        (POLICY, "ima.colour", "ima has a field 'colour'",
         "7: ima.colour: ima has a field 'colour'"),
        (POLICY, "", "policy has no field y", "1: policy has no field y"),
        (POLICY, "requirements[7].pcrs", "no", "2: requirements[7].pcrs: no"),
        (JSON, "secure_boot", "secure_boot is neither", "3: secure_boot: is neither"),
        (JSON.replace("  ", "\t"), "secure_boot", "secure_boot is neither",
         "1: secure_boot: is neither"),
    ],
)  # fmt: skip
def test_a_field_is_told_with_its_line(oat, api, tmp_path, text, field, detail, told):
    refuse(api, "policy-invalid", field, detail)
    file = tmp_path / "policy.yaml"
    file.write_text(text)
    ran = oat("policy", "set", "strict", str(file))
    assert ran.status == 1
    assert ran.err == f"{file}:{told}\n"


def test_a_refusal_that_is_not_about_the_document_has_its_code(oat, api, tmp_path):
    problem = {"code": "edit-conflict", "detail": "it is generation 7", "status": 409}
    sent = api("PUT", "/v1/policies/strict", status_code=409, json=problem)
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY)
    ran = oat("policy", "set", "strict", str(file), "--generation", "5")
    assert (ran.status, ran.err) == (1, "edit-conflict: it is generation 7\n")
    assert sent.last_request.headers["If-Match"] == '"5"'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1\nb: [\n", "3: "),
        ('{\n"a": 1,\n"b" 2}', "3: "),
        ("a: 1\nb: 2\na: 3\n", "3: neither JSON nor YAML: the field 'a' is there twice"),
        ("a:\n  b: 1\n  b: 2\n", "3: "),
        ('{"a": 1, "a": 2}', "1: neither JSON nor YAML: the field 'a' is there twice"),
        ("- a\n", "1: holds no object with named fields"),
    ],
)
def test_a_file_that_is_none_is_told_with_its_line(oat, api, tmp_path, text, told):
    file = tmp_path / "policy"
    file.write_text(text)
    ran = oat("policy", "set", "strict", str(file))
    assert ran.status == 2
    assert ran.err.startswith(f"{file}:{told}")
    assert len(ran.err.splitlines()) == 1
    assert api.history() == []


def test_times_stay_as_they_are_written(oat, api, tmp_path):
    sent = api("POST", "/v1/reference-sets", status_code=201, json={"name": "good"})
    file = tmp_path / "good.yaml"
    file.write_text("kind: platform\nvalid_until: 2027-01-01T00:00:00Z\n")
    assert oat("reference", "create", "good", "--file", str(file)).status == 0
    assert sent.last_request.json()["document"]["valid_until"] == "2027-01-01T00:00:00Z"
