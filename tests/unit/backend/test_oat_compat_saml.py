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
"""Assertions of SAML, verified as a relying party does: with the certificate it was given."""

import copy
import ipaddress
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from lxml import etree
from signxml import DigestAlgorithm, SignatureConfiguration, SignatureMethod, XMLVerifier
from signxml.exceptions import SignXMLException

from oat_trusted_filter.backend.manage.signing_key import rotate
from oat_trusted_filter.backend.settings import OatCompat
from oat_trusted_filter.backend.signing import Keys, rotated

OPERATOR = "192.0.2.11"
RESOURCES = "/AttestationService/resources"
ISSUER = "https://attest.example.org:8181"
NS = {
    "saml2": "urn:oasis:names:tc:SAML:2.0:assertion",
    "ds": "http://www.w3.org/2000/09/xmldsig#",
}
DECLARATION = b'<?xml version="1.0" encoding="UTF-8"?>'
WHY = "the host has not attested since it was approved"
NOW, DEADLINE = "2027-01-15T08:00:00.000Z", "2027-01-15T08:05:00.000Z"
EXPECTED = SignatureConfiguration(
    location="./",
    signature_methods=frozenset({SignatureMethod.ECDSA_SHA256}),
    digest_algorithms=frozenset({DigestAlgorithm.SHA256}),
)


@pytest.fixture
def place(place_maker):
    """A service where the machine of an operator may read."""
    compat = OatCompat(readers_from=(ipaddress.ip_network(OPERATOR),), saml_issuer=ISSUER)
    return place_maker(auth_strategy="http_basic", oat_compat=compat)


@pytest.fixture
def host(operator):
    """A host that is trusted."""
    host = operator.approved_host("node-1")
    host.attest()
    host.reference = operator.trust(host)
    assert host.attest() == "trusted"
    return host


@pytest.fixture
def certificate(place):
    """What the relying party was given."""
    return place.service.signing.keys.certificate.public_bytes(Encoding.PEM).decode()


def get(place, query, path="saml/assertions/host", **keywords):
    return place.client.simulate_get(
        f"{RESOURCES}/{path}", query_string=query, **{"remote_addr": OPERATOR, **keywords}
    )  # fmt: skip


class RelyingParty:
    """Whoever believes assertions of one backend.

    :param certificate: as the operator of the backend has handed it out.
    """

    def __init__(self, certificate):
        self.certificate = certificate.public_bytes(Encoding.PEM).decode()

    def believed(self, document):
        """What was signed; the rest of the document it does not look at."""
        found = XMLVerifier().verify(
            document, x509_cert=self.certificate, expect_config=EXPECTED, id_attribute="ID"
        )
        assertion = found.signed_xml
        assert assertion.tag == f"{{{NS['saml2']}}}Assertion"
        assert assertion.findtext("saml2:Issuer", None, NS) == ISSUER
        return assertion


@pytest.fixture
def party(place):
    """It has the certificate of the key that signs."""
    return RelyingParty(place.service.signing.keys.certificate)


def document_about(place, query="hostName=node-1"):
    answer = get(place, query)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/samlassertion+xml"
    assert answer.headers["cache-control"] == "no-store"
    return answer.content


def attributes(statement):
    """Name and value of each attribute."""
    return [
        (item.get("Name"), item.findtext("saml2:AttributeValue", None, NS))
        for item in statement.iterfind(".//saml2:Attribute", NS)
    ]


def validity(assertion):
    (conditions,) = assertion.iterfind("saml2:Conditions", NS)
    for data in assertion.iterfind(".//saml2:SubjectConfirmationData", NS):
        assert data.attrib == conditions.attrib
    return conditions.get("NotBefore"), conditions.get("NotOnOrAfter")


def refusal(answer):
    return answer.status_code, answer.json["error_code"]


