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
"""What CommandTool writes, as its scripts send it with curl."""

import ipaddress
import json

import pytest

from oat_trusted_filter.backend.api.oat_compat.routes import OAT_ROUTES
from oat_trusted_filter.backend.manage.credentials import create_token
from oat_trusted_filter.backend.settings import OatCompat
from oat_trusted_filter.backend.store.credentials import ADMIN, READER

OPERATOR = "192.0.2.11"
STRANGER = "198.51.100.1"
HOSTS = "/AttestationService/resources/hosts"
WLM = "/WLMService/resources"
JSON = {"Content-Type": "application/json"}
FIRMWARE, SYSTEM = (0, 2, 4, 7), (8, 9)


@pytest.fixture
def place(place_maker):
    """A service where the machine of an operator may write."""
    writers = (ipaddress.ip_network(OPERATOR),)
    compat = OatCompat(allow_writes=True, writers_from=writers)
    return place_maker(auth_strategy="http_basic", oat_compat=compat)


def send(place, method, path, body=None, query="", address=OPERATOR, **headers):
    headers = JSON | {name.replace("_", "-"): value for name, value in headers.items()}
    return place.client.simulate_request(
        method, path, body=json.dumps(body) if body is not None else None, query_string=query,
        remote_addr=address, headers=headers,
    )  # fmt: skip


def write(place, method, path, body=None, query=""):
    """A change that succeeds: four characters, without quotation marks."""
    answer = send(place, method, path, body, query)
    assert (answer.status_code, answer.text) == (200, "true"), answer.text


def error(answer):
    assert answer.status_code == 400, answer.text
    assert answer.json.keys() == {"error_code", "error_message"}
    return answer.json["error_code"]


def read(place, path, query=""):
    answer = send(place, "GET", path, query=query)
    assert answer.status_code == 200, answer.text
    return answer.json


def bios(**fields):
    return {
        "Name": "B", "Version": "v123", "Attestation_Type": "PCR", "MLE_Type": "BIOS",
        "Description": "", "OemName": "OEM1", **fields,
    }  # fmt: skip


def vmm(**fields):
    return {
        "Name": "V", "Version": "v1", "Attestation_Type": "pcr", "MLE_Type": "VMM",
        "Description": "", "OsName": "OS 1", "OsVersion": "12", **fields,
    }  # fmt: skip


@pytest.fixture
def makers(place):
    """An OEM and an operating system."""
    write(place, "POST", f"{WLM}/oem", {"Name": "OEM1", "Description": "d"})
    write(place, "POST", f"{WLM}/os", {"Name": "OS 1", "Version": "12", "Description": ""})


def manifests(host, pcrs):
    return [
        {"Name": str(pcr), "Value": values[pcr].hex().upper()}
        for values in host.values.values()
        for pcr in pcrs
    ]


def record(host, **fields):
    """As oat_host sends it."""
    return {
        "HostName": host.name, "IPAddress": "192.0.2.20", "Port": "9999",
        "BIOS_Name": "B", "BIOS_Version": "v123", "BIOS_Oem": "OEM1",
        "VMM_Name": "V", "VMM_Version": "v1", "VMM_OSName": "OS 1", "VMM_OSVersion": "12",
        "AddOn_Connection_String": "", "Description": "", "Email": "", **fields,
    }  # fmt: skip


@pytest.fixture
def host(place, operator, makers):
    """A host that is judged by two MLEs and trusted."""
    host = operator.approved_host("node-1")
    assert host.attest() == "untrusted"
    write(place, "POST", f"{WLM}/mles", bios(MLE_Manifests=manifests(host, FIRMWARE)))
    write(place, "POST", f"{WLM}/mles", vmm(MLE_Manifests=manifests(host, SYSTEM)))
    write(place, "POST", HOSTS, record(host))
    assert host.attest() == "trusted"
    return host


# -- OEMs and operating systems ---------------------------------------------------------------


