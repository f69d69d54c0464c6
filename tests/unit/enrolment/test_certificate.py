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
"""Endorsement key certificates: chains, purposes, what makers' certificates look like."""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from oat_trusted_filter.backend.enrolment.certificate import (
    CertificateRefused,
    check_certifies,
    load_ca_store,
    verify_ek_certificate,
)
from oat_trusted_filter.tcg.public import parse_public
from tests.lab.makers import (
    IBM,
    INFINEON,
    NOW,
    YEAR,
    Authority,
    authority,
    builder,
    ek_certificate,
    name,
    unsorted_ek_certificate,
)
from tests.lab.quotes import SigningKey


@pytest.fixture(scope="module")
def root():
    return authority("root")


@pytest.fixture(scope="module")
def issuer(root):
    return authority("issuer", root, path_length=0)


@pytest.fixture(scope="module")
def key():
    return rsa.generate_private_key(65537, 2048)


def verify(der, store, intermediates=(), **options):
    return verify_ek_certificate(
        der, intermediates, store, NOW, **{"allow_software_tpm": False, **options}
    )


def refusal(*args, **options):
    with pytest.raises(CertificateRefused) as refused:
        verify(*args, **options)
    return refused.value.code


def test_a_certificate_of_a_known_maker_is_accepted(root, issuer, key):
    der = ek_certificate(issuer, key)

    found = verify(der, [root.der, issuer.der])

    assert (found.manufacturer, found.model, found.software) == (INFINEON, "SLB9672", False)
    assert found.public_key.public_numbers() == key.public_key().public_numbers()


def test_the_store_may_hold_the_issuer_alone_or_the_root_alone(root, issuer, key):
    der = ek_certificate(issuer, key)

    assert verify(der, [issuer.der])
    assert verify(der, [root.der], [issuer.der])


def test_a_key_on_an_elliptic_curve_is_read(issuer):
    key = ec.generate_private_key(ec.SECP384R1())

    found = verify(ek_certificate(issuer, key), [issuer.der])

    assert found.public_key.public_numbers() == key.public_key().public_numbers()


def test_B4_an_unknown_authority_is_refused(issuer, key):
    other = authority("issuer")

    for store in ([], [other.der]):
        assert refusal(ek_certificate(issuer, key), store) == "ek-certificate-untrusted"


def test_B4_an_intermediate_that_brings_its_own_root_is_refused(root, key):
    own_root = authority("root")
    own_issuer = authority("issuer", own_root)
    der = ek_certificate(own_issuer, key)

    code = refusal(der, [root.der], [own_issuer.der, own_root.der])

    assert code == "ek-certificate-untrusted"


def test_B4_a_self_signed_certificate_is_refused(root, key):
    own = Authority(key, authority("ek").certificate)
    der = ek_certificate(own, key)

    assert refusal(der, [root.der], [der]) == "ek-certificate-untrusted"


def test_B4_an_issuer_that_may_not_sign_is_refused(root, key):
    no_authority = authority("issuer", root, ca=False)
    no_usage = authority("issuer", root, usage=False)
    too_deep = authority("below", authority("above", root, path_length=0))

    for wrong, intermediates in (
        (no_authority, [no_authority.der]), (no_usage, [no_usage.der]),
    ):  # fmt: skip
        code = refusal(ek_certificate(wrong, key), [root.der], intermediates)
        assert code == "ek-certificate-untrusted"
    assert refusal(ek_certificate(too_deep, key), [root.der], [too_deep.der]) == (
        "ek-certificate-untrusted"
    )


def test_B4_a_path_longer_than_an_authority_allows_is_refused(root, key):
    above = authority("above", root, path_length=0)
    below = authority("below", above)

    code = refusal(ek_certificate(below, key), [root.der], [above.der, below.der])

    assert code == "ek-certificate-untrusted"


def test_B4_an_endless_chain_is_refused(root, key):
    chain = [authority("ca 0", root)]
    for number in range(1, 6):
        chain.append(authority(f"ca {number}", chain[-1]))

    code = refusal(ek_certificate(chain[-1], key), [root.der], [ca.der for ca in reversed(chain)])

    assert code == "ek-certificate-untrusted"


def test_B4_authorities_that_sign_each_other_end(key):
    one = authority("one")
    two = authority("two", one)
    loop = Authority(one.key, builder(name("one"), name("two"), one.key.public_key())
                     .add_extension(x509.BasicConstraints(True, None), critical=True)
                     .sign(two.key, hashes.SHA256()))  # fmt: skip

    code = refusal(ek_certificate(two, key), [], [two.der, loop.der])

    assert code == "ek-certificate-untrusted"


