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
"""Every kind of endorsement key with every kind of attestation key, against a real backend."""

import contextlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from tpm2_pytss import ESYS_TR

from oat_trusted_filter.agent.endorsement import endorsement_key
from oat_trusted_filter.agent.errors import TpmError
from oat_trusted_filter.agent.tpm import Tpm
from oat_trusted_filter.conf.agent import OPTS
from oat_trusted_filter.tcg.public import parse_public
from tests.functional.agent.certified import (
    give_certificate,
    make_key,
    sign_certificate,
    write_nv,
)
from tests.functional.agent.running import run_agent

AK_ALGORITHMS = [
    name for opt in OPTS if opt.name == "ak_algorithm" for name in opt.type.choices
]
PERSISTENT = 0x81010001


def pem(der):
    return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)


def in_file(software, template, folder):
    """The certificate of a TPM whose firmware has none, as its maker's site gives it out."""
    path = folder / "ek.pem"
    path.write_bytes(b"for this machine\n" + pem(sign_certificate(software, template)))
    return path


# Template of the TCG's profile -> the value of ek_template, the name of the stack if swtpm_setup
# makes no certificate, and how people read it.
TEMPLATES = {
    "L-1": ("rsa2048", None, "RSA-2048"),
    "L-2": ("p256", "EK-ECC256", "P-256"),
    "H-1": ("rsa2048", "EK-HIGH-RSA2048", "RSA-2048 (high range)"),
    "H-2": ("p256", "EK-HIGH-ECC256", "P-256 (high range)"),
    "H-3": ("p384", None, "P-384 (high range)"),
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_attestation_key_enrols_and_is_trusted(host_maker, operator, name, tmp_path):
    choice, template, words = TEMPLATES[name]
    host = host_maker(ek_template=choice, ak_algorithm=AK_ALGORITHMS[0])
    if name == "H-1":
        # The TPM has a certificate for the RSA key of the low range as well.
        host.options["ek_certificate"] = in_file(host.software, template, tmp_path)
    elif template is not None:
        give_certificate(host.software, template)
    with (
        Tpm(host.software.tcti) as tpm,
        endorsement_key(tpm, choice, host.options.get("ek_certificate")) as key,
    ):
        assert key.kind == words
    assert host.agent().round().code == "host-pending"
    shown = operator.show(host.name)
    assert (shown["state"], shown["ek_certificate_status"]) == ("pending", "verified")
    operator.approve(host.name)
    assert host.agent().round().level == "untrusted"
    reference = operator.take_reference(host.name)
    for algorithm in AK_ALGORITHMS:
        host.options["ak_algorithm"] = algorithm
        agent = host.agent()
        assert [agent.round().level for _ in range(2)] == ["trusted"] * 2, algorithm
    operator.call("DELETE", f"/v1/reference-sets/{reference}")


@contextlib.contextmanager
def no_key_can_be_made(software):
    """A TPM with a password of the endorsement hierarchy that nobody has told."""
    with Tpm(software.tcti) as tpm:
        tpm.esapi.hierarchy_change_auth(ESYS_TR.ENDORSEMENT, b"secret")
    yield
    with Tpm(software.tcti, endorsement_password="secret") as tpm:
        tpm.esapi.hierarchy_change_auth(ESYS_TR.ENDORSEMENT, b"")


def test_a_key_that_is_there_already_is_taken(tpm_maker):
    software = tpm_maker()
    with no_key_can_be_made(software), Tpm(software.tcti) as tpm:
        # swtpm_setup leaves it there, as makers and provisioning tools do.
        assert PERSISTENT in tpm.persistent_endorsement_keys()
        with endorsement_key(tpm) as key:
            assert (key.kind, key.certificate is not None) == ("RSA-2048", True)
        with pytest.raises(TpmError) as caught, endorsement_key(tpm, "p256"):
            pass
        assert caught.value.code == "tpm-authorization"


def test_a_persistent_key_the_certificate_is_not_for_is_passed_over(tpm_maker):
    software = tpm_maker()
    with Tpm(software.tcti) as tpm:
        kept = tpm.esapi.tr_from_tpmpublic(PERSISTENT)
        tpm.esapi.evict_control(ESYS_TR.OWNER, kept, PERSISTENT)
        handle, _ = make_key(tpm, "EK-HIGH-RSA2048")
        tpm.esapi.evict_control(ESYS_TR.OWNER, handle, PERSISTENT)
        tpm.flush(handle)
    with Tpm(software.tcti) as tpm, endorsement_key(tpm) as key:
        assert key.kind == "RSA-2048"
        certificate = x509.load_der_x509_certificate(key.certificate)
        assert certificate.public_key() == parse_public(key.public).key


def test_authorities_come_from_the_file_and_from_the_tpm(tpm_maker, tmp_path):
    software = tpm_maker()
    root, issuer = (path.read_bytes() for path in software.ca_certificates)
    write_nv(software, 0x01C00100, x509.load_pem_x509_certificate(root).public_bytes(Encoding.DER))
    leaf = sign_certificate(software, "EK-ECC256")
    for data in (
        pem(leaf) + issuer,
        leaf + x509.load_pem_x509_certificate(issuer).public_bytes(Encoding.DER),
    ):
        path = tmp_path / "ek"
        path.write_bytes(data)
        with Tpm(software.tcti) as tpm, endorsement_key(tpm, "auto", path) as key:
            assert (key.kind, key.certificate) == ("P-256", leaf)
            subjects = [
                x509.load_der_x509_certificate(der).subject for der in key.intermediates
            ]
        assert subjects == [
            x509.load_pem_x509_certificate(certificate).subject for certificate in (issuer, root)
        ]


def test_a_file_for_another_tpm_is_named(tpm_maker, tmp_path):
    software, other = tpm_maker(), tpm_maker("other")
    path = in_file(other, "EK-ECC256", tmp_path)
    with (
        Tpm(software.tcti) as tpm,
        pytest.raises(TpmError) as caught,
        endorsement_key(tpm, "p256", path),
    ):
        pass
    assert caught.value.code == "tpm-no-endorsement-key"
    assert str(caught.value).endswith("this TPM's keys: P-256, P-256 (high range)")


@pytest.mark.parametrize("data", [None, b"", b"text"])
def test_a_file_that_is_no_certificate_is_one_line(host_maker, tmp_path, data):
    path = tmp_path / "ek.pem"
    if data is not None:
        path.write_bytes(data)
    host = host_maker()
    result = run_agent(host.config(tmp_path, ek_certificate=path), "--once")
    assert result.returncode == 3
    assert f"[agent] ek_certificate {path}" in result.stderr
    assert len(result.stderr.splitlines()) == 1
