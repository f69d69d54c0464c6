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
"""Which cryptography this product uses: what FIPS 140 approves, and one known exception."""

import ast
from pathlib import Path

import oat_trusted_filter

PACKAGE = Path(oat_trusted_filter.__file__).parent
APPROVED = {"sha256", "sha384", "sha512", "sha3_256", "sha3_384", "sha3_512"}
#: Not hash functions: how a name becomes one, and what keys are derived with.
OTHERS = {"new", "pbkdf2_hmac", "file_digest"}
REFUSED = {"md5", "blake2b", "blake2s", "MD5", "TripleDES", "ARC4", "RC4", "Blowfish", "DES"}
#: SHA-1 is what a TPM computes in its bank of that name, and a key identifier (RFC 5280) is made
#: with it; neither is trusted for it.
MAY_NAME_SHA1 = {"tcg", "backend/appraisal", "backend/enrolment", "agent"}
#: bcrypt checks passwords of earlier releases until they are set again.
BCRYPT = {"backend/passwords.py"}


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path.relative_to(PACKAGE).as_posix(), ast.parse(path.read_text())


def attributes(tree, *owners):
    """Names that are looked up in these modules."""
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in owners
    }


def test_only_approved_hash_functions():
    for name, tree in modules():
        used = attributes(tree, "hashlib") - OTHERS - APPROVED
        if any(name.startswith(part) for part in MAY_NAME_SHA1):
            used -= {"sha1"}
        assert not used, f"{name} uses {used}"


def test_nothing_that_is_broken():
    for name, tree in modules():
        assert not attributes(tree, "hashlib", "hashes", "algorithms") & REFUSED, name


def test_bcrypt_is_the_only_exception():
    users = {
        name
        for name, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Import) and any(item.name == "bcrypt" for item in node.names)
    }
    assert users == BCRYPT
