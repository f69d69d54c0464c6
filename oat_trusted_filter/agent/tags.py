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
"""The tags of this host in its TPM: an NV index that holds which record of tags is the current one.

The backend asks for it if the policy of the host does. Only the owner of the TPM may define and
write the index; whether it was written is told by what the TPM certifies.
"""

from typing import Any

from tpm2_pytss import (
    ESYS_TR,
    TPM2_ALG,
    TPM2_RC,
    TPM2B_DATA,
    TPM2B_NV_PUBLIC,
    TPMA_NV,
    TPMS_NV_PUBLIC,
    TPMT_SIG_SCHEME,
    TSS2_Exception,
)

from oat_trusted_filter.agent.attestation_key import AttestationKey
from oat_trusted_filter.agent.errors import TpmError, translated
from oat_trusted_filter.agent.tpm import Tpm
from oat_trusted_filter.tcg.nv import TAG_INDEX, TPMA_NV_WRITTEN


def write_tags(tpm: Tpm, contents: bytes) -> None:
    """Put this into the index, which is defined if it is not there.

    :raises TpmError: ``tpm-nv-taken``, the index is there and is not as ours; or the TPM refused.
    """
    with translated(f"writing NV index {TAG_INDEX.index:#010x}", "owner_password"):
        index = _found(tpm)
        if index is None:
            index = tpm.esapi.nv_define_space(None, _public(), ESYS_TR.OWNER)
        try:
            _check_ours(tpm, index)
            tpm.esapi.nv_write(index, contents, auth_handle=ESYS_TR.OWNER)
        finally:
            tpm.esapi.tr_close(index)


def certify_tags(tpm: Tpm, key: AttestationKey, nonce: bytes) -> tuple[bytes, bytes] | None:
    """TPMS_ATTEST and TPMT_SIGNATURE over all of the index; None: it is not there as ours is.

    :raises TpmError: the TPM refused.
    """
    with translated(f"certifying NV index {TAG_INDEX.index:#010x}"):
        index = _found(tpm)
        if index is None:
            return None
        try:
            if _shape(tpm, index) != (TAG_INDEX.attributes, TAG_INDEX.size):
                return None
            attest, signature = tpm.esapi.nv_certify(
                key.handle,
                index,
                TPM2B_DATA(nonce),
                TPMT_SIG_SCHEME(scheme=TPM2_ALG.NULL),
                TAG_INDEX.size,
                auth_handle=index,
            )
            return bytes(attest), bytes(signature.marshal())
        finally:
            tpm.esapi.tr_close(index)


def _found(tpm: Tpm) -> Any:
    try:
        return tpm.esapi.tr_from_tpmpublic(TAG_INDEX.index)
    except TSS2_Exception as error:
        if error.error == int(TPM2_RC.HANDLE):
            return None
        raise


def _check_ours(tpm: Tpm, index: Any) -> None:
    attributes, size = _shape(tpm, index)
    if (attributes | TPMA_NV_WRITTEN, size) != (TAG_INDEX.attributes, TAG_INDEX.size):
        raise TpmError(
            "tpm-nv-taken",
            f"NV index {TAG_INDEX.index:#010x} is in use for something else; if nobody needs it, "
            f"remove it: tpm2_nvundefine {TAG_INDEX.index:#x}",
        )


def _shape(tpm: Tpm, index: Any) -> tuple[int, int]:
    public = tpm.esapi.nv_read_public(index)[0].nvPublic
    return int(public.attributes), int(public.dataSize)


def _public() -> TPM2B_NV_PUBLIC:
    return TPM2B_NV_PUBLIC(
        nvPublic=TPMS_NV_PUBLIC(
            nvIndex=TAG_INDEX.index,
            nameAlg=TPM2_ALG.SHA256,
            attributes=TPMA_NV(TAG_INDEX.attributes & ~TPMA_NV_WRITTEN),
            dataSize=TAG_INDEX.size,
        )
    )