def test_oat_oem(place):
    path = f"{WLM}/oem"
    write(place, "POST", path, {"Name": "OEM1", "Description": "d"})
    assert error(send(place, "POST", path, {"Name": "OEM1"})) == "WS_OEM_ALREADY_EXISTS"
    write(place, "PUT", path, {"Name": "OEM1", "Description": "e"})
    assert read(place, path) == [{"Name": "OEM1", "Description": "e"}]
    write(place, "DELETE", path, query="Name=OEM1")
    assert read(place, path) == []
    assert error(send(place, "PUT", path, {"Name": "OEM1"})) == "WS_OEM_DOES_NOT_EXIST"
    assert error(send(place, "DELETE", path, query="Name=OEM1")) == "WS_OEM_DOES_NOT_EXIST"
    assert error(send(place, "POST", path, {"Description": "d"})) == "AS_MISSING_INPUT"


def test_oat_os(place):
    path = f"{WLM}/os"
    for version in ("12", "13"):
        write(place, "POST", path, {"Name": "OS 1", "Version": version, "Description": version})
    assert error(send(place, "POST", path, {"Name": "OS 1", "Version": "12"})) == (
        "WS_OS_ALREADY_EXISTS"
    )
    write(place, "PUT", path, {"Name": "OS 1", "Version": "12", "Description": "old"})
    assert [item["Description"] for item in read(place, path)] == ["old", "13"]
    # The script turns blanks into %20, and leaves one before each name and value.
    write(place, "DELETE", path, query="Name=OS%201&%20Version=%2012")
    assert [item["Version"] for item in read(place, path)] == ["13"]
    assert error(send(place, "DELETE", path, query="Name=OS%201")) == "WS_OS_DOES_NOT_EXIST"


def test_makers_stay_as_long_as_they_have_mles(place, makers):
    write(place, "POST", f"{WLM}/mles", bios())
    write(place, "POST", f"{WLM}/mles", vmm())
    answer = send(place, "DELETE", f"{WLM}/oem", query="Name=OEM1")
    assert error(answer) == "WS_OEM_ASSOCIATION_EXISTS"
    answer = send(place, "DELETE", f"{WLM}/os", query="Name=OS%201&Version=12")
    assert error(answer) == "WS_OS_ASSOCIATION_EXISTS"


# -- MLEs -------------------------------------------------------------------------------------


@pytest.mark.every_database
def test_oat_mle(place, operator, makers):
    path, query = f"{WLM}/mles", "mleName=B&mleVersion=v123&oemName=OEM1"
    first = {"Name": "0", "Value": "AB" * 20}
    write(place, "POST", path, bios(MLE_Manifests=[first], Description="d"))
    assert error(send(place, "POST", path, bios())) == "WS_MLE_ALREADY_EXISTS"
    shown = read(place, f"{path}/manifest", query)
    assert shown == bios(Description="d", OsName=None, OsVersion=None, MLE_Manifests=[first])
    # What it holds is a reference set like any other.
    (listed,) = operator.get("/v1/reference-sets")["reference_sets"]
    assert listed["pcrs"] == {"sha1": {"0": ["ab" * 20]}}
    other = {"Name": "7", "Value": "CD" * 32}
    write(place, "PUT", path, bios(MLE_Manifests=[other]))
    assert read(place, f"{path}/manifest", query)["MLE_Manifests"] == [other]
    write(place, "DELETE", path, query="mleName=B&%20mleVersion=v123&%20oemName=%20OEM1")
    assert error(send(place, "GET", f"{path}/manifest", query=query)) == "WS_MLE_DOES_NOT_EXIST"
    assert operator.get("/v1/reference-sets")["reference_sets"] == []
    assert error(send(place, "PUT", path, bios())) == "WS_MLE_DOES_NOT_EXIST"
    assert error(send(place, "DELETE", path, query=query)) == "WS_MLE_DOES_NOT_EXIST"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (bios(OemName="other"), "WS_MLE_OEM_DOES_NOT_EXIST"),
        (vmm(OsVersion="13"), "WS_MLE_OS_DOES_NOT_EXIST"),
        (bios(OsName="OS 1", OsVersion="12"), "WS_OEM_OS_DATA_CANNOT_COEXIST"),
        (bios(OemName=None), "WS_MLE_DATA_MISSING"),
        (bios(Version=""), "WS_MLE_DATA_MISSING"),
        (bios(MLE_Type="VMM"), "AS_MISSING_INPUT"),
        (bios(Attestation_Type="X"), "AS_MISSING_INPUT"),
        (bios(Name="x" * 256), "AS_MISSING_INPUT"),
        (bios(MLE_Manifests=[{"Name": "0", "Value": "####"}]), "WS_MLE_PCR_NOT_VALID"),
        (bios(MLE_Manifests=[{"Name": "0", "Value": "ab"}]), "WS_MLE_PCR_NOT_VALID"),
        (bios(MLE_Manifests=[{"Name": "24", "Value": "ab" * 20}]), "WS_MLE_PCR_NOT_VALID"),
        (bios(MLE_Manifests=[{"Name": "16", "Value": "ab" * 20}]), "WS_MLE_PCR_NOT_VALID"),
        ([], "SYSTEM_ERROR"),
    ],
)
def test_mles_that_are_none(place, operator, makers, body, code):
    assert error(send(place, "POST", f"{WLM}/mles", body)) == code
    assert read(place, f"{WLM}/mles") == []
    assert operator.get("/v1/reference-sets")["reference_sets"] == []