def test_B4_another_purpose_is_refused(issuer, key):
    for purpose in (None, ExtendedKeyUsageOID.SERVER_AUTH):
        code = refusal(ek_certificate(issuer, key, purpose=purpose), [issuer.der])
        assert code == "ek-certificate-purpose"
    assert refusal(ek_certificate(issuer, key, ca=True), [issuer.der]) == "ek-certificate-purpose"


def test_B4_a_critical_extension_that_is_not_known_is_refused(issuer, key):
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")

    assert verify(ek_certificate(issuer, key, extra=[(unknown, False)]), [issuer.der])
    assert refusal(ek_certificate(issuer, key, extra=[(unknown, True)]), [issuer.der]) == (
        "ek-certificate-critical-extension"
    )


def test_B4_a_certificate_out_of_its_time_is_refused_unless_an_operator_says_so(issuer, key):
    for start, end in ((NOW - 2 * YEAR, NOW - YEAR), (NOW + YEAR, NOW + 2 * YEAR)):
        der = ek_certificate(issuer, key, start=start, end=end)
        assert refusal(der, [issuer.der]) == "ek-certificate-expired"
        assert verify(der, [issuer.der], allow_expired=True)


def test_B4_an_authority_out_of_its_time_is_refused(root, key):
    ended = authority("issuer", root, start=NOW - 2 * YEAR, end=NOW - YEAR)

    assert refusal(ek_certificate(ended, key), [root.der], [ended.der]) == "ek-certificate-expired"


def test_B4_bad_der_is_refused(issuer, key):
    der = ek_certificate(issuer, key)

    for bad in (b"", b"\x30", der[:-1], der + b"\0", b"\x30\x80" + der[2:], b"\xff" * 20_000):
        assert refusal(bad, [issuer.der]) == "ek-certificate-malformed"


def test_B4_any_cut_or_changed_byte_is_refused_in_order(issuer, key):
    der = ek_certificate(issuer, key)

    for position in range(0, len(der), 7):
        changed = der[:position] + bytes([der[position] ^ 0x55]) + der[position + 1 :]
        for bad in (der[:position], changed):
            assert refusal(bad, [issuer.der]).startswith("ek-certificate-")


def test_B4_a_weak_hash_is_refused(issuer, key):
    # SHA-1 can no longer be used to sign, so the algorithm is renamed in the finished certificate.
    der = ek_certificate(issuer, key)
    ecdsa_sha256 = bytes.fromhex("06082a8648ce3d040302")
    ecdsa_sha1 = bytes.fromhex("06072a8648ce3d0401")
    assert ecdsa_sha256 in der

    assert refusal(der.replace(ecdsa_sha256, ecdsa_sha1 + b"\0"), [issuer.der]).startswith(
        "ek-certificate-"
    )


def test_B4_a_certificate_for_another_key_is_refused(issuer, key):
    other = SigningKey.rsa()
    found = verify(ek_certificate(issuer, key), [issuer.der])

    check_certifies(found, parse_public(SigningKey(key, 0x14).public))
    with pytest.raises(CertificateRefused) as refused:
        check_certifies(found, parse_public(other.public))
    assert refused.value.code == "ek-certificate-mismatch"


def test_B10_a_software_tpm_is_refused_unless_allowed(issuer, key):
    der = ek_certificate(issuer, key, manufacturer=IBM)

    assert refusal(der, [issuer.der]) == "ek-software-tpm"
    assert verify(der, [issuer.der], allow_software_tpm=True).software


def test_a_makers_certificate_with_an_unsorted_set_is_read(issuer, key):
    der = unsorted_ek_certificate(issuer, key)

    with pytest.raises(ValueError, match="InvalidSetOrdering"):
        list(x509.load_der_x509_certificate(der).extensions)
    assert verify(der, [issuer.der]).manufacturer == "id:4E544300"


def test_a_store_is_read_from_pem_bundles_and_der_files(tmp_path, root, issuer):
    pem = [ca.certificate.public_bytes(Encoding.PEM) for ca in (root, issuer)]
    (tmp_path / "bundle.pem").write_bytes(b"".join(pem))
    (tmp_path / "root.der").write_bytes(root.der)

    assert set(load_ca_store(tmp_path)) == {root.der, issuer.der}


def test_a_store_with_something_else_in_it_is_refused_by_name(tmp_path, root):
    (tmp_path / "notes.txt").write_text("remember the milk")

    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(CertificateRefused) as refused:
            load_ca_store(folder)
        assert refused.value.code == "ek-ca-store"
        assert str(folder) in str(refused.value)
