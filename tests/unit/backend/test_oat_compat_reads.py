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
"""What CommandTool and the portals of OpenAttestation read, byte for byte as they ask for it."""

import ipaddress

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from oat_trusted_filter.backend.api.oat_compat.routes import served
from oat_trusted_filter.backend.manage.credentials import create_token
from oat_trusted_filter.backend.settings import OatCompat
from oat_trusted_filter.backend.store.credentials import READER, SERVICE

ENGINE = "192.0.2.10"
OPERATOR = "192.0.2.11"
HOSTS = "/AttestationService/resources/hosts"
WLM = "/WLMService/resources"


@pytest.fixture
def place(place_maker):
    """A service that knows an engine and the machine of an operator by their address."""
    engine, operator = ((ipaddress.ip_network(address),) for address in (ENGINE, OPERATOR))
    compat = OatCompat(pollhosts_from=engine, readers_from=operator)
    return place_maker(auth_strategy="http_basic", oat_compat=compat)


@pytest.fixture
def host(operator):
    """A host that is trusted."""
    host = operator.approved_host("node-1.example.org")
    host.attest()
    host.reference = operator.trust(host)
    assert host.attest() == "trusted"
    return host


def get(place, path, query="", address=OPERATOR, **headers):
    """As curl sends it: the query is on the line as CommandTool has built it."""
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return place.client.simulate_get(
        path, query_string=query, remote_addr=address, headers=headers
    )  # fmt: skip


def error(answer):
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/json"
    assert answer.json.keys() == {"error_code", "error_message"}
    return answer.json["error_code"]


def version_of(operator, name):
    return str(operator.get(f"/v1/reference-sets/{name}")["generation"])


# -- hosts ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("searchCriteria=", True), ("", True), ("searchCriteria=node", True),
        ("searchCriteria=%20example%20", True), ("searchCriteria=other", False),
        ("searchCriteria=node&includeHardwareUuid=true", True),
    ],
)  # fmt: skip
def test_oat_host_searches(place, host, query, found):
    answer = get(place, HOSTS, query)
    assert answer.status_code == 200
    assert [item["HostName"] for item in answer.json] == ["node-1.example.org"] * found
    if not found:
        assert answer.text == "[]"


def test_a_host_is_a_txt_host_record(place, operator, host):
    operator.approved_host("silent")
    first, second = get(place, HOSTS).json
    assert list(first) == [
        "HostName", "IPAddress", "Port", "BIOS_Name", "BIOS_Version", "BIOS_Oem", "VMM_Name",
        "VMM_Version", "VMM_OSName", "VMM_OSVersion", "AddOn_Connection_String", "Description",
        "Email", "Location", "AIK_Certificate", "AIK_PublicKey", "AIK_SHA1",
    ]  # fmt: skip
    version = version_of(operator, host.reference)
    for part in ("BIOS", "VMM"):
        assert first[f"{part}_Name"] == host.reference
        assert first[f"{part}_Version"] == version
    assert first["BIOS_Oem"] == first["VMM_OSName"] == "platform"
    assert load_pem_public_key(first["AIK_PublicKey"].encode()).key_size == 256
    assert second["HostName"] == "silent"
    assert second["BIOS_Name"] is second["VMM_OSVersion"] is None


def test_a_host_that_only_waits_is_not_listed(place, operator):
    operator.call("POST", "/v1/hosts", {"host": "announced", "ek_fingerprint": "ab" * 32})
    assert get(place, HOSTS).json == []
    assert error(get(place, f"{HOSTS}/trust", "hostName=announced")) == "AS_HOST_NOT_FOUND"


def test_the_trust_of_a_host(place, host):
    answer = get(place, f"{HOSTS}/trust", "hostName=node-1.example.org")
    assert answer.text == (
        '{"hostname":"node-1.example.org",'
        '"trust":{"bios":true,"vmm":true,"location":false,"asset_tag":false}}'
    )
    assert get(place, f"{HOSTS}/trust", "hostName=node-1").json["hostname"] == "node-1"


@pytest.mark.parametrize(
    ("boot", "pcrs", "bios", "vmm"),
    [
        ("machine-a-loader", [0, 4], False, True),
        ("machine-a-loader", [0, 4, 8], False, False),
        ("machine-a-cmdline", [0, 4, 8], True, False),
    ],
)
def test_an_untrusted_host_says_which_part_is_to_blame(
    place, operator, host, boot, pcrs, bios, vmm
):
    """The firmware measures the boot loader, and the boot loader what it does."""
    policy = {"requirements": [{"kind": "platform", "pcrs": pcrs}]}
    assert operator.call("PUT", "/v1/policies/default", policy).status_code == 200
    host.boot(boot)
    assert host.attest() == "untrusted"
    trust = get(place, f"{HOSTS}/trust", "hostName=node-1").json["trust"]
    assert trust == {"bios": bios, "vmm": vmm, "location": False, "asset_tag": False}


