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
"""Enrolments with certificates of makers, over HTTPS: which are believed, and what an operator may
say about those that are not.

The TPMs are on paper, so that they can have certificates no real one has.
"""

import base64
import datetime
import itertools

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from oat_trusted_filter.tcg.public import (
    TPM_ECC_NIST_P256,
    TPMA_FIXED_PARENT,
    TPMA_FIXED_TPM,
    TPMA_RESTRICTED,
    TPMA_SENSITIVE_DATA_ORIGIN,
    TPMA_SIGN,
)
from tests.functional.backend.parts import Http, Operator, b64
from tests.lab.backend import Backend
from tests.lab.makers import (
    IBM,
    YEAR,
    Authority,
    authority,
    ek_certificate,
    revocation_list,
    unsorted_ek_certificate,
)
from tests.lab.paper_tpm import PaperTpm
from tests.lab.quotes import SigningKey

_numbers = itertools.count(1)
NOW = datetime.datetime.now(datetime.UTC)
VALID = {"start": NOW - YEAR, "end": NOW + YEAR}
PAST = {"start": NOW - 2 * YEAR, "end": NOW - YEAR}


@pytest.fixture(scope="module")
def root():
    return authority("root", **VALID)


@pytest.fixture(scope="module")
def issuer(root):
    """An authority that is not in the folder of the operator."""
    return authority("issuer", root, **VALID)


@pytest.fixture(scope="module")
def folders(tmp_path_factory, root):
    """Those of the operator: authorities and revocation lists."""
    ca, crl = tmp_path_factory.mktemp("ek-ca"), tmp_path_factory.mktemp("ek-crl")
    (ca / "root.pem").write_bytes(root.pem)
    (crl / "root.crl").write_bytes(revocation_list(root, **VALID))
    return ca, crl


@pytest.fixture(scope="module")
def backend(tmp_path_factory, folders):
    options = {
        ("attestation", "ek_ca_dir"): folders[0],
        ("attestation", "ek_crl_dir"): folders[1],
        ("api", "workers"): 1,
    }
    with Backend(tmp_path_factory.mktemp("backend"), options=options) as running:
        yield running


@pytest.fixture(scope="module")
def tpm():
    return PaperTpm()


class Newcomer:
    """A host with a TPM on paper that enrols."""

    def __init__(self, backend, tpm):
        self.name = f"paper-{next(_numbers)}"
        self.tpm = tpm
        self.fingerprint = tpm.fingerprint
        self.http = Http(backend)

    def begin(self, certificate, intermediates=(), **fields):
        """The answer to the beginning of an enrolment."""
        body = {
            "host": self.name,
            "ek_public": b64(self.tpm.ek_public),
            "ak_public": b64(self.tpm.ak.public),
            "ek_certificate": None if certificate is None else b64(certificate),
            "intermediates": [b64(item) for item in intermediates],
            "banks": ["sha1", "sha256"],
        }
        return self.http.call("POST", "/v1/enrolments", {**body, **fields})

    def finish(self, begun, **fields):
        """The answer to its end."""
        blob, secret = (
            base64.b64decode(begun.json[name]) for name in ("credential_blob", "encrypted_secret")
        )
        body = {"secret": b64(self.tpm.activate(blob, secret)), **fields}
        return self.http.call("PUT", f"/v1/enrolments/{begun.json['id']}", body)

    def enrol(self, certificate, intermediates=(), **fields):
        """The code of the refusal, or the state that comes of it."""
        begun = self.begin(certificate, intermediates, **fields)
        if begun.status != 201:
            assert begun.status in (400, 403)
            return begun.code
        return self.finish(begun).json["state"]


@pytest.fixture
def host(backend, tpm):
    return Newcomer(backend, tpm)


@pytest.fixture
def operator(backend):
    return Operator(backend)


def test_a_makers_certificate_is_believed_with_the_authority_beside_it(host, operator, issuer, tpm):
    certificate = ek_certificate(issuer, tpm.ek, **VALID)
    assert host.enrol(certificate, [issuer.der]) == "pending"
    shown = operator.show(host.name)
    assert (shown["ek_certificate_status"], shown["software_tpm"]) == ("verified", False)
    assert shown["ek_fingerprint"] == tpm.fingerprint


