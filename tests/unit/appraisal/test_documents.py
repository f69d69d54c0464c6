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
"""Reference sets and policies: taken from hosts, written down, read back."""

import json

import pytest

from oat_trusted_filter.backend.appraisal import policy, reference
from oat_trusted_filter.backend.appraisal.document import DocumentError
from oat_trusted_filter.backend.appraisal.policy import DEFAULT_POLICY
from oat_trusted_filter.backend.appraisal.reference import BOOT_PCRS, GoodBoot, derive_reference
from tests.lab.file_keys import FileKey
from tests.unit.appraisal.hosts import good_boot, reference_of

DOCUMENT = {"name": "set", "pcrs": {"sha256": {"4": ["00" * 32]}}}
FILES = {"sha256:" + "ab" * 32: ["/bin/sh", "/bin/true"], "sha512:" + "cd" * 64: []}


def refusal(read, document):
    with pytest.raises(DocumentError) as refused:
        read(document)
    assert refused.value.code
    return str(refused.value)


def test_one_host_gives_all_its_boot_pcrs():
    found, differing = derive_reference("one", "platform", BOOT_PCRS, [good_boot("machine-a")])

    assert differing == ()
    assert set(found.pcrs) == {"sha1", "sha256", "sha384"}
    assert all(set(values) == set(BOOT_PCRS) for values in found.pcrs.values())
    assert any("grubx64" in event.description for event in found.events)


def test_two_hosts_give_what_is_the_same_and_name_what_is_not():
    boots = [good_boot("machine-a"), good_boot("machine-b")]

    found, differing = derive_reference("two", "platform", BOOT_PCRS, boots)

    assert set(found.pcrs["sha256"]) == {0, 2, 3, 4, 6, 7, 14}
    assert {event.pcr for event in found.events} <= {0, 2, 3, 4, 6, 7, 14}
    assert [item.pcr for item in differing] == [1, 5, 8, 9]
    command_lines = [e for e in differing[2].events if "kernel_cmdline" in e.description]
    assert {event.host for event in command_lines} == {"machine-a", "machine-b"}
    assert json.dumps([item.as_dict() for item in differing])


def test_hosts_without_a_common_bank_or_pcr_give_nothing():
    one = good_boot("machine-a")
    sha1 = GoodBoot("old", one.log, {"sha1": one.pcrs["sha1"]})
    sha256 = GoodBoot("new", one.log, {"sha256": one.pcrs["sha256"]})

    for boots, pcrs in (([sha1, sha256], BOOT_PCRS), ([], BOOT_PCRS), ([one], [])):
        with pytest.raises(DocumentError) as refused:
            derive_reference("none", "platform", pcrs, boots)
        assert refused.value.code == "reference-empty"


def test_a_reference_set_survives_being_written_down():
    known = reference_of("machine-a", "machine-b", pcrs=BOOT_PCRS)

    written = json.loads(json.dumps(reference.to_document(known)))

    assert reference.from_document(written) == known


def test_an_allow_list_survives_being_written_down():
    document = {"name": "files", "kind": "ima", "files": FILES}

    known = reference.from_document(document)

    assert known.pcrs == {}
    written = json.loads(json.dumps(reference.to_document(known)))
    assert written["files"] == FILES
    assert reference.from_document(written) == known


def test_validity_is_read_with_its_time_zone():
    document = {**DOCUMENT, "valid_from": "2026-01-01T00:00:00Z",
                "valid_until": "2027-01-01T00:00:00+01:00"}  # fmt: skip

    found = reference.from_document(document)

    assert reference.to_document(found)["valid_until"] == "2026-12-31T23:00:00Z"


