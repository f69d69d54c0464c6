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
"""UEFI signature databases."""

import hashlib
import struct
import uuid

import pytest

from oat_trusted_filter.tcg.errors import FormatError
from oat_trusted_filter.tcg.signature_database import (
    parse_signature_data,
    parse_signature_database,
)

X509 = uuid.UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072").bytes_le
SHA256 = uuid.UUID("c1c41626-504c-4092-aca9-41f936934328").bytes_le
OWNER = uuid.UUID(int=7).bytes_le


def signature_list(kind, *entries, header=b"", size=None, each=None):
    body = header + b"".join(OWNER + entry for entry in entries)
    each = 16 + len(entries[0]) if each is None else each
    return kind + struct.pack("<III", size or 28 + len(body), len(header), each) + body


def refusal(data):
    with pytest.raises(FormatError) as refused:
        parse_signature_database(data)
    assert refused.value.code == "signature-database"
    return str(refused.value)


def test_lists_of_several_kinds_stand_one_after_the_other():
    unknown = uuid.UUID(int=9)
    data = (
        signature_list(X509, b"certificate")
        + signature_list(SHA256, b"a" * 32, b"b" * 32, header=b"head")
        + signature_list(unknown.bytes_le, b"x")
    )

    found = parse_signature_database(data)

    assert [(entry.kind, entry.fingerprint) for entry in found] == [
        ("x509", hashlib.sha256(b"certificate").hexdigest()),
        ("sha256", (b"a" * 32).hex()),
        ("sha256", (b"b" * 32).hex()),
        (str(unknown), b"x".hex()),
    ]
    assert {entry.owner for entry in found} == {str(uuid.UUID(int=7))}
    assert parse_signature_database(b"") == ()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (signature_list(X509, b"c")[:20], "ends inside a list"),
        (signature_list(X509, b"c", size=27), "sizes of a list do not fit"),
        (signature_list(X509, b"c", size=0xFFFFFFFF), "sizes of a list do not fit"),
        (signature_list(X509, b"c", each=16), "sizes of a list do not fit"),
        (signature_list(X509, b"c", each=0), "sizes of a list do not fit"),
        (signature_list(X509, b"cc", each=17), "does not hold whole entries"),
        (signature_list(SHA256, *[b"x"] * 20_001), "more than 20000 entries"),
    ],
)
def test_D5_what_is_no_database_is_refused(data, why):
    assert why in refusal(data)


def test_an_authority_is_one_entry():
    assert parse_signature_data(OWNER + b"c").data == b"c"
    with pytest.raises(FormatError, match="cut off"):
        parse_signature_data(OWNER)