def test_an_operators_word_counts_for_both_parts(place, operator, host):
    word = {"level": "untrusted", "reason": "is being repaired", "seconds": 100}
    assert operator.call("PUT", f"/v1/hosts/{host.name}/override", word).status_code == 200
    trust = get(place, f"{HOSTS}/trust", "hostName=node-1").json["trust"]
    assert (trust["bios"], trust["vmm"]) == (False, False)


def test_what_is_not_known_is_an_error_and_not_untrusted(place, operator, host):
    operator.approved_host("silent")
    answer = get(place, f"{HOSTS}/trust", "hostName=silent")
    assert error(answer) == "AS_HOST_TRUST_ERROR"
    assert "has not attested" in answer.json["error_message"]
    place.clock.pass_by(301)
    assert error(get(place, f"{HOSTS}/trust", "hostName=node-1")) == "AS_HOST_TRUST_ERROR"


@pytest.mark.parametrize("what", ["trust", "location"])
def test_hosts_that_are_not_there(place, host, what):
    answer = get(place, f"{HOSTS}/{what}", "hostName=nobody")
    assert error(answer) == "AS_HOST_NOT_FOUND"
    assert answer.json["error_message"] == "Host 'nobody' not found."
    answer = get(place, f"{HOSTS}/{what}")
    assert error(answer) == "AS_MISSING_INPUT"
    assert answer.json["error_message"] == "Missing or invalid input 'hostName'."


def test_the_location_of_a_host_is_its_tag_of_that_name(place, operator, host):
    asked = "hostName=node-1.example.org"
    nowhere = {"location": None, "white_list_value": ""}
    assert get(place, f"{HOSTS}/location", asked).json == nowhere
    tags = {"name": "location", "values": ["San Jose"]}
    assert operator.call("POST", "/v1/tags", tags).status_code == 201
    assigned = operator.call(
        "PUT", "/v1/hosts/node-1.example.org/tags", {"tags": {"location": "San Jose"}}
    )
    assert assigned.status_code == 200, assigned.text
    assert get(place, f"{HOSTS}/location", asked).text == (
        '{"location":"San Jose","white_list_value":""}'
    )
    assert get(place, HOSTS).json[0]["Location"] == "San Jose"
    trust = get(place, f"{HOSTS}/trust", asked).json["trust"]
    assert trust == {"bios": True, "vmm": True, "location": True, "asset_tag": True}
    host.boot("machine-a-loader")
    assert host.attest() == "untrusted"
    assert get(place, f"{HOSTS}/location", asked).json == nowhere


def test_a_token_of_one_region_sees_its_hosts(place, operator, host):
    operator.approved_host("node-2", region="there")
    token = create_token(place.store, "regional", READER, region="there")
    answer = get(place, HOSTS, address="198.51.100.1", x_auth_blob=token)
    assert [item["HostName"] for item in answer.json] == ["node-2"]
    answer = get(
        place, f"{HOSTS}/trust", "hostName=node-1.example.org", "198.51.100.1", x_auth_blob=token
    )
    assert error(answer) == "AS_HOST_NOT_FOUND"


# -- white lists ------------------------------------------------------------------------------


def test_oat_view_oem_and_oat_view_os(place, host):
    assert get(place, f"{WLM}/oem").text == '[{"Name":"platform","Description":""}]'
    assert get(place, f"{WLM}/os").text == '[{"Name":"platform","Version":"","Description":""}]'


def test_oat_mle_search(place, operator, host):
    version = version_of(operator, host.reference)
    common = {
        "Name": host.reference, "Version": version, "Attestation_Type": "PCR", "Description": "",
        "MLE_Manifests": None,
    }  # fmt: skip
    bios = {"MLE_Type": "BIOS", "OemName": "platform", "OsName": None, "OsVersion": None}
    vmm = {"MLE_Type": "VMM", "OemName": None, "OsName": "platform", "OsVersion": ""}
    for query in ("searchCriteria=good", "searchCriteria=", ""):
        assert get(place, f"{WLM}/mles", query).json == [common | bios, common | vmm]
    assert get(place, f"{WLM}/mles", "searchCriteria=other").text == "[]"