def test_a_certificate_that_is_no_strict_der_is_believed(host, operator, root, tpm):
    certificate = unsorted_ek_certificate(root, tpm.ek, **VALID)
    with pytest.raises(ValueError, match="InvalidSetOrdering"):
        list(x509.load_der_x509_certificate(certificate).extensions)
    assert host.enrol(certificate) == "pending"
    assert "4E544300" in operator.show(host.name)["manufacturer"]


@pytest.mark.parametrize(
    "missing",
    [TPMA_RESTRICTED, TPMA_FIXED_TPM, TPMA_FIXED_PARENT, TPMA_SENSITIVE_DATA_ORIGIN, TPMA_SIGN],
)
def test_B1_an_attestation_key_that_lacks_an_attribute(host, operator, missing):
    key = SigningKey.ecc()
    key.attributes &= ~missing
    assert host.enrol(None, ak_public=b64(key.public)) == "ak-attributes"
    assert operator.hosts(host.name) == []


def test_B1_a_weak_attestation_key(host, operator):
    short = SigningKey.rsa(1024)
    assert host.enrol(None, ak_public=b64(short.public)) == "ak-weak"
    curve = TPM_ECC_NIST_P256.to_bytes(2, "big") + (0x0010).to_bytes(2, "big")
    p256 = SigningKey.ecc().public
    assert p256.count(curve) == 1
    for weaker in (0x0001, 0x0002, 0x0010):  # P-192, P-224, BN-256
        changed = p256.replace(curve, weaker.to_bytes(2, "big") + curve[2:])
        assert host.enrol(None, ak_public=b64(changed)) == "public-key"
    assert operator.hosts(host.name) == []


def test_B4_certificates_nobody_vouches_for(host, operator, root, issuer, tpm):
    stranger = authority("root", **VALID)
    own = Authority(tpm.ek, x509.load_der_x509_certificate(stranger.der))
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    other = rsa.generate_private_key(65537, 2048)
    good = ek_certificate(root, tpm.ek, **VALID)
    for certificate, intermediates, code in (
        (ek_certificate(stranger, tpm.ek, **VALID), [stranger.der], "ek-certificate-untrusted"),
        (ek_certificate(issuer, tpm.ek, **VALID), [], "ek-certificate-untrusted"),
        (ek_certificate(own, tpm.ek, **VALID), [], "ek-certificate-untrusted"),
        (ek_certificate(root, other, **VALID), [], "ek-certificate-mismatch"),
        (ek_certificate(root, tpm.ek, extra=[(unknown, True)], **VALID), [],
         "ek-certificate-critical-extension"),
        (ek_certificate(root, tpm.ek, purpose=None, **VALID), [], "ek-certificate-purpose"),
        (good[:-1], [], "ek-certificate-malformed"),
        (good + b"\0", [], "ek-certificate-malformed"),
        (b"\x30\x80" + good[2:], [], "ek-certificate-malformed"),
    ):  # fmt: skip
        assert host.enrol(certificate, intermediates) == code
    assert operator.hosts(host.name) == []


def test_B4_a_certificate_past_its_end_takes_an_operators_word_for_this_key(
    host, operator, root, tpm
):
    certificate = ek_certificate(root, tpm.ek, **PAST)
    refused = host.begin(certificate)
    assert (refused.status, refused.code) == (403, "ek-certificate-expired")
    # The advice is the command that helps.
    command = f"oat host register {host.name} --accept-expired --ek-fingerprint {tpm.fingerprint}"
    assert refused.json["detail"].endswith(command)
    assert operator.hosts(host.name) == []

    body = {"host": host.name, "ek_fingerprint": tpm.fingerprint}
    operator.call("POST", "/v1/hosts", body)
    # Announced, but nothing was said about its certificate.
    assert host.enrol(certificate) == "ek-certificate-expired"
    operator.call("POST", "/v1/hosts", body | {"accept_expired": True})
    # His word is for this key under this name, and for the date only.
    assert Newcomer(host.http.backend, tpm).enrol(certificate) == "ek-certificate-expired"
    other = Newcomer(host.http.backend, PaperTpm())
    other.name = host.name
    assert other.enrol(ek_certificate(root, other.tpm.ek, **PAST)) == "ek-certificate-expired"
    stranger = authority("root", **VALID)
    assert host.enrol(ek_certificate(stranger, tpm.ek, **PAST)) == "ek-certificate-untrusted"

    assert host.enrol(certificate) == "approved"
    assert operator.show(host.name)["ek_certificate_status"] == "expired"


