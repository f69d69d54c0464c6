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
"""The reports of OpenAttestation."""

import ipaddress
from xml.etree import ElementTree

import pytest

from oat_trusted_filter.backend.settings import OatCompat

OPERATOR = "192.0.2.11"
REPORTS = "/AttestationService/resources/hosts/reports"
NAME = "hostName=node-1"


@pytest.fixture
def place(place_maker):
    """A service where the machine of an operator may read."""
    compat = OatCompat(readers_from=(ipaddress.ip_network(OPERATOR),))
    return place_maker(auth_strategy="http_basic", oat_compat=compat)


@pytest.fixture
def host(operator):
    """A host that was untrusted first and is trusted."""
    host = operator.approved_host("node-1")
    host.attest()
    operator.clock.pass_by(10)
    host.reference = operator.trust(host)
    assert host.attest() == "trusted"
    return host


def get(place, report, query=NAME):
    return place.client.simulate_get(
        f"{REPORTS}/{report}", query_string=query, remote_addr=OPERATOR
    )  # fmt: skip


def xml(place, report, query=NAME):
    answer = get(place, report, query)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("application/xml")
    return ElementTree.fromstring(answer.content)  # noqa: S314  our own


def log(place, query=NAME):
    shown = get(place, "attestationreport", query).json["PcrLogReport"]
    return {item["Name"]: item for item in shown}


def test_the_last_verdicts_about_hosts(place, operator, host):
    operator.approved_host("silent").attest()
    version = operator.get(f"/v1/reference-sets/{host.reference}")["generation"]
    root = xml(place, "trust", "hostNames=node-1,%20silent")
    assert root.tag == "hosts_trust_report"
    mine = [item.attrib for item in root if item.attrib["Host_Name"] == "node-1"]
    assert mine[0] == {
        "Host_Name": "node-1",
        "MLE_Info": f"BIOS:{host.reference}-{version},VMM:{host.reference}:{version}",
        "Trust_Status": "1",
        "Verified_On": "2027-01-15T08:00:10.000Z",
    }
    assert [item["Trust_Status"] for item in mine[1:]] == ["0"] * (len(mine) - 1)
    assert {item.attrib["Host_Name"] for item in root} == {"node-1", "silent"}


def test_no_more_than_five_verdicts_are_told(place, operator, host):
    for number in range(4):
        host.boot("machine-a" if number % 2 else "machine-a-loader")
        host.attest()
    found = [item.attrib["Trust_Status"] for item in xml(place, "trust", "hostNames=node-1")]
    assert found == ["1", "0", "1", "0", "1"]


def test_the_manifest_of_a_host(place, host):
    root = xml(place, "manifest")
    (shown,) = root
    assert (root.tag, shown.attrib) == ("host_manifest_report", {"Name": "node-1"})
    assert [item.attrib["Name"] for item in shown] == ["0", "2", "4", "7"]
    for item in shown:
        pcr = int(item.attrib["Name"])
        assert item.attrib == {
            "Name": str(pcr),
            "Value": host.values["sha256"][pcr].hex().upper(),
            "TrustStatus": "1",
            "Verified_On": "2027-01-15T08:00:10.000Z",
        }


def test_a_host_that_differs(place, host):
    good = host.values["sha256"][4].hex().upper()
    host.boot("machine-a-loader")
    assert host.attest() == "untrusted"
    status = {item.attrib["Name"]: item.attrib["TrustStatus"] for item in xml(place, "manifest")[0]}
    assert status == {"0": "1", "2": "1", "4": "0", "7": "1"}
    shown = log(place)
    assert shown[4] == {
        "Name": 4,
        "TrustStatus": 0,
        "Value": host.values["sha256"][4].hex().upper(),
        "Verified_On": "2027-01-15T08:00:10.000Z",
        "WhitelistValue": good,
        "ModuleLogs": [],
    }
    assert shown[0]["TrustStatus"] == 1
    assert shown[0]["Value"] == shown[0]["WhitelistValue"]
    assert log(place, f"{NAME}&failure_only=true").keys() == {4}


def test_without_a_reference_nothing_is_good(place, operator, host):
    assert operator.call("DELETE", f"/v1/reference-sets/{host.reference}").status_code == 204
    assert {item["TrustStatus"] for item in log(place).values()} == {0}
    assert {item["WhitelistValue"] for item in log(place).values()} == {""}


def test_a_value_that_is_good_in_one_bank_only_is_not_good(place, operator, host):
    """The bank that is shown is one of several, and all have to match."""
    path = f"/v1/reference-sets/{host.reference}"
    pcrs = operator.get(path)["pcrs"]
    assert operator.call("DELETE", path).status_code == 204
    for banks, good in ((["sha256"], 0), (["sha1", "sha256"], 0), (list(pcrs), 1)):
        document = {"kind": "platform", "pcrs": {bank: pcrs[bank] for bank in banks}}
        typed = {"name": "-".join(["typed", *banks]), "document": document}
        assert operator.call("POST", "/v1/reference-sets", typed).status_code == 201
        shown = log(place)[0]
        assert shown["TrustStatus"] == good
        assert (shown["Value"] == shown["WhitelistValue"]) == bool(good)


def test_all_pcrs_of_a_host(place, host):
    root = xml(place, "attestation")
    assert root.tag == "Host_Attestation_Report"
    assert root.attrib == {"Host_Name": "node-1", "Host_VMM": "platform", "TXT_Support": "false"}
    assert {item.attrib["ComponentName"]: item.attrib["DigestValue"] for item in root} == {
        str(pcr): value.hex().upper() for pcr, value in host.values["sha256"].items()
    }


def test_a_dynamic_launch_shows(place, host):
    for values in host.values.values():
        values[17] = bytes(range(len(values[17])))
    host.attest()
    assert xml(place, "attestation").attrib["TXT_Support"] == "true"


@pytest.mark.parametrize("report", ["manifest", "attestation", "attestationreport"])
def test_hosts_there_is_nothing_to_say_about(place, operator, report):
    operator.approved_host("silent")
    for query, code in (
        ("hostName=silent", "AS_PCR_MANIFEST_MISSING"),
        ("hostName=nobody", "AS_HOST_NOT_FOUND"),
        ("", "AS_MISSING_INPUT"),
    ):
        answer = get(place, report, query)
        assert (answer.status_code, answer.json["error_code"]) == (400, code)


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("hostNames=nobody", "AS_HOST_NOT_FOUND"),
        ("hostNames=,", "AS_MISSING_INPUT"),
        ("", "AS_MISSING_INPUT"),
    ],
)
def test_reports_of_trust_about_nobody(place, query, code):
    answer = get(place, "trust", query)
    assert (answer.status_code, answer.json["error_code"]) == (400, code)
