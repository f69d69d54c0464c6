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
"""Endorsement key certificates for a software TPM, of the kinds swtpm_setup makes none for."""

import subprocess
import tempfile
from pathlib import Path

from tpm2_pytss import (
    ESYS_TR,
    TPM2_ALG,
    TPM2B_AUTH,
    TPM2B_MAX_NV_BUFFER,
    TPM2B_NV_PUBLIC,
    TPM2B_SENSITIVE_CREATE,
    TPMA_NV,
    TPMS_NV_PUBLIC,
)
from tpm2_pytss.utils import NoSuchIndex, create_ek_template

from oat_trusted_filter.agent.tpm import Tpm
from tests.lab.swtpm import SoftwareTpm

#: By the name the stack has for the template.
CERTIFICATE_INDICES = {
    "EK-ECC256": 0x01C0000A,
    "EK-HIGH-RSA2048": 0x01C00012,
    "EK-HIGH-ECC256": 0x01C00014,
}
_ATTRIBUTES = (
    TPMA_NV.OWNERWRITE
    | TPMA_NV.OWNERREAD
    | TPMA_NV.AUTHREAD
    | TPMA_NV.AUTHWRITE
    | TPMA_NV.PPREAD
    | TPMA_NV.NO_DA
)
_CHUNK = 512


def give_certificate(software: SoftwareTpm, template: str, *, padding: bytes = b"") -> bytes:
    """Sign a certificate for the TPM's endorsement key and store it as a maker would.

    :param padding: bytes some makers leave behind the certificate in the NV index.
    :returns: the certificate, DER.
    """
    certificate = sign_certificate(software, template)
    write_nv(software, CERTIFICATE_INDICES[template], certificate + padding)
    return certificate


def sign_certificate(software: SoftwareTpm, template: str) -> bytes:
    """Sign a certificate for the TPM's endorsement key, DER."""
    with Tpm(software.tcti) as tpm:
        handle, public = make_key(tpm, template)
        tpm.flush(handle)
    unique = public.publicArea.unique
    if public.publicArea.type == TPM2_ALG.RSA:
        return _signed_by_authority(software, bytes(unique.rsa).hex())
    x, y = bytes(unique.ecc.x), bytes(unique.ecc.y)
    return _signed_by_authority(software, f"x={x.hex()},y={y.hex()},id=secp256r1")


def make_key(tpm: Tpm, template: str):
    """Make an endorsement key; its handle and public area."""

    def read(index):
        if index == CERTIFICATE_INDICES.get(template):
            return b""  # the stack insists on one for keys of the high range
        raise NoSuchIndex(index)

    _, public_template = create_ek_template(template, read)
    handle, public, *_ = tpm.esapi.create_primary(
        TPM2B_SENSITIVE_CREATE(), public_template, ESYS_TR.ENDORSEMENT
    )
    return handle, public


def write_nv(
    software: SoftwareTpm, index: int, data: bytes, attributes: TPMA_NV = _ATTRIBUTES
) -> None:
    """Define an NV index in the owner hierarchy and fill it."""
    with Tpm(software.tcti) as tpm:
        public = TPM2B_NV_PUBLIC(
            nvPublic=TPMS_NV_PUBLIC(
                nvIndex=index,
                nameAlg=TPM2_ALG.SHA256,
                attributes=attributes,
                dataSize=len(data),
            )
        )
        handle = tpm.esapi.nv_define_space(TPM2B_AUTH(), public, ESYS_TR.OWNER)
        for offset in range(0, len(data), _CHUNK):
            part = TPM2B_MAX_NV_BUFFER(data[offset : offset + _CHUNK])
            tpm.esapi.nv_write(handle, part, offset, auth_handle=ESYS_TR.OWNER)


def _signed_by_authority(software: SoftwareTpm, key: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [
                "swtpm_localca", "--type", "ek", "--tpm2",
                "--ek", key,
                "--dir", folder,
                "--vmid", software.state_dir.name,
                "--tpm-spec-family", "2.0", "--tpm-spec-level", "0", "--tpm-spec-revision", "164",
                "--tpm-manufacturer", "id:00001014", "--tpm-model", "swtpm",
                "--tpm-version", "id:20191023",
                "--configfile", str(software.state_dir / "swtpm-localca.conf"),
                "--optsfile", str(software.state_dir / "swtpm-localca.options"),
            ],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        return (Path(folder) / "ek.cert").read_bytes()