def test_oat_pcrwhitelist(place, makers):
    path = f"{WLM}/mles/whitelist/pcr"
    write(place, "POST", f"{WLM}/mles", bios())
    mle = {"mleName": "B", "mleVersion": "v123", "oemName": "OEM1"}

    def pcr(digest, name="18"):
        return {"pcrName": name, "pcrDigest": digest, **mle}

    def shown():
        query = "mleName=B&mleVersion=v123&oemName=OEM1"
        return [
            (item["Name"], item["Value"])
            for item in read(place, f"{WLM}/mles/manifest", query)["MLE_Manifests"]
        ]

    assert error(send(place, "PUT", path, pcr("aa" * 20))) == "WS_PCR_WHITELIST_DOES_NOT_EXIST"
    write(place, "POST", path, pcr("aa" * 20))
    assert error(send(place, "POST", path, pcr("bb" * 20))) == "WS_PCR_WHITELIST_ALREADY_EXISTS"
    write(place, "PUT", path, pcr("bb" * 20))
    # Another length is another bank.
    write(place, "POST", path, pcr("cc" * 32))
    write(place, "POST", path, pcr("dd" * 20, "2"))
    assert shown() == [("2", "DD" * 20), ("18", "BB" * 20), ("18", "CC" * 32)]
    query = "pcrName=18&mleName=B&mleVersion=v123&oemName=OEM1"
    for _ in range(2):
        write(place, "DELETE", path, query=query)
        assert shown() == [("2", "DD" * 20)]
    write(place, "DELETE", path, query=query.replace("18", "2", 1))
    assert shown() == []


def test_the_source_of_an_mle(place, makers):
    path, query = f"{WLM}/mles/source", "mleName=V&mleVersion=v1&osName=OS%201&osVersion=12"
    write(place, "POST", f"{WLM}/mles", vmm())
    nobody = "Manually configured white list"
    assert send(place, "GET", path, query=query).text == nobody
    for method, name in (("POST", "node-1"), ("PUT", "node-2")):
        write(place, method, path, {"mleData": vmm(), "hostName": name})
        assert send(place, "GET", path, query=query).text == name
    for _ in range(2):
        write(place, "DELETE", path, query=query)
        assert send(place, "GET", path, query=query).text == nobody


# -- hosts ------------------------------------------------------------------------------------


def test_oat_host(place, operator, host):
    shown = {key: value for key, value in record(host).items() if key[:4] in ("BIOS", "VMM_")}
    (listed,) = read(place, HOSTS, "searchCriteria=node-1")
    assert listed.items() >= shown.items()
    assert error(send(place, "POST", HOSTS, record(host))) == "AS_HOST_EXISTS"
    write(place, "PUT", HOSTS, record(host))
    write(place, "DELETE", HOSTS, query="hostName=node-1")
    assert read(place, HOSTS) == []
    assert operator.call("GET", "/v1/hosts/node-1").status_code == 404


