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
"""Assertions of SAML 2.0 about hosts, as OpenAttestation writes them, and signed.

The signature is enveloped (XML-DSig, https://www.w3.org/TR/xmldsig-core1/), by the key that signs
verdicts: ECDSA over P-256 and SHA-256, exclusive canonical form. Only written here, never read.

Nobody but :mod:`oat_trusted_filter.backend.api.oat_compat.assertions` imports this, and not before
an assertion is asked for: its libraries take some ten megabytes.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.serialization import Encoding
from lxml import etree
from signxml import XMLSigner, methods

from oat_trusted_filter.backend.api.fields import moment
from oat_trusted_filter.backend.signing import Keys

_SAML = "urn:oasis:names:tc:SAML:2.0:assertion"
_SIGNATURE = "http://www.w3.org/2000/09/xmldsig#"
_SENDER_VOUCHES = "urn:oasis:names:tc:SAML:2.0:cm:sender-vouches"
_UNSPECIFIED = "urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified"
_EXCLUSIVE = "http://www.w3.org/2001/10/xml-exc-c14n#"
# With these quotation marks, at which clients part what comes one after the other.
_DECLARATION = b'<?xml version="1.0" encoding="UTF-8"?>'
_ONE, _SEVERAL = "HostTrustAssertion", "MultipleHostTrustAssertion"
# What XML 1.0 has no way to write.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Statement(NamedTuple):
    """What is said of a host."""

    host: str
    region: str
    attributes: Sequence[tuple[str, str]]
    ends: int
    """When it is not true any more; milliseconds since 1970."""


def assertion(issuer: str, statements: Sequence[Statement], now: int, keys: Keys) -> bytes:
    """A document with a signed assertion, about one host or several.

    It ends when the first of what it says does.

    :param now: milliseconds since 1970.
    """
    name = _ONE if len(statements) == 1 else _SEVERAL
    begins, ends = moment(now) or "", moment(min(said.ends for said in statements)) or ""
    root = etree.Element(
        _saml("Assertion"),
        {"ID": name, "IssueInstant": begins, "Version": "2.0"},
        nsmap={"saml2": _SAML},
    )
    _add(root, "Issuer", issuer)
    # SAML says where the signature is.
    place = f"{{{_SIGNATURE}}}Signature"
    etree.SubElement(root, place, {"Id": "placeholder"}, nsmap={"ds": _SIGNATURE})
    validity = {"NotBefore": begins, "NotOnOrAfter": ends}
    if len(statements) == 1:
        _add_subject(root, statements[0], validity)
    _add(root, "Conditions", None, validity)
    for said in statements:
        _add_attributes(root, said)
    signer = XMLSigner(
        method=methods.enveloped,
        signature_algorithm="ecdsa-sha256",
        digest_algorithm="sha256",
        c14n_algorithm=_EXCLUSIVE,
    )
    certificate = keys.certificate.public_bytes(Encoding.PEM).decode()
    signed = signer.sign(
        root,
        key=keys.private,
        cert=[certificate],
        reference_uri=name,
        id_attribute="ID",
    )
    return _DECLARATION + _written(signed)


def refusal(host: str, code: str, message: str) -> bytes:
    """What stands in the place of an assertion there is not."""
    root = etree.Element("Host")
    for name, text in (("Name", host), ("ErrorCode", code), ("ErrorMessage", message)):
        etree.SubElement(root, name).text = _text(text)
    return _written(root)


def _add_subject(root: Any, said: Statement, validity: dict[str, str]) -> None:
    subject = _add(root, "Subject", None)
    # The region is what SAML calls the domain that qualifies the name.
    domain = {"NameQualifier": _text(said.region)} if said.region else {}
    _add(subject, "NameID", said.host, {"Format": _UNSPECIFIED, **domain})
    confirmation = _add(subject, "SubjectConfirmation", None, {"Method": _SENDER_VOUCHES})
    _add(confirmation, "SubjectConfirmationData", None, validity)


def _add_attributes(root: Any, said: Statement) -> None:
    statement = _add(root, "AttributeStatement", None)
    for name, value in said.attributes:
        attribute = _add(statement, "Attribute", None, {"Name": _text(name)})
        # Without xsi:type: names in values get lost in the exclusive canonical form.
        _add(attribute, "AttributeValue", value)


def _add(parent: Any, name: str, text: str | None, fields: dict[str, str] | None = None) -> Any:
    element = etree.SubElement(parent, _saml(name), fields or {})
    element.text = text if text is None else _text(text)
    return element


def _saml(name: str) -> str:
    return f"{{{_SAML}}}{name}"


def _text(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)


def _written(root: Any) -> bytes:
    written: bytes = etree.tostring(root, xml_declaration=False, encoding="UTF-8")
    return written
