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
"""The TPM part of the agent against a software TPM."""

import hashlib
import os
import secrets

import pytest
from cryptography import x509
from tpm2_pytss import (
    ESAPI,
    ESYS_TR,
    TPM2_ALG,
    TPM2_CAP,
    TPM2B_AUTH,
    TPM2B_PUBLIC,
    TPMA_NV,
    TPML_DIGEST_VALUES,
    TPMT_HA,
    TPMU_HA,
)
from tpm2_pytss.utils import make_credential

from oat_trusted_filter.agent import evidence
from oat_trusted_filter.agent.attestation_key import AttestationKeyCache, attestation_key
from oat_trusted_filter.agent.certificates import split_der
from oat_trusted_filter.agent.endorsement import activate, endorsement_key
from oat_trusted_filter.agent.errors import TpmError
from oat_trusted_filter.agent.evidence import sign_pcrs
from oat_trusted_filter.agent.tpm import Tpm
from oat_trusted_filter.tcg.attestation import parse_quote
from oat_trusted_filter.tcg.pcr import pcr_digest
from oat_trusted_filter.tcg.public import check_attestation_key, parse_public, verify_signature
from oat_trusted_filter.tcg.signature import parse_signature
from tests.functional.agent.certified import CERTIFICATE_INDICES, give_certificate, write_nv

NONCE = hashlib.sha256(b"a challenge").digest()


def credential_for(ek_public, ak_public):
    """What the backend sends: a secret for this pair of keys."""
    secret = secrets.token_bytes(32)
    ek, _ = TPM2B_PUBLIC.unmarshal(ek_public)
    ak, _ = TPM2B_PUBLIC.unmarshal(ak_public)
    blob, encrypted = make_credential(ek, secret, ak.get_name())
    return secret, bytes(blob.marshal()), bytes(encrypted.marshal())


def left_behind(tpm):
    """Handles of transient objects and sessions in the TPM."""
    found = []
    for first in (0x80000000, 0x02000000, 0x03000000):
        _, capability = tpm.esapi.get_capability(TPM2_CAP.HANDLES, first, 16)
        found += [hex(handle) for handle in capability.data.handles]
    return found


@pytest.mark.parametrize("algorithm", ["ecc", "rsa"])
@pytest.mark.parametrize("choice", ["auto", "p256", "p384"])
def test_credential_activates_with_every_pair_of_keys(shared_tpm, choice, algorithm):
    with Tpm(shared_tpm.tcti) as tpm:
        with attestation_key(tpm, algorithm) as ak, endorsement_key(tpm, choice) as ek:
            secret, blob, encrypted = credential_for(ek.public, ak.public)
            assert activate(tpm, ak.handle, ek, blob, encrypted) == secret
        assert left_behind(tpm) == []


def test_credential_for_another_attestation_key_is_refused(shared_tpm):
    with (
        Tpm(shared_tpm.tcti) as tpm,
        attestation_key(tpm, "ecc") as ak,
        endorsement_key(tpm) as ek,
    ):
        _, blob, encrypted = credential_for(ek.public, ek.public)
        with pytest.raises(TpmError) as caught:
            activate(tpm, ak.handle, ek, blob, encrypted)
        assert caught.value.code == "tpm-activation"
        with pytest.raises(TpmError) as caught:
            activate(tpm, ak.handle, ek, blob + b"x", encrypted)
        assert caught.value.code == "tpm-activation"


@pytest.mark.parametrize(("choice", "certified"), [("auto", True), ("p384", True), ("p256", False)])
def test_certificate_is_for_the_endorsement_key(shared_tpm, choice, certified):
    with Tpm(shared_tpm.tcti) as tpm, endorsement_key(tpm, choice) as ek:
        if not certified:
            assert ek.certificate is None
            return
        certificate = x509.load_der_x509_certificate(ek.certificate)
        assert certificate.public_key() == parse_public(ek.public).key


@pytest.mark.parametrize("padding", [b"", bytes(64), b"\xff" * 200], ids=["none", "00", "ff"])
def test_p256_certificate_is_found_and_its_padding_cut(tpm_maker, padding):
    software = tpm_maker()
    certificate = give_certificate(software, "EK-ECC256", padding=padding)
    with Tpm(software.tcti) as tpm, endorsement_key(tpm, "p256") as ek:
        assert ek.certificate == certificate
        assert x509.load_der_x509_certificate(certificate).public_key() == (
            parse_public(ek.public).key
        )


