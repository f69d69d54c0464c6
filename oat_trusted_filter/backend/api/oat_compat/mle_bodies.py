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
"""What is said about MLEs in bodies and queries, and which MLE is meant."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeAlias

import falcon
import msgspec

from oat_trusted_filter.backend.api.exchange import decoded, read_body
from oat_trusted_filter.backend.api.oat_compat.asked import Asked
from oat_trusted_filter.backend.api.oat_compat.errors import OatError
from oat_trusted_filter.backend.appraisal.document import DocumentError, pcr_number
from oat_trusted_filter.backend.store.oat_mles import BIOS, VMM, StoredMle
from oat_trusted_filter.backend.store.tables import NAME_LENGTH
from oat_trusted_filter.tcg.algorithms import BANKS, digest_size

#: Bank -> PCR -> the values that are good.
Values: TypeAlias = Mapping[str, Mapping[int, frozenset[bytes]]]

NO_VALUES: Values = {}
_BANK_OF_SIZE = {digest_size(bank): bank for bank in BANKS}
_ATTESTATION_TYPES = ("PCR", "MODULE")


class Manifest(msgspec.Struct, rename="pascal"):
    """A PCR that is good."""

    name: str
    value: str


class MleBody(msgspec.Struct, rename="pascal"):
    """An MLE; that of a BIOS has an OEM, that of a VMM an operating system."""

    name: str | None = None
    version: str | None = None
    attestation_type: str | None = msgspec.field(default=None, name="Attestation_Type")
    type: str | None = msgspec.field(default=None, name="MLE_Type")
    description: str | None = None
    oem_name: str | None = None
    os_name: str | None = None
    os_version: str | None = None
    manifests: list[Manifest] | None = msgspec.field(default=None, name="MLE_Manifests")


class PcrBody(msgspec.Struct, rename="camel"):
    """A PCR of an MLE."""

    pcr_name: str | None = None
    pcr_digest: str | None = None
    mle_name: str | None = None
    mle_version: str | None = None
    oem_name: str | None = None
    os_name: str | None = None
    os_version: str | None = None


class SourceBody(msgspec.Struct, rename="camel"):
    """The host an MLE is from."""

    mle_data: MleBody
    host_name: str | None = None


def title(mle: StoredMle) -> str:
    """An MLE in words."""
    return f"MLE '{mle.name}' version '{mle.version}' of '{mle.maker}'"


def wanted_by(query: Asked) -> StoredMle:
    """The MLE that a query is about."""
    return identified(
        query.get("mleName"), query.get("mleVersion"),
        query.get("oemName"), query.get("osName"), query.get("osVersion"),
    )  # fmt: skip


def identity(body: MleBody) -> StoredMle:
    """The MLE a body is about."""
    return identified(body.name, body.version, body.oem_name, body.os_name, body.os_version)


def identified(
    name: str | None, version: str | None, oem: str | None, system: str | None, release: str | None
) -> StoredMle:
    """The MLE of an OEM, or of an operating system and its release.

    :raises OatError: ``WS_OEM_OS_DATA_CANNOT_COEXIST`` or ``WS_MLE_DATA_MISSING``.
    """
    if oem and (system or release):
        raise OatError(
            "WS_OEM_OS_DATA_CANNOT_COEXIST", "OEM and OS information cannot be given together."
        )
    maker = oem or system
    for field, value in (("OEM/OS", maker), ("mleName", name), ("mleVersion", version)):
        if not value:
            raise OatError("WS_MLE_DATA_MISSING", f"Data required for MLE is missing: {field}.")
    for text in (name, version, maker, release):
        if len(text or "") > NAME_LENGTH:
            raise OatError("AS_MISSING_INPUT", f"Missing or invalid input '{(text or '')[:20]}…'.")
    return StoredMle(
        BIOS if oem else VMM, maker or "", "" if oem else release or "", name or "", version or ""
    )


def described(body: MleBody) -> StoredMle:
    """The MLE a body describes."""
    wanted = identity(body)
    kind = (body.attestation_type or "PCR").upper()
    if kind not in _ATTESTATION_TYPES:
        raise OatError("AS_MISSING_INPUT", "Missing or invalid input 'Attestation_Type'.")
    if body.type not in (None, wanted.type):
        raise OatError("AS_MISSING_INPUT", "Missing or invalid input 'MLE_Type'.")
    return replace(wanted, attestation_type=kind, description=body.description or "")


def pcr_in(req: falcon.Request) -> tuple[StoredMle, str, int, bytes]:
    """The MLE, the bank, the number and the value of a body about a PCR."""
    body = decoded(read_body(req), PcrBody)
    wanted = identified(
        body.mle_name, body.mle_version, body.oem_name, body.os_name, body.os_version
    )  # fmt: skip
    bank, value = digest_in(body.pcr_digest)
    return wanted, bank, number_in(body.pcr_name), value


def values_in(manifests: list[Manifest]) -> Values:
    """The values of a list of PCRs."""
    values: Values = NO_VALUES
    for item in manifests:
        bank, value = digest_in(item.value)
        pcr = number_in(item.name)
        already = values.get(bank, {}).get(pcr, frozenset())
        values = with_values(values, bank, pcr, *already, value)
    return values


def with_values(values: Values, bank: str, pcr: int, *good: bytes) -> Values:
    """Values with other ones for a PCR."""
    return {**values, bank: {**values.get(bank, {}), pcr: frozenset(good)}}


def number_in(text: str | None) -> int:
    """The number of a PCR."""
    try:
        return pcr_number((text or "").strip(), "pcrName")
    except DocumentError as error:
        raise OatError("WS_MLE_PCR_NOT_VALID", f"PCR '{text}' cannot be required.") from error


def digest_in(text: str | None) -> tuple[str, bytes]:
    """The bank and the value of a PCR; the length tells the bank."""
    try:
        value = bytes.fromhex((text or "").strip())
        return _BANK_OF_SIZE[len(value)], value
    except (ValueError, KeyError) as error:
        raise OatError(
            "WS_MLE_PCR_NOT_VALID", f"'{text}' is no value of a PCR (SHA-1, SHA-256 or longer)."
        ) from error