def test_an_assertion_about_a_trusted_host(place, operator, host, party):
    version = str(operator.get(f"/v1/reference-sets/{host.reference}")["generation"])
    document = document_about(place)
    assert document.startswith(DECLARATION + b"<saml2:Assertion ")
    assertion = party.believed(document)
    assert assertion.attrib == {
        "ID": "HostTrustAssertion", "IssueInstant": NOW, "Version": "2.0",
    }  # fmt: skip
    subject = assertion.find("saml2:Subject", NS)
    assert subject.findtext("saml2:NameID", None, NS) == "node-1"
    assert subject.find("saml2:SubjectConfirmation", NS).get("Method").endswith(":sender-vouches")
    assert validity(assertion) == (NOW, DEADLINE)
    said = attributes(assertion)
    assert said[:-1] == [
        ("Host_Name", "node-1"), ("Host_Address", "node-1"),
        ("Trusted", "true"), ("Trusted_BIOS", "true"),
        ("BIOS_Name", host.reference), ("BIOS_Version", version), ("BIOS_OEM", "platform"),
        ("Trusted_VMM", "true"),
        ("VMM_Name", host.reference), ("VMM_Version", version), ("VMM_OSName", "platform"),
        ("VMM_OSVersion", ""),
    ]  # fmt: skip
    assert said[-1][0] == "AIK_PublicKey"
    assert said[-1][1].startswith("-----BEGIN PUBLIC KEY-----")


def test_the_signature_stands_where_saml_says(place, host):
    root = etree.fromstring(document_about(place))
    names = [etree.QName(child).localname for child in root]
    assert names == ["Issuer", "Signature", "Subject", "Conditions", "AttributeStatement"]
    (shown,) = root.iterfind(".//ds:X509Certificate", NS)
    pem = place.service.signing.keys.certificate.public_bytes(Encoding.PEM).decode()
    assert shown.text.split() == pem.split("-----")[2].split()


def test_an_assertion_about_a_host_that_differs(place, host, party):
    host.boot("machine-a-loader")
    assert host.attest() == "untrusted"
    said = dict(attributes(party.believed(document_about(place))))
    flags = [said[name] for name in ("Trusted", "Trusted_BIOS", "Trusted_VMM")]
    assert flags == ["false", "false", "true"]
    assert "BIOS_Name" not in said


def test_the_same_certificate_every_time(place, tmp_path):
    """It is made anew in each process, and relying parties may compare its bytes."""
    keys = Keys.parse((tmp_path / "signing.key").read_bytes())
    assert keys.certificate == keys.certificate == place.service.signing.keys.certificate
    keys.certificate.verify_directly_issued_by(keys.certificate)


# -- what nobody believes ---------------------------------------------------------------------


def tampered(document, old, new):
    assert document.count(old) >= 1
    return document.replace(old, new)


def test_an_assertion_that_was_changed(place, host, party):
    host.boot("machine-a-loader")
    host.attest()
    document = document_about(place)
    changes = (
        (b'"Trusted"><saml2:AttributeValue>false', b'"Trusted"><saml2:AttributeValue>true'),
        (b">node-1<", b">node-2<"),
        (DEADLINE.encode(), b"2028-01-15T08:05:00.000Z"),
        (ISSUER.encode(), b"https://other.example.org"),
    )
    for old, new in changes:
        with pytest.raises(SignXMLException):
            party.believed(tampered(document, old, new))


@pytest.mark.parametrize("name", ["Other", "HostTrustAssertion"])
@pytest.mark.parametrize("where", ["ds:Signature", "."])
def test_an_assertion_in_the_cover_of_another(place, host, party, name, where):
    """Signature wrapping: what is signed is there, and beside it what is to be believed."""
    host.boot("machine-a-loader")
    host.attest()
    genuine = etree.fromstring(document_about(place))
    cover = copy.deepcopy(genuine)
    (trusted,) = cover.xpath("//*[@Name='Trusted']/*")
    trusted.text = "true"
    cover.set("ID", name)
    genuine.remove(genuine.find("ds:Signature", NS))
    holder = etree.SubElement(cover.find(where, NS), f"{{{NS['ds']}}}Object")
    holder.append(genuine)
    assert _not_taken_for_trusted(party, etree.tostring(cover))