def test_a_host_that_boots_something_else(place, host):
    host.boot("machine-a-loader")
    assert host.attest() == "untrusted"
    trust = read(place, f"{HOSTS}/trust", "hostName=node-1")["trust"]
    assert trust["bios"] is False


def test_a_changed_white_list_counts_at_once(place, operator, host):
    path = f"{WLM}/mles/whitelist/pcr"
    mle = {"mleName": "B", "mleVersion": "v123", "oemName": "OEM1"}

    def level():
        return operator.get("/v1/hosts/node-1")["level"]

    assert level() == "trusted"
    body = {"pcrName": "0", "pcrDigest": "00" * 32, **mle}
    write(place, "PUT", path, body)
    assert level() == "untrusted"
    write(place, "PUT", path, body | {"pcrDigest": host.values["sha256"][0].hex()})
    assert level() == "trusted"
    # One PCR more is asked for, and in all banks of the host.
    write(place, "POST", path, body | {"pcrName": "1"})
    assert level() != "trusted"
    write(place, "DELETE", path, query="pcrName=1&mleName=B&mleVersion=v123&oemName=OEM1")
    assert level() == "trusted"


def test_an_emptied_white_list_trusts_nobody(place, operator, host):
    write(place, "PUT", f"{WLM}/mles", bios(MLE_Manifests=[]))
    assert operator.get("/v1/hosts/node-1")["level"] != "trusted"
    assert host.attest() != "trusted"
    write(place, "PUT", f"{WLM}/mles", bios(MLE_Manifests=manifests(host, FIRMWARE)))
    assert host.attest() == "trusted"


def test_an_mle_stays_as_long_as_a_host_is_judged_by_it(place, operator, host):
    query = "mleName=B&mleVersion=v123&oemName=OEM1"
    answer = send(place, "DELETE", f"{WLM}/mles", query=query)
    assert error(answer) == "WS_MLE_ASSOCIATION_EXISTS"
    write(place, "DELETE", HOSTS, query="hostName=node-1")
    write(place, "DELETE", f"{WLM}/mles", query=query)
    names = [item["name"] for item in operator.get("/v1/policies")["policies"]]
    assert names == ["default"]


def test_hosts_that_cannot_be_judged(place, operator, makers):
    host = operator.approved_host("node-1")
    assert error(send(place, "POST", HOSTS, record(host))) == "WS_MLE_DOES_NOT_EXIST"
    for body in (bios(), vmm()):
        write(place, "POST", f"{WLM}/mles", body)
    assert error(send(place, "POST", HOSTS, record(host))) == "AS_MISSING_MANIFEST"
    for fields, code in (
        ({"HostName": "nobody"}, "AS_HOST_NOT_FOUND"),
        ({"HostName": ""}, "AS_MISSING_INPUT"),
        ({"BIOS_Oem": None}, "WS_MLE_DATA_MISSING"),
    ):
        for method in ("POST", "PUT"):
            assert error(send(place, method, HOSTS, record(host, **fields))) == code
    assert operator.get("/v1/hosts/node-1")["bound_policy"] is None


# -- where hosts are --------------------------------------------------------------------------

LOCATION = f"{HOSTS}/location"
NODE_1 = "hostName=node-1"


def launched(host, value):
    """Let what was started say where it is."""
    for bank in host.values.values():
        size = len(bank[22])
        bank[22] = (value * size)[:size]


@pytest.mark.every_database
def test_a_value_of_pcr_22_stands_for_a_place(place, operator, host):
    launched(host, b"\x01\x02")
    assert host.attest() == "trusted"
    assert read(place, LOCATION, NODE_1) == {"location": None, "white_list_value": ""}
    trust = f"{HOSTS}/trust"
    assert read(place, trust, NODE_1)["trust"]["location"] is False
    sha1, sha256 = (host.values[bank][22].hex() for bank in ("sha1", "sha256"))
    other = bytes(range(32)).hex()
    for value, location, outcome in (
        (other, "Nowhere", None), (sha1, "Somewhere", "Somewhere"),
        (sha256.upper(), "San Jose", "San Jose"), (sha256, "Santa Clara", "Santa Clara"),
    ):  # fmt: skip
        write(place, "POST", LOCATION, {"location": location, "white_list_value": value})
        assert read(place, LOCATION, NODE_1)["location"] == outcome
    assert read(place, trust, NODE_1)["trust"] == {
        "bios": True, "vmm": True, "location": True, "asset_tag": False,
    }  # fmt: skip
    row = next(row for row in operator.get("/v1/audit")["rows"] if "oat-loc" in row["action"])
    assert (row["action"], row["actor"]) == ("oat-location.set", f"address {OPERATOR}")