@pytest.mark.parametrize(
    ("document", "field"),
    [
        (None, "reference set"),
        ([], "reference set"),
        ({"name": "set"}, "neither pcrs nor images"),
        ({**DOCUMENT, "pcr": {}}, "pcr"),
        ({**DOCUMENT, "name": "a b"}, "name"),
        ({**DOCUMENT, "name": "a\n"}, "name"),
        ({**DOCUMENT, "name": 5}, "name"),
        ({**DOCUMENT, "kind": ""}, "kind"),
        ({**DOCUMENT, "pcrs": {}}, "pcrs"),
        ({**DOCUMENT, "images": {"sha256": ["00"]}}, "images.sha256"),
        ({**DOCUMENT, "images": {"md5": ["00"]}}, "md5"),
        ({**DOCUMENT, "pcrs": {"md5": {"4": ["00"]}}}, "md5"),
        ({**DOCUMENT, "pcrs": {"sha256": {}}}, "sha256"),
        ({**DOCUMENT, "pcrs": {"sha256": {"23": ["00" * 32]}}}, "23"),
        ({**DOCUMENT, "pcrs": {"sha256": {"04": ["00" * 32]}}}, "04"),
        ({**DOCUMENT, "pcrs": {"sha256": {"four": ["00" * 32]}}}, "four"),
        ({**DOCUMENT, "pcrs": {"sha256": {"4": []}}}, "pcrs.sha256.4"),
        ({**DOCUMENT, "pcrs": {"sha256": {"4": ["00" * 20]}}}, "pcrs.sha256.4"),
        ({**DOCUMENT, "pcrs": {"sha256": {"4": ["zz" * 32]}}}, "pcrs.sha256.4"),
        ({**DOCUMENT, "pcrs": {"sha256": {"4": ["00 " * 32]}}}, "pcrs.sha256.4"),
        ({**DOCUMENT, "pcrs": {"sha256": {"4": [7]}}}, "pcrs.sha256.4"),
        ({**DOCUMENT, "events": "all"}, "events"),
        ({**DOCUMENT, "events": [{"pcr": 4}]}, "events[0]"),
        ({**DOCUMENT, "events": [{"pcr": 4, "type": 1, "digest": "00"}]}, "events[0].type"),
        ({**DOCUMENT, "files": FILES}, "files"),
        ({**DOCUMENT, "kind": "ima"}, "files"),
        ({"name": "set", "kind": "ima", "files": {}}, "files"),
        ({"name": "set", "kind": "ima", "files": ["ab"]}, "files"),
        ({"name": "set", "kind": "ima", "files": {"sha1:" + "ab" * 20: []}}, "sha1"),
        ({"name": "set", "kind": "ima", "files": {"sha256:" + "AB" * 32: []}}, "sha256"),
        ({"name": "set", "kind": "ima", "files": {"sha256:" + "ab" * 31: []}}, "sha256"),
        ({"name": "set", "kind": "ima", "files": {"sha256:" + "ab" * 32 + "\n": []}}, "sha256"),
        ({"name": "set", "kind": "ima", "files": {"sha256:" + "ab" * 32: "/bin/sh"}}, "paths"),
        ({"name": "set", "kind": "ima", "files": {"sha256:" + "ab" * 32: [""]}}, "paths"),
        ({"name": "set", "kind": "ima", "files": {"sha256:" + "ab" * 32: ["x" * 4097]}}, "paths"),
        ({**DOCUMENT, "valid_until": "tomorrow"}, "valid_until"),
        ({**DOCUMENT, "valid_until": "2027-01-01T00:00:00"}, "valid_until"),
        (
            {**DOCUMENT, "valid_from": "2027-01-01T00:00:00Z",
             "valid_until": "2026-01-01T00:00:00Z"},
            "valid_until",
        ),
    ],
)  # fmt: skip
def test_a_document_that_is_no_reference_set_is_refused_by_field(document, field):
    assert field in refusal(reference.from_document, document)


def test_a_policy_survives_being_written_down():
    document = {
        "name": "strict",
        "secure_boot": "optional",
        "requirements": [{"kind": "kernel", "pcrs": [8, 9]}],
        "kernel_command_line": "root=.*",
        "certificates": {"KEK": ["ab" * 32], "db": []},
        "dbx_minimum": ["cd" * 32],
        "images": ["kernel"],
        "dynamic_launch": "required",
        "ima": {"mode": "enforce", "exclude": ["/tmp/.*"], "keys": [FileKey.ecc().pem]},
    }

    assert policy.to_document(policy.from_document(document)) == document


def test_a_policy_that_says_nothing_asks_for_what_the_default_asks():
    assert policy.from_document({"name": "default"}) == DEFAULT_POLICY


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"secure_boot": True}, "secure_boot"),
        ({"requirements": None}, "requirements"),
        ({"requirements": [{"kind": "platform"}]}, "requirements[0]"),
        ({"requirements": [{"kind": "platform", "pcrs": []}]}, "requirements[0].pcrs"),
        ({"requirements": [{"kind": "platform", "pcrs": [16]}]}, "requirements[0].pcrs"),
        ({"requirements": [{"kind": "platform", "pcrs": [True]}]}, "requirements[0].pcrs"),
        ({"requirements": [{"kind": "platform", "pcrs": [4, 4]}]}, "requirements[0].pcrs"),
        ({"requirements": [], "secure_boot": "optional"}, "requirements"),
        ({"kernel_command_line": "("}, "kernel_command_line"),
        ({"kernel_command_line": 5}, "kernel_command_line"),
        ({"kernel_comand_line": "x"}, "kernel_comand_line"),
        ({"certificates": {"dbx": []}}, "dbx"),
        ({"certificates": {"db": ["ab"]}}, "certificates.db"),
        ({"certificates": {"db": "ab" * 32}}, "certificates.db"),
        ({"dbx_minimum": [5]}, "dbx_minimum"),
        ({"images": "kernel"}, "images"),
        ({"images": [""]}, "images[0]"),
        ({"dynamic_launch": "always"}, "dynamic_launch"),
        ({"ima": "enforce"}, "ima"),
        ({"ima": {"mode": "on"}}, "ima.mode"),
        ({"ima": {"mode": False}}, "ima.mode"),
        ({"ima": {"colour": "blue"}}, "colour"),
        ({"ima": {"exclude": "/tmp/.*"}}, "ima.exclude"),
        ({"ima": {"exclude": ["x", "("]}}, "ima.exclude[1]"),
        ({"ima": {"exclude": ["x"] * 501}}, "ima.exclude"),
        ({"ima": {"keys": ["no key"]}}, "ima.keys[0]"),
        ({"ima": {"keys": [FileKey.rsa(1024).pem]}}, "ima.keys[0]"),
        ({"requirements": [], "secure_boot": "optional", "ima": {"mode": "report"}}, "nothing"),
    ],
)
def test_a_document_that_is_no_policy_is_refused_by_field(fields, field):
    assert field in refusal(policy.from_document, {"name": "p", **fields})