def test_certificate_for_another_key_is_not_used(tpm_maker):
    software, other = tpm_maker(), tpm_maker("other")
    write_nv(software, CERTIFICATE_INDICES["EK-ECC256"], give_certificate(other, "EK-ECC256"))
    with Tpm(software.tcti) as tpm:
        with pytest.raises(TpmError) as caught, endorsement_key(tpm, "p256"):
            pass
        assert caught.value.code == "tpm-no-endorsement-key"
        assert "P-256 in NV index 0x01c0000a" in str(caught.value)
        assert left_behind(tpm) == []


def test_certificates_of_the_authority_are_read(tpm_maker):
    software = tpm_maker()
    issuers = [
        x509.load_pem_x509_certificate(path.read_bytes()) for path in software.ca_certificates
    ]
    from cryptography.hazmat.primitives.serialization import Encoding

    ders = [issuer.public_bytes(Encoding.DER) for issuer in issuers]
    joined = b"".join(ders)
    # The second certificate begins in the first index and goes on in the next one.
    cut = len(ders[0]) + 100
    write_nv(software, 0x01C00100, joined[:cut])
    write_nv(software, 0x01C00101, joined[cut:] + bytes(10))
    with Tpm(software.tcti) as tpm, endorsement_key(tpm) as ek:
        assert list(ek.intermediates) == ders


def test_nv_index_only_the_owner_may_read_needs_the_owner_password(tpm_maker):
    software = tpm_maker()
    attributes = TPMA_NV.OWNERWRITE | TPMA_NV.OWNERREAD | TPMA_NV.NO_DA
    write_nv(software, 0x01C00100, b"certificate", attributes)
    with Tpm(software.tcti) as tpm:
        tpm.esapi.hierarchy_change_auth(ESYS_TR.OWNER, TPM2B_AUTH(b"owner"))
    with Tpm(software.tcti) as tpm, pytest.raises(TpmError) as caught:
        tpm.read_nv(0x01C00100)
    assert caught.value.code == "tpm-authorization"
    assert "owner_password" in str(caught.value)
    with Tpm(software.tcti, owner_password="owner") as tpm:
        assert tpm.read_nv(0x01C00100) == b"certificate"


def test_endorsement_password_is_used_and_its_absence_explained(tpm_maker):
    software = tpm_maker()
    with Tpm(software.tcti) as tpm:
        tpm.esapi.hierarchy_change_auth(ESYS_TR.ENDORSEMENT, TPM2B_AUTH(b"secret"))
    with (
        Tpm(software.tcti) as tpm,
        pytest.raises(TpmError) as caught,
        attestation_key(tpm, "ecc"),
    ):
        pass
    assert caught.value.code == "tpm-authorization"
    assert "endorsement_password" in str(caught.value)
    with (
        Tpm(software.tcti, endorsement_password="secret") as tpm,
        attestation_key(tpm, "ecc") as ak,
        endorsement_key(tpm, "p384") as ek,
    ):
        secret, blob, encrypted = credential_for(ek.public, ak.public)
        assert activate(tpm, ak.handle, ek, blob, encrypted) == secret


@pytest.mark.parametrize(
    ("algorithm", "bank"),
    [
        ("ecc", "sha256"),
        ("ecc-p384", "sha384"),
        ("rsa", "sha256"),
        ("rsa-3072", "sha384"),
        ("rsapss", "sha256"),
        ("rsapss-3072", "sha384"),
    ],
)
def test_quote_verifies_and_covers_every_bank(shared_tpm, algorithm, bank):
    pcrs = [number for number in range(24) if number not in (16, 23)]
    with Tpm(shared_tpm.tcti) as tpm, attestation_key(tpm, algorithm) as key:
        signed = sign_pcrs(tpm, key, pcrs, NONCE)
        assert left_behind(tpm) != []
        banks = tpm.banks()
    public = parse_public(key.public)
    check_attestation_key(public)
    verify_signature(public, signed.quote, parse_signature(signed.signature))
    quote = parse_quote(signed.quote)
    assert quote.extra_data == NONCE
    assert quote.clock_info.reset_count > 0
    assert quote.pcr_digest == pcr_digest(quote.selections, signed.pcrs, bank)
    assert tuple(selection.bank for selection in quote.selections) == banks
    assert {item.bank: list(item.pcrs) for item in quote.selections if item.pcrs} == {
        "sha1": pcrs,
        "sha256": pcrs,
        "sha384": pcrs,
    }
    assert {bank: sorted(values) for bank, values in signed.pcrs.items()} == {
        "sha1": pcrs,
        "sha256": pcrs,
        "sha384": pcrs,
    }


