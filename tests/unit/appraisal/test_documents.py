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
from oat_trusted_filter.backend.appraisal.derivation import GoodBoot, derive_reference
from oat_trusted_filter.backend.appraisal.document import DocumentError
from oat_trusted_filter.backend.appraisal.policy import DEFAULT_POLICY
from oat_trusted_filter.backend.appraisal.reference import BOOT_PCRS
from tests.lab.file_keys import FileKey
from tests.unit.appraisal.hosts import good_boot, reference_of

DOCUMENT = {"name": "set", "pcrs": {"sha256": {"4": ["00" * 32]}}}
FROM = {"source": "typed", "by": "admin", "at": "2026-01-01T00:00:00Z"}
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


def test_all_values_of_a_pcr_that_differs_are_taken_if_one_asks_for_it():
    boots = [good_boot("machine-a"), good_boot("machine-b")]

    found, differing = derive_reference("two", "os", (8, 9), boots, take=(9,))

    assert [item.pcr for item in differing] == [8, 9]
    assert found.pcrs["sha256"] == {9: {boot.pcrs["sha256"][9] for boot in boots}}
    common, _ = derive_reference("two", "platform", BOOT_PCRS, boots)
    assert common.boot_files["sha256"] < found.boot_files["sha256"]
    assert reference.from_document(json.loads(json.dumps(reference.to_document(found)))) == found


def test_launch_pcrs_are_taken_from_hosts_that_have_launched():
    one = good_boot("machine-a")
    with pytest.raises(DocumentError, match="dynamic launch") as refused:
        derive_reference("none", "txt", (17, 18), [one])
    assert refused.value.code == "reference-empty"
    values = {17: b"\1" * 32, 18: b"\2" * 32}
    launched = GoodBoot("launched", one.log, {"sha256": values})

    found, _ = derive_reference("txt", "txt", (17, 18), [launched])

    assert found.pcrs == {"sha256": {pcr: {value} for pcr, value in values.items()}}


def test_a_set_says_where_it_comes_from():
    taken = {"source": "hosts", "by": "admin", "at": "2026-01-01T00:00:00Z", "hosts": ["a", "b"]}
    imported = {"source": "imported", "by": "me", "at": "2026-02-01T00:00:00Z", "origin": taken}
    for provenance in (taken, imported):
        found = reference.from_document({**DOCUMENT, "provenance": provenance})
        assert reference.to_document(found)["provenance"] == provenance


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
        ({**DOCUMENT, "boot_files": {"sha256": ["00"]}}, "boot_files.sha256"),
        ({**DOCUMENT, "provenance": {}}, "provenance"),
        ({**DOCUMENT, "provenance": {**FROM, "source": "heaven"}}, "provenance.source"),
        ({**DOCUMENT, "provenance": {**FROM, "at": None}}, "provenance.at"),
        ({**DOCUMENT, "provenance": {**FROM, "by": "a\n"}}, "provenance.by"),
        ({**DOCUMENT, "provenance": {**FROM, "hosts": "a"}}, "provenance.hosts"),
        (
            {**DOCUMENT, "provenance": {**FROM, "origin": {**FROM, "origin": FROM}}},
            "provenance.origin.origin",
        ),
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
        "boot_files": ["os"],
        "dynamic_launch": "required",
        "ima": {"mode": "enforce", "exclude": ["/tmp/.*"], "keys": [FileKey.ecc().pem]},
        "orderly_shutdown": "required",
        "tpm_firmware": ["0x0007000200110000"],
        "max_age": 120,
        "labels": {"rack": "a"},
        "tags": {"require": {"country": ["DE"], "zone": ["eu-1", "eu-2"]}, "nvram": "required"},
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
        ({"tags": {"nvram": "yes"}}, "tags.nvram"),
        ({"tags": {"require": ["zone"]}}, "tags.require"),
        ({"tags": {"require": {"zone": "eu-1"}}}, "tags.require.zone"),
        ({"tags": {"require": {"zone": []}}}, "tags.require.zone"),
        ({"tags": {"require": {"zone": ["eu,us"]}}}, "tags.require.zone"),
        ({"tags": {"require": {"z one": ["eu"]}}}, "tags.require.z one"),
        ({"tags": {"requires": {}}}, "requires"),
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
        ({"requirements": [], "secure_boot": "optional", "max_age": 60}, "nothing"),
        ({"boot_files": "os"}, "boot_files"),
        ({"orderly_shutdown": True}, "orderly_shutdown"),
        ({"tpm_firmware": "0x1"}, "tpm_firmware"),
        ({"tpm_firmware": ["7.2"]}, "tpm_firmware[0]"),
        ({"tpm_firmware": [True]}, "tpm_firmware[0]"),
        ({"tpm_firmware": [2**64]}, "tpm_firmware[0]"),
        ({"max_age": 5}, "max_age"),
        ({"max_age": 10**9}, "max_age"),
        ({"max_age": "60"}, "max_age"),
        ({"labels": ["rack"]}, "labels"),
        ({"labels": {"rack": 1}}, "labels.rack"),
        ({"labels": {"a b": "c"}}, "labels"),
        ({"labels": {f"l{n}": "x" for n in range(65)}}, "labels"),
        ({"name": "default", "labels": {"rack": "a"}}, "labels"),
    ],
)
def test_a_document_that_is_no_policy_is_refused_by_field(fields, field):
    assert field in refusal(policy.from_document, {"name": "p", **fields})


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"secure_boot": True}, "secure_boot"),
        ({"requirements": [{"kind": "a", "pcrs": [0]}, {"kind": "a", "pcrs": [99]}]},
         "requirements[1].pcrs"),
        ({"ima": {"exclude": ["x", "("]}}, "ima.exclude[1]"),
        ({"ima": {"colour": "blue"}}, "ima.colour"),
        ({"colour": "blue"}, "colour"),
        ({"name": "a b"}, "name"),
    ],
)  # fmt: skip
def test_a_refusal_says_where_in_the_document(fields, field):
    with pytest.raises(DocumentError) as refused:
        policy.from_document({"name": "p", **fields})
    assert refused.value.field == field


def test_a_version_of_the_tpm_may_be_a_number():
    """YAML takes 0x… without quotation marks for one."""
    found = policy.from_document({"name": "p", "tpm_firmware": [0x70002, "0X70002"]})
    assert found.tpm_firmware == {0x70002}