def test_oat_view_mle(place, operator, host):
    """It leaves blanks around names and values."""
    version = version_of(operator, host.reference)
    query = f"mleName={host.reference}&%20mleVersion=%20{version}&%20oemName=%20platform"
    bios = get(place, f"{WLM}/mles/manifest", query).json
    query = f"mleName={host.reference}&mleVersion={version}&osName=platform&%20osVersion="
    vmm = get(place, f"{WLM}/mles/manifest", query).json
    assert (bios["MLE_Type"], vmm["MLE_Type"]) == ("BIOS", "VMM")
    stored = operator.get(f"/v1/reference-sets/{host.reference}")["pcrs"]
    wanted = sorted(
        (int(pcr), value.upper())
        for of_bank in stored.values()
        for pcr, values in of_bank.items()
        for value in values
    )
    shown = [(int(item["Name"]), item["Value"]) for item in bios["MLE_Manifests"]]
    assert {pcr for pcr, _ in shown} <= set(range(8))
    shown += [(int(item["Name"]), item["Value"]) for item in vmm["MLE_Manifests"]]
    assert [pcr for pcr, _ in shown] == sorted(pcr for pcr, _ in shown)
    assert sorted(shown) == wanted


def test_the_source_of_an_mle(place, operator, host):
    document = operator.get(f"/v1/reference-sets/{host.reference}")
    typed = {"name": "typed", "document": {"kind": "firmware", "pcrs": document["pcrs"]}}
    assert operator.call("POST", "/v1/reference-sets", typed).status_code == 201
    for name, kind, source in (
        (host.reference, "platform", "node-1.example.org"),
        ("typed", "firmware", "Manually configured white list"),
    ):
        version = version_of(operator, name)
        answer = get(
            place, f"{WLM}/mles/source", f"mleName={name}&mleVersion={version}&oemName={kind}"
        )
        assert answer.text == source
        assert answer.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("mleName=x&mleVersion=1&oemName=a&osName=b&osVersion=c", "WS_OEM_OS_DATA_CANNOT_COEXIST"),
        ("mleName=x&mleVersion=1&oemName=a&osVersion=c", "WS_OEM_OS_DATA_CANNOT_COEXIST"),
        ("mleName=x&mleVersion=1", "WS_MLE_DATA_MISSING"),
        ("mleVersion=1&oemName=a", "WS_MLE_DATA_MISSING"),
        ("mleName=x&oemName=a", "WS_MLE_DATA_MISSING"),
        ("mleName=x&mleVersion=1&oemName=a", "WS_MLE_DOES_NOT_EXIST"),
    ],
)
@pytest.mark.parametrize("path", ["manifest", "source"])
def test_mles_that_are_none(place, path, query, code):
    assert error(get(place, f"{WLM}/mles/{path}", query)) == code


# -- who may read, and what is not served -----------------------------------------------------


@pytest.mark.parametrize("route", served(OatCompat()), ids=lambda route: route.name)
def test_C1_who_may_read(place, route):
    headers = {"Content-Type": "application/json"}

    def status(address, **more):
        answer = place.client.simulate_request(
            route.method, route.path, remote_addr=address, headers=headers | more
        )
        return answer.status_code

    assert status("198.51.100.1") == 401
    assert status(OPERATOR) in (200, 400)
    tokens = {role: create_token(place.store, role, role) for role in (SERVICE, READER)}
    for role, allowed in ((SERVICE, route.role == SERVICE), (READER, True)):
        assert (status("198.51.100.1", **{"x-auth-blob": tokens[role]}) != 403) == allowed
    assert (status(ENGINE) != 403) == (route.role == SERVICE)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
@pytest.mark.parametrize(
    "path", [HOSTS, f"{WLM}/oem", f"{WLM}/os", f"{WLM}/mles", f"{WLM}/mles/source"]
)
def test_nothing_can_be_changed_unless_it_is_allowed(place, method, path):
    answer = place.call(method, path, {"Name": "OEM1"}, remote_addr=OPERATOR)
    assert (answer.status_code, answer.json["error_code"]) == (405, "METHOD_NOT_ALLOWED")
    assert "use oat " in answer.json["error_message"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "tag-certificate-requests-rpc/provision"),
        ("POST", "tag-certificate-requests-rpc/revoke-tag-certificate"),
        ("GET", "tag-certificates"), ("GET", "tag-certificates/1"), ("DELETE", "tag-certificates"),
        ("GET", "tag-kv-attributes"), ("POST", "tag-kv-attributes"),
        ("POST", "assetTagCert"), ("PUT", "assetTagCert"),
    ],
)  # fmt: skip
def test_tag_certificates_are_refused_in_words(place, method, path):
    answer = place.client.simulate_request(
        method, f"/AttestationService/resources/{path}", remote_addr=OPERATOR, body=b"<selections/>"
    )
    assert error(answer) == "AS_INVALID_ASSET_TAG_CERTIFICATE"
    assert "oat tag assign" in answer.json["error_message"]