@pytest.mark.parametrize("tag", ["Response", "{urn:oasis:names:tc:SAML:2.0:assertion}Assertion"])
def test_an_assertion_inside_something_else(place, host, party, tag):
    cover = etree.Element(tag)
    cover.append(etree.fromstring(document_about(place)))
    with pytest.raises(SignXMLException):
        party.believed(etree.tostring(cover))


def _not_taken_for_trusted(party, document):
    try:
        return dict(attributes(party.believed(document)))["Trusted"] == "false"
    except (SignXMLException, etree.DocumentInvalid):
        return True


def test_a_signature_by_somebody_else(place, host, party):
    other = RelyingParty(Keys.parse(rotated(None)).certificate)
    with pytest.raises(SignXMLException):
        other.believed(document_about(place))


def test_a_key_that_was_rotated(place, host, party, tmp_path):
    """Assertions are short-lived, so it is the new certificate they are verified with."""
    old = document_about(place)
    rotate(tmp_path / "signing.key")
    new = document_about(place)
    party.believed(old)
    with pytest.raises(SignXMLException):
        party.believed(new)
    RelyingParty(place.service.signing.keys.certificate).believed(new)


# -- what there is nothing to say about -------------------------------------------------------


def test_hosts_that_have_proven_nothing(place, operator, host):
    operator.approved_host("silent")
    for query, code in (
        ("hostName=nobody", "AS_HOST_NOT_FOUND"),
        ("hostName=silent", "AS_HOST_TRUST_ERROR"),
        ("hostName=node-1,nobody", "AS_HOST_NOT_FOUND"),
        ("hostName=node-1,silent", "AS_HOST_TRUST_ERROR"),
        ("hostName=", "AS_MISSING_INPUT"),
        ("hostName=,", "AS_MISSING_INPUT"),
        ("", "AS_MISSING_INPUT"),
        ("hostName=" + ",".join(["x"] * 1001), "AS_MISSING_INPUT"),
    ):
        assert refusal(get(place, query)) == (400, code)


def test_E2_an_assertion_ends_with_the_verdict(place, host, party):
    place.clock.pass_by(299.999)
    assertion = party.believed(document_about(place, "hostName=node-1&force_verify=false"))
    assert validity(assertion) == ("2027-01-15T08:04:59.999Z", DEADLINE)
    place.clock.pass_by(0.001)
    for flag in ("", "&force_verify=false", "&force_verify=true"):
        assert refusal(get(place, f"hostName=node-1{flag}")) == (400, "AS_HOST_TRUST_ERROR")


# -- tags -------------------------------------------------------------------------------------


def assign(operator, **fields):
    for name, value in (("location", "San Jose"), ("rack", "7")):
        tag = {"name": name, "values": [value]}
        assert operator.call("POST", "/v1/tags", tag).status_code == 201
    body = {"tags": {"location": "San Jose", "rack": "7"}, **fields}
    assert operator.call("PUT", "/v1/hosts/node-1/tags", body).status_code == 200


def tags_in(document, party):
    said = attributes(party.believed(document))
    return [item for item in said if item[0].startswith(("Asset", "TAG"))]


def test_tags_are_told_of_a_trusted_host(place, operator, host, party):
    assign(operator)
    assert tags_in(document_about(place), party) == [
        ("Asset_Tag", "true"), ("TAG[location]", "San Jose"), ("TAG[rack]", "7"),
    ]  # fmt: skip
    host.boot("machine-a-loader")
    host.attest()
    assert tags_in(document_about(place), party) == []


def test_an_assertion_ends_with_the_tags_it_tells(place, operator, host, party):
    assign(operator, valid_until="2027-01-15T08:02:00Z")
    assert validity(party.believed(document_about(place))) == (NOW, "2027-01-15T08:02:00.000Z")
    place.clock.pass_by(120)
    assertion = party.believed(document_about(place))
    assert validity(assertion)[1] == DEADLINE
    assert "Asset_Tag" not in dict(attributes(assertion))