def test_what_an_operator_says_of_a_host_comes_before_its_pcr_22(place, operator, host):
    launched(host, b"\x01\x02")
    host.attest()
    body = {"location": "San Jose", "white_list_value": host.values["sha256"][22].hex()}
    write(place, "POST", LOCATION, body)
    operator.call("POST", "/v1/tags", {"name": "location", "values": ["Rome"]})
    tags = {"tags": {"location": "Rome"}}
    assert operator.call("PUT", "/v1/hosts/node-1/tags", tags).status_code == 200
    assert read(place, LOCATION, NODE_1)["location"] == "Rome"


def test_a_host_that_is_not_trusted_is_nowhere(place, host):
    host.boot("machine-a-loader")
    launched(host, b"\x01\x02")
    assert host.attest() == "untrusted"
    body = {"location": "San Jose", "white_list_value": host.values["sha256"][22].hex()}
    write(place, "POST", LOCATION, body)
    assert read(place, LOCATION, NODE_1)["location"] is None


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"location": ""}, "AS_MISSING_INPUT"),
        ({"location": None}, "AS_MISSING_INPUT"),
        ({"location": "x" * 256}, "AS_MISSING_INPUT"),
        ({"white_list_value": None}, "WS_MLE_PCR_NOT_VALID"),
        ({"white_list_value": "####"}, "WS_MLE_PCR_NOT_VALID"),
        ({"white_list_value": "01" * 21}, "WS_MLE_PCR_NOT_VALID"),
        ({"white_list_value": "00" * 32}, "AS_MISSING_INPUT"),
        ({"white_list_value": "FF" * 20}, "AS_MISSING_INPUT"),
        ({"location": 7}, "SYSTEM_ERROR"),
    ],
)
def test_places_that_are_none(place, fields, code):
    body = {"location": "San Jose", "white_list_value": "01" * 19 + "02", **fields}
    assert error(send(place, "POST", LOCATION, body)) == code


# -- who may write ----------------------------------------------------------------------------

WRITING = [route for route in OAT_ROUTES if route.role == ADMIN]


@pytest.mark.parametrize("route", WRITING, ids=lambda route: route.name)
def test_C1_who_may_write(place, route):
    tokens = {role: create_token(place.store, role, role) for role in (READER, ADMIN)}
    for headers, status in (
        ({}, {401}), ({"x_auth_blob": tokens[READER]}, {403}), ({"x_auth_blob": "x"}, {401}),
        ({"x_auth_blob": tokens[ADMIN]}, {400, 200}),
    ):  # fmt: skip
        answer = send(place, route.method, route.path, address=STRANGER, **headers)
        assert answer.status_code in status


def test_C1_an_address_for_writing_is_worth_nothing_unless_writing_is_allowed(place_maker):
    writers = (ipaddress.ip_network(OPERATOR),)
    place = place_maker(auth_strategy="http_basic", oat_compat=OatCompat(writers_from=writers))
    for route in WRITING:
        assert send(place, route.method, route.path, {}).status_code in (404, 405)
    assert read(place, f"{WLM}/oem") == []
    assert send(place, "POST", "/v1/reference-sets", {}).status_code == 401


def test_what_is_written_is_in_the_audit_trail(place, operator, host):
    rows = operator.get("/v1/audit")["rows"]
    found = {(row["actor"], row["action"]) for row in rows}
    assert {
        (f"address {OPERATOR}", action)
        for action in ("oat-oem.create", "oat-os.create", "oat-mle.create", "host.change")
    } <= found
