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
"""``oat reference``, ``oat policy`` and ``oat verdict``."""

import hashlib
import json

import pytest
import yaml

from oat_trusted_filter.tcg.authenticode import image_digests
from tests.lab.images import efi_image

DIFFERING = [
    {
        "pcr": 5,
        "hosts": ["a", "b"],
        "events": [
            {"host": "a", "number": 14, "type": "EV_EFI_GPT_EVENT", "description": "disk 1"},
            {"host": "b", "number": 14, "type": "EV_EFI_GPT_EVENT", "description": "disk 2"},
        ],
    }
]
DOCUMENT = {
    "name": "good", "kind": "platform",
    "pcrs": {"sha256": {"0": ["00"], "4": ["44"]}, "sha1": {"0": ["00"], "4": ["44"]}},
    "events": [{"pcr": 4, "type": "EV_EFI_ACTION", "digest": "ab", "description": "boot"}],
    "valid_from": "2026-01-01T00:00:00.000Z", "valid_until": None,
}  # fmt: skip


def test_create_says_what_differs(oat, api):
    sent = api("POST", "/v1/reference-sets", status_code=201,
               json={**DOCUMENT, "differing": DIFFERING})  # fmt: skip
    ran = oat("reference", "create", "good", "--from-host", "a", "--from-host", "b",
              "--pcr", "4,0", "--pcr", "5", "--kind", "platform", "--region", "r1")  # fmt: skip
    assert ran.status == 0
    assert sent.last_request.json() == {
        "name": "good", "kind": "platform", "from_hosts": ["a", "b"], "region": "r1",
        "pcrs": [0, 4, 5],
    }  # fmt: skip
    assert "PCR 5 left out" in ran.out
    assert "disk 1" in ran.out
    assert "disk 2" in ran.out
    assert "0,4 (sha256, sha1)" in ran.out


def test_on_a_terminal_each_pcr_that_differs_is_asked_about(oat, api):
    sent = api("POST", "/v1/reference-sets", status_code=201,
               json={**DOCUMENT, "differing": DIFFERING})  # fmt: skip
    argv = ("reference", "create", "good", "--from-host", "a", "--from-host", "b")
    ran = oat(*argv, answer="y\n")
    assert [request.json().get("preview") for request in sent.request_history] == [True, None]
    assert sent.last_request.json()["take"] == [5]
    assert "disk 1" in ran.err
    oat(*argv, answer="\n")
    assert "take" not in sent.last_request.json()
    oat(*argv, "--take", "5", "--valid-until", "2027-01-01T00:00:00Z", answer="y\n")
    assert sent.last_request.json() == {
        "name": "good", "from_hosts": ["a", "b"], "take": [5],
        "valid_until": "2027-01-01T00:00:00Z",
    }  # fmt: skip


def test_create_from_files_computes_their_digests(oat, api, tmp_path):
    sent = api("POST", "/v1/reference-sets", status_code=201, json=DOCUMENT)
    kernel, initrd = tmp_path / "vmlinuz", tmp_path / "initrd.gz"
    kernel.write_bytes(efi_image({".text": b"kernel"}))
    initrd.write_bytes(b"files")
    ran = oat("reference", "create", "new", "--kind", "kernel", "--from-file", str(kernel),
              "--from-file", str(initrd))  # fmt: skip
    assert ran.status == 0
    body = sent.last_request.json()
    assert body["from_files"] == ["vmlinuz", "initrd.gz"]
    document = body["document"]
    (image,) = image_digests(kernel.read_bytes(), "sha256")
    assert document["images"]["sha256"] == [image.hex()]
    plain = [hashlib.sha256(file.read_bytes()).hexdigest() for file in (kernel, initrd)]
    assert document["boot_files"]["sha256"] == sorted(plain)
    assert [event["pcr"] for event in document["events"]] == [9, 4, 9]
    assert "no EFI image" in ran.err
    assert "values of PCRs do not follow from files" in ran.err


def test_files_nothing_can_be_computed_from_are_wrong_use(oat, api, tmp_path):
    empty, broken = tmp_path / "empty", tmp_path / "broken"
    empty.write_bytes(b"")
    broken.write_bytes(efi_image({".text": b"kernel"})[:200])
    for file in (empty, broken, tmp_path / "none"):
        ran = oat("reference", "create", "x", "--kind", "kernel", "--from-file", str(file))
        assert ran.status == 2
        assert len(ran.err.splitlines()) == 1
    assert api.history() == []


def test_the_validity_of_a_set_is_changed(oat, api):
    sent = api("PATCH", "/v1/reference-sets/good", json=DOCUMENT)
    assert oat("reference", "set", "good", "--valid-until", "2027-01-01T01:00:00+01:00",
               "--generation", "4").status == 0  # fmt: skip
    assert sent.last_request.json() == {"valid_until": "2027-01-01T00:00:00Z"}
    assert sent.last_request.headers["If-Match"] == '"4"'
    oat("reference", "set", "good", "--no-limits")
    assert sent.last_request.json() == {"valid_from": None, "valid_until": None}