def extend(tpm, pcr):
    value = TPMT_HA(hashAlg=TPM2_ALG.SHA256, digest=TPMU_HA(sha256=secrets.token_bytes(32)))
    tpm.esapi.pcr_extend(ESYS_TR(pcr), TPML_DIGEST_VALUES([value]))


def test_quote_is_repeated_while_pcrs_move(tpm_maker, monkeypatch):
    software = tpm_maker()
    moves = 3
    with Tpm(software.tcti) as tpm, attestation_key(tpm, "ecc") as key:
        read = tpm.read_pcrs

        def moving(wanted):
            nonlocal moves
            if moves > 0:
                moves -= 1
                extend(tpm, 10)
            return read(wanted)

        monkeypatch.setattr(tpm, "read_pcrs", moving)
        signed = sign_pcrs(tpm, key, [0, 10], NONCE)
        quote = parse_quote(signed.quote)
        assert quote.pcr_digest == pcr_digest(quote.selections, signed.pcrs, "sha256")
        assert moves == 0

        moves = evidence._ATTEMPTS + 1
        with pytest.raises(TpmError) as caught:
            sign_pcrs(tpm, key, [0, 10], NONCE)
        assert caught.value.code == "tpm-pcrs-moving"


def test_attestation_key_is_the_same_after_reset_and_from_the_cache(tpm_maker):
    software = tpm_maker()
    cache = AttestationKeyCache()
    publics = []
    for _ in range(2):
        with Tpm(software.tcti) as tpm:
            for _ in range(2):
                with attestation_key(tpm, "ecc", cache) as key:
                    publics.append(key.public)
                    sign_pcrs(tpm, key, [0], NONCE)
            assert left_behind(tpm) == []
        software.power_cycle()
    assert len(publics) == 4
    assert len(set(publics)) == 1


def test_tpm_that_goes_away_and_comes_back(tpm_maker):
    software = tpm_maker()
    with Tpm(software.tcti) as tpm:
        software.stop()
        with pytest.raises(TpmError) as caught:
            tpm.banks()
        assert caught.value.code == "tpm-unreachable"
    software.start()
    with Tpm(software.tcti) as tpm:
        assert "sha256" in tpm.banks()


@pytest.mark.parametrize(
    ("tcti", "code"),
    [
        ("", "tpm-tcti"),
        ("device:{folder}/missing", "tpm-unreachable"),
        ("device:{folder}", "tpm-tcti"),
        ("swtpm:path={folder}/missing", "tpm-unreachable"),
        ("no-such-kind:x", "tpm-unreachable"),
        ("no such kind", "tpm-tcti"),
    ],
)
def test_wrong_tcti_is_named(tmp_path, tcti, code):
    tcti = tcti.format(folder=tmp_path)
    with pytest.raises(TpmError) as caught, Tpm(tcti):
        pass
    assert caught.value.code == code
    assert tcti in str(caught.value)


@pytest.mark.parametrize("kind", ["device", "pcap:device", "libtss2-tcti-device.so.0"])
def test_device_tcti_never_writes_into_a_file(tmp_path, kind):
    # The stack sends a command to whatever it opens, so this would lose the first bytes.
    precious = tmp_path / "precious"
    precious.write_bytes(b"root:x:0:0:root:/root:/bin/sh\n")
    before = os.stat(precious)
    with pytest.raises(TpmError) as caught, Tpm(f"{kind}:{precious}"):
        pass
    assert caught.value.code == "tpm-tcti"
    assert precious.read_bytes() == b"root:x:0:0:root:/root:/bin/sh\n"
    assert os.stat(precious).st_mtime_ns == before.st_mtime_ns


def test_full_tpm_is_explained(tpm_maker):
    software = tpm_maker()
    with ESAPI(software.tcti) as other:
        for _ in range(3):
            other.create_primary(None, "ecc256")
    with Tpm(software.tcti) as tpm:
        with pytest.raises(TpmError) as caught, attestation_key(tpm, "ecc"):
            pass
        assert caught.value.code == "tpm-memory"
        assert "/dev/tpmrm0" in str(caught.value)


@pytest.mark.parametrize(
    ("data", "lengths"),
    [
        (b"", []),
        (bytes(20), []),
        (b"\x30\x82\x00\x02ab", [6]),
        (b"\x30\x82\x00\x02ab\xff\xff\x30\x82\x00\x01c\x00", [6, 5]),
        (b"\x30\x82\xff\xffab", []),
        (b"\x30\x82", []),
        (b"text", []),
    ],
)
def test_structures_in_nv_are_split(data, lengths):
    assert [len(part) for part in split_der(data)] == lengths
