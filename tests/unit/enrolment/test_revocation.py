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
"""Revocation lists of TPM makers: which count, and what they do to a certificate."""

import os

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from oat_trusted_filter.backend.enrolment.certificate import (
    CertificateRefused,
    verify_ek_certificate,
)
from oat_trusted_filter.backend.enrolment.revocation import RevocationLists
from tests.lab.makers import NOW, YEAR, authority, ek_certificate, revocation_list


@pytest.fixture(scope="module")
def root():
    return authority("root")


@pytest.fixture(scope="module")
def issuer(root):
    return authority("issuer", root)


@pytest.fixture(scope="module")
def certificate(issuer):
    return ek_certificate(issuer, rsa.generate_private_key(65537, 2048))


@pytest.fixture
def folder(tmp_path):
    """A folder for lists: ``folder(name=list)`` puts them there."""

    def put(**lists):
        for name, data in lists.items():
            (tmp_path / name).write_bytes(data)
        return tmp_path

    return put


def verify(certificate, issuer, root, lists, now=NOW):
    return verify_ek_certificate(
        certificate, [issuer.der], [root.der], now,
        allow_software_tpm=False, check_revocation=lists.check,
    )  # fmt: skip


def refusal(*args, **options):
    with pytest.raises(CertificateRefused) as refused:
        verify(*args, **options)
    return refused.value.code


def test_a_certificate_that_is_on_no_list_is_accepted(certificate, issuer, root, folder):
    other = ek_certificate(issuer, rsa.generate_private_key(65537, 2048))
    lists = RevocationLists(folder(a=revocation_list(issuer, [other]), b=revocation_list(root)))
    assert verify(certificate, issuer, root, lists)
    assert refusal(other, issuer, root, lists) == "ek-certificate-revoked"


def test_no_folder_and_an_empty_one_are_no_lists(certificate, issuer, root, folder):
    for lists in (RevocationLists(None), RevocationLists(folder())):
        assert verify(certificate, issuer, root, lists)
        assert lists.out_of_date(NOW) == []


def test_a_revoked_authority_takes_its_certificates_with_it(certificate, issuer, root, folder):
    lists = RevocationLists(folder(root=revocation_list(root, [issuer.der])))
    assert refusal(certificate, issuer, root, lists) == "ek-certificate-revoked"
    # Unless the operator trusts that authority itself.
    assert verify_ek_certificate(
        certificate, [], [issuer.der], NOW, allow_software_tpm=False,
        check_revocation=lists.check,
    )  # fmt: skip


def test_lists_out_of_date_stop_enrolments_and_still_revoke(certificate, issuer, root, folder):
    old = {"start": NOW - 2 * YEAR, "end": NOW - YEAR}
    path = folder(issuer=revocation_list(issuer, **old))
    lists = RevocationLists(path)
    assert refusal(certificate, issuer, root, lists) == "ek-crl-expired"
    assert lists.out_of_date(NOW) == [path / "issuer"]
    folder(issuer=revocation_list(issuer, [certificate], **old))
    assert refusal(certificate, issuer, root, lists) == "ek-certificate-revoked"
    # One that is not valid yet is as good as none.
    folder(issuer=revocation_list(issuer, start=NOW + YEAR, end=NOW + 2 * YEAR))
    assert refusal(certificate, issuer, root, lists) == "ek-crl-expired"
    # A newer list beside the old one is enough.
    folder(newer=revocation_list(issuer))
    assert verify(certificate, issuer, root, lists)


def test_a_list_somebody_else_has_signed_does_not_count(certificate, issuer, root, folder):
    forged = revocation_list(issuer, signer=authority("issuer"))
    lists = RevocationLists(folder(issuer=forged))
    assert refusal(certificate, issuer, root, lists) == "ek-crl-untrusted"
    # Another authority of the same name may have a list as well.
    folder(real=revocation_list(issuer))
    assert verify(certificate, issuer, root, lists)


def test_a_changed_folder_is_read_again(certificate, issuer, root, folder):
    path = folder(issuer=revocation_list(issuer))
    lists = RevocationLists(path)
    assert verify(certificate, issuer, root, lists)
    folder(issuer=revocation_list(issuer, [certificate]))
    assert refusal(certificate, issuer, root, lists) == "ek-certificate-revoked"
    os.unlink(path / "issuer")
    assert verify(certificate, issuer, root, lists)
    folder(issuer=b"half a list")
    assert refusal(certificate, issuer, root, lists) == "ek-crl-invalid"


def test_pem_files_with_several_lists(certificate, issuer, root, folder):
    from cryptography.hazmat.primitives.serialization import Encoding

    pem = b"".join(
        x509.load_der_x509_crl(der).public_bytes(Encoding.PEM)
        for der in (revocation_list(root), revocation_list(issuer, [certificate]))
    )
    lists = RevocationLists(folder(all=pem))
    assert refusal(certificate, issuer, root, lists) == "ek-certificate-revoked"


def point(**fields):
    """An issuing distribution point with these of its flags."""
    values = {
        "full_name": None, "relative_name": None, "only_contains_user_certs": False,
        "only_contains_ca_certs": False, "only_some_reasons": None, "indirect_crl": False,
        "only_contains_attribute_certs": False,
    }  # fmt: skip
    return x509.IssuingDistributionPoint(**{**values, **fields})


@pytest.mark.parametrize(
    "extension",
    [
        point(indirect_crl=True),
        point(only_some_reasons=frozenset([x509.ReasonFlags.key_compromise])),
        point(only_contains_attribute_certs=True),
        x509.DeltaCRLIndicator(1),
        x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b"\x05\x00"),
    ],
)
def test_lists_that_do_not_say_everything_are_refused_by_name(issuer, folder, extension):
    path = folder(crl=revocation_list(issuer, extra=[(extension, True)]))
    with pytest.raises(CertificateRefused) as refused:
        RevocationLists(path)
    assert refused.value.code == "ek-crl-invalid"
    assert str(path / "crl") in str(refused.value)


@pytest.mark.parametrize("data", [b"", b"nonsense", b"-----BEGIN X509 CRL-----\nAAAA"])
def test_files_that_are_no_lists_are_refused_by_name(folder, data):
    path = folder(notes=data)
    with pytest.raises(CertificateRefused) as refused:
        RevocationLists(path)
    assert refused.value.code == "ek-crl-invalid"
    assert str(path) in str(refused.value)
    with pytest.raises(CertificateRefused):
        RevocationLists(path / "missing")


def test_authorities_and_others_may_have_a_list_each(certificate, issuer, root, folder):
    users, authorities = point(only_contains_user_certs=True), point(only_contains_ca_certs=True)
    crl = revocation_list(issuer, [certificate], extra=[(users, True)])
    lists = RevocationLists(folder(issuer=crl))
    assert refusal(certificate, issuer, root, lists) == "ek-certificate-revoked"
    crl = revocation_list(root, [issuer.der], extra=[(authorities, True)])
    lists = RevocationLists(folder(issuer=crl))
    assert refusal(certificate, issuer, root, lists) == "ek-certificate-revoked"
    # A list of the other kind is not asked.
    wrong = revocation_list(issuer, [certificate], extra=[(authorities, True)])
    assert verify(certificate, issuer, root, RevocationLists(folder(issuer=wrong)))