def test_B4_what_its_maker_has_revoked(host, operator, folders, root, issuer, tpm):
    certificate = ek_certificate(issuer, tpm.ek, **VALID)
    try:
        (folders[1] / "issuer.crl").write_bytes(revocation_list(issuer, [certificate], **VALID))
        assert host.enrol(certificate, [issuer.der]) == "ek-certificate-revoked"
        (folders[1] / "issuer.crl").write_bytes(revocation_list(issuer, **PAST))
        assert host.enrol(certificate, [issuer.der]) == "ek-crl-expired"
        (folders[1] / "issuer.crl").write_bytes(b"half a list")
        assert host.enrol(certificate, [issuer.der]) == "ek-crl-invalid"
        assert operator.hosts(host.name) == []
    finally:
        (folders[1] / "issuer.crl").unlink()
    assert host.enrol(certificate, [issuer.der]) == "pending"


def test_B5_keys_and_name_are_one_record(host, operator, root, tpm):
    certificate = ek_certificate(root, tpm.ek, **VALID)
    begun = host.begin(certificate)
    another = SigningKey.ecc()
    # What else stands in the second request changes nothing.
    answer = host.finish(begun, ak_public=b64(another.public), host="another", ek_fingerprint="0")
    assert answer.json == {"state": "pending", "ek_fingerprint": tpm.fingerprint}
    assert operator.hosts("another") == []
    # The secret of one attestation key is of no use for another one, even of the same TPM.
    swapped = Newcomer(host.http.backend, PaperTpm())
    swapped.tpm.ek, swapped.tpm.ak = tpm.ek, another
    begun = swapped.begin(certificate)
    with pytest.raises(ValueError, match="other keys"):
        host.finish(begun)


def test_B10_a_software_tpm_while_they_are_not_allowed(host, operator, root, tpm):
    assert host.enrol(ek_certificate(root, tpm.ek, manufacturer=IBM, **VALID)) == "ek-software-tpm"
    assert operator.hosts(host.name) == []
    # Nor does a token or an operator's announcement help it in.
    operator.free(host)
    operator.call("POST", "/v1/hosts", {"host": host.name, "ek_fingerprint": tpm.fingerprint})
    assert host.enrol(ek_certificate(root, tpm.ek, manufacturer=IBM, **VALID)) == "ek-software-tpm"
    assert operator.show(host.name)["state"] == "registered"


def test_an_announced_hash_of_the_key_alone_is_enough(host, operator, root, tpm):
    """As some makers list their TPMs."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    digest = hashes.Hash(hashes.SHA256())
    digest.update(tpm.ek.public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1))
    body = {"host": host.name, "ek_fingerprint": digest.finalize().hex()}
    operator.free(host)
    assert operator.call("POST", "/v1/hosts", body)["state"] == "registered"
    assert host.enrol(ek_certificate(root, tpm.ek, **VALID)) == "approved"
    (shown,) = operator.hosts(host.name)
    assert shown["ek_fingerprint"] == tpm.fingerprint
    # Announcing it again is no mistake.
    assert operator.call("POST", "/v1/hosts", body)["state"] == "approved"


def test_an_authority_that_may_not_sign_is_none(host, root, tpm):
    no_authority = authority("issuer", root, ca=False, **VALID)
    certificate = ek_certificate(no_authority, tpm.ek, **VALID)
    assert host.enrol(certificate, [no_authority.der]) == "ek-certificate-untrusted"
    ended = authority("issuer", root, **PAST)
    certificate = ek_certificate(ended, tpm.ek, **VALID)
    assert host.enrol(certificate, [ended.der]) == "ek-certificate-expired"