def test_a_set_shows_where_it_comes_from_and_whether_it_counts(oat, api):
    provenance = {
        "source": "imported", "by": "me", "at": "2026-02-01T00:00:00Z",
        "origin": {"source": "hosts", "by": "admin", "at": "2026-01-01T00:00:00Z",
                   "hosts": ["a", "b"]},
    }  # fmt: skip
    shown = {**DOCUMENT, "provenance": provenance, "validity": "expiring"}
    api("GET", "/v1/reference-sets", json={"reference_sets": [shown]})
    assert "expiring" in oat("reference", "list").out
    assert (
        "imported by me at 2026-02-01T00:00:00Z; taken from a, b by admin at 2026-01-01T00:00:00Z"
        in oat("reference", "list", "--long").out
    )


def test_create_for_programs_is_what_the_api_said(oat, api):
    record = {**DOCUMENT, "differing": DIFFERING}
    api("POST", "/v1/reference-sets", status_code=201, json=record)
    ran = oat("reference", "create", "good", "--from-host", "a", "-f", "json")
    assert json.loads(ran.out) == record


def test_create_from_a_document(oat, api, tmp_path):
    sent = api("POST", "/v1/reference-sets", status_code=201, json=DOCUMENT)
    file = tmp_path / "good.yaml"
    file.write_text(yaml.safe_dump(DOCUMENT))
    assert oat("reference", "create", "good", "--file", str(file)).status == 0
    assert sent.last_request.json() == {"name": "good", "document": DOCUMENT}


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["--from-host", "a", "--file", "x"],
        ["--file", "x", "--pcr", "1"],
        ["--from-host", "a", "--pcr", "24"],
        ["--from-host", "a", "--pcr", "1,,2"],
        ["--from-host", "a", "--pcr", "²"],
        ["--file", "x", "--take", "1"],
        ["--from-file", "x"],
        ["--from-file", "x", "--from-host", "a"],
        ["--from-host", "a", "--valid-until", "tomorrow"],
    ],
)
def test_create_wants_one_source_and_real_pcrs(oat, api, argv):
    assert oat("reference", "create", "good", *argv).status == 2
    assert api.history() == []


def test_list_show_delete(oat, api):
    api("GET", "/v1/reference-sets", json={"reference_sets": [DOCUMENT]})
    api("GET", "/v1/reference-sets/good", json=DOCUMENT)
    sent = api("DELETE", "/v1/reference-sets/good", status_code=204)
    assert "0,4 (sha256, sha1)" in oat("reference", "list").out
    assert "PCR 4: EV_EFI_ACTION boot ab" in oat("reference", "show", "good").out
    assert json.loads(oat("reference", "show", "good", "-f", "json").out) == DOCUMENT
    assert oat("reference", "delete", "good").status == 0
    assert sent.called


POLICY = {
    "name": "default", "secure_boot": "required", "kernel_command_line": None,
    "requirements": [{"kind": "platform", "pcrs": [0, 2, 4, 7]}],
}  # fmt: skip


def test_policies_are_listed_and_shown(oat, api):
    api("GET", "/v1/policies", json={"policies": [POLICY]})
    api("GET", "/v1/policies/default", json=POLICY)
    assert "platform: PCRs 0, 2, 4, 7" in oat("policy", "list").out
    assert yaml.safe_load(oat("policy", "show", "default", "-f", "yaml").out) == POLICY


@pytest.mark.parametrize("dump", [json.dumps, yaml.safe_dump])
def test_a_policy_is_set_from_a_file(oat, api, tmp_path, dump):
    sent = api("PUT", "/v1/policies/default", json=POLICY)
    api("GET", "/v1/policies/default", json=POLICY)
    file = tmp_path / "policy"
    file.write_text(dump(POLICY))
    assert oat("policy", "set", "default", str(file)).status == 0
    assert sent.last_request.json() == POLICY


@pytest.mark.parametrize(
    "content", [b"", b"[1]", b"{", b"a: [", b"\xff\xfe", b"!!python/object/apply:os.getpid []"]
)
def test_a_file_that_is_no_document_is_wrong_use(oat, api, tmp_path, content):
    file = tmp_path / "policy"
    file.write_bytes(content)
    ran = oat("policy", "set", "default", str(file))
    assert ran.status == 2
    assert len(ran.err.splitlines()) == 1
    assert api.history() == []


def test_a_file_that_is_not_there_is_wrong_use(oat, tmp_path):
    ran = oat("policy", "set", "default", str(tmp_path / "none"))
    assert ran.status == 2
    assert "No such file" in ran.err


def test_verdicts_are_those_of_relying_parties(oat, api):
    api("GET", "/v1/verdicts", json={
        "epoch": "e", "cursor": 3, "lease": 30.0, "full": True, "deleted": [],
        "hosts": [
            {"region": "", "host": "b", "service_host": "b", "resource_provider": None,
             "level": "untrusted", "reason": "pcr-mismatch", "tags": {}},
            {"region": "", "host": "a", "service_host": "a", "resource_provider": None,
             "level": "trusted", "reason": "", "tags": {}},
        ],
        "lapsing": [{"region": "", "host": "a", "seconds": 12.5}],
    })  # fmt: skip
    records = json.loads(oat("verdict", "list", "-f", "json").out)
    assert [(record["host"], record["level"], record["lapses_in"]) for record in records] == [
        ("a", "trusted", 12.5), ("b", "untrusted", None),
    ]  # fmt: skip