# -- several hosts ----------------------------------------------------------------------------


@pytest.fixture
def other(operator, host):
    """A host that is not trusted, and ends later."""
    operator.clock.pass_by(10)
    other = operator.approved_host("node-2", boot="machine-a-loader", region="east")
    assert other.attest() == "untrusted"
    return other


def test_one_assertion_about_several_hosts(place, other, party):
    """Each with a verdict of its own; it ends when the first of them does."""
    assertion = party.believed(document_about(place, "hostName=node-2,%20node-1"))
    assert assertion.get("ID") == "MultipleHostTrustAssertion"
    assert assertion.find("saml2:Subject", NS) is None
    assert validity(assertion) == ("2027-01-15T08:00:10.000Z", DEADLINE)
    said = [dict(attributes(item)) for item in assertion.iterfind("saml2:AttributeStatement", NS)]
    assert [(item["Host_Name"], item["Trusted"]) for item in said] == [
        ("node-2", "false"), ("node-1", "true"),
    ]  # fmt: skip


def test_an_assertion_for_each_host(place, operator, other, party):
    operator.approved_host("silent")
    answer = get(
        place,
        "hosts=node-1,%20node-2,silent,a%3C%00b&force_verify=false&timeout=600",
        "hosts/bulk/trust/saml",
    )
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/xml")
    empty, first, rest = answer.content.split(DECLARATION)
    assert empty == b""
    end = rest.index(b"<Host>")
    second, refusals = rest[:end], etree.fromstring(b"<all>" + rest[end:] + b"</all>")
    for document, name, trusted in ((first, "node-1", "true"), (second, "node-2", "false")):
        assertion = party.believed(document)
        said = dict(attributes(assertion))
        assert (assertion.get("ID"), said["Host_Name"], said["Trusted"]) == (
            "HostTrustAssertion", name, trusted,
        )  # fmt: skip
    names = [item.get("NameQualifier") for item in assertion.iterfind(".//saml2:NameID", NS)]
    assert names == ["east"]
    assert [[(field.tag, field.text) for field in item] for item in refusals] == [
        [
            ("Name", "silent"), ("ErrorCode", "AS_HOST_TRUST_ERROR"),
            ("ErrorMessage", f"The trust of host 'silent' is not known: {WHY}"),
        ],
        [
            ("Name", "a<\ufffdb"), ("ErrorCode", "AS_HOST_NOT_FOUND"),
            ("ErrorMessage", "Host 'a<\ufffdb' not found."),
        ],
    ]  # fmt: skip


def test_a_bulk_of_nobody(place):
    for query in ("", "hosts=", "hosts=,", "hostName=node-1"):
        answer = get(place, query, "hosts/bulk/trust/saml")
        assert refusal(answer) == (400, "AS_MISSING_INPUT")


# -- who may ask, and what it costs who does not ----------------------------------------------


def test_C1_assertions_are_for_readers(place, host):
    for path in ("saml/assertions/host", "hosts/bulk/trust/saml"):
        answer = get(place, "hostName=node-1&hosts=node-1", path, remote_addr="192.0.2.99")
        assert refusal(answer) == (401, "CREDENTIAL_MISSING")


def test_a_host_with_a_software_tpm_says_so(place, place_maker, host, party):
    soft = place_maker(allow_software_tpm=True).approved_host("soft", software_tpm=True)
    assert soft.attest() == "trusted"
    said = dict(attributes(party.believed(document_about(place, "hostName=soft"))))
    assert said["Software_TPM"] == "true"


def test_without_it_its_libraries_are_not_loaded():
    program = (
        "import sys, oat_trusted_filter.backend.api.program; "
        "print({'lxml', 'signxml'} & {name.partition('.')[0] for name in sys.modules})"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )  # fmt: skip
    assert ran.stdout.strip() == "set()"
