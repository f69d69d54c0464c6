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
"""Evidence as it comes over the wire."""

import hashlib
from dataclasses import dataclass
from typing import Annotated

import msgspec

from oat_trusted_filter.backend.api.challenge import Challenge
from oat_trusted_filter.backend.api.exchange import decoded
from oat_trusted_filter.backend.api.fields import (
    Digest,
    HostName,
    Region,
    SmallBlob,
    binary,
    pcr_values,
)
from oat_trusted_filter.backend.api.problems import Problem
from oat_trusted_filter.backend.api.service import Service
from oat_trusted_filter.backend.appraisal.records import Evidence, ImaPart, TagCertification
from oat_trusted_filter.tcg.ima import MAX_PART_BYTES

_LARGEST_PCRS = 64 * 1024
_LONGEST_CHALLENGE = 256


class BootLogPart(msgspec.Struct):
    """The boot log, by name and, if the backend may not know it, in full."""

    digest: Digest
    data: str | None = None


class ImaLogPart(msgspec.Struct):
    """A part of the IMA log, or the question which one is wanted."""

    offset: Annotated[int, msgspec.Meta(ge=0, lt=2**53)] | None = None
    data: str = ""
    more: bool = False


class TagPart(msgspec.Struct):
    """What the TPM certifies of the NV index for tags."""

    certification: SmallBlob
    signature: SmallBlob


class EvidenceBody(msgspec.Struct):
    """Evidence on the wire."""

    host: HostName
    challenge: str
    quote: SmallBlob
    signature: SmallBlob
    pcrs: msgspec.Raw
    boot_log: BootLogPart
    region: Region = ""
    ima_log: ImaLogPart | None = None
    tags: TagPart | None = None


@dataclass(frozen=True, slots=True)
class Submission:
    """Evidence, decoded, with its challenge."""

    evidence: Evidence
    """With an empty boot log: that is read by its digest."""
    challenge: Challenge
    pcrs_json: str
    boot_log_digest: str
    boot_log: bytes | None

    def digest(self, ima_bytes: int) -> str:
        """Names what the host has proven.

        :param ima_bytes: how much of the IMA log.
        """
        proven = f"{self.boot_log_digest}{self.pcrs_json}{ima_bytes}"
        return hashlib.sha256(proven.encode()).hexdigest()


def read_submission(service: Service, data: bytes) -> Submission:
    """Step 1 of :mod:`.evidence`.

    :param data: the body of the request.
    :raises Problem: it is malformed, or its challenge is not one for it.
    """
    body = decoded(data, EvidenceBody)
    if len(body.challenge) > _LONGEST_CHALLENGE:
        raise Problem("challenge-malformed", "the challenge is not one of this backend")
    challenge = service.challenges.check(body.challenge, body.region, body.host, service.clock())
    if len(bytes(body.pcrs)) > _LARGEST_PCRS:
        raise Problem("field-invalid", f"pcrs is larger than {_LARGEST_PCRS} bytes")
    boot_log = None
    if body.boot_log.data is not None:
        boot_log = binary(body.boot_log.data, "boot_log.data")
        if hashlib.sha256(boot_log).hexdigest() != body.boot_log.digest:
            raise Problem("boot-log-digest", "boot_log.digest is not that of boot_log.data")
    evidence = Evidence(
        region=body.region,
        host=body.host,
        challenge_nonce=challenge.nonce,
        quote=binary(body.quote, "quote"),
        signature=binary(body.signature, "signature"),
        pcrs=pcr_values(body.pcrs),
        boot_log=b"",
        ima=_ima_part(body.ima_log),
        tags=_certification(body.tags),
    )
    pcrs_json = bytes(body.pcrs).decode()
    return Submission(evidence, challenge, pcrs_json, body.boot_log.digest, boot_log)


def _ima_part(part: ImaLogPart | None) -> ImaPart | None:
    if part is None:
        return None
    data = binary(part.data, "ima_log.data")
    if len(data) > MAX_PART_BYTES:
        raise Problem("field-invalid", f"ima_log.data is more than {MAX_PART_BYTES} bytes")
    return ImaPart(part.offset, data, part.more)


def _certification(part: TagPart | None) -> TagCertification | None:
    if part is None:
        return None
    return TagCertification(
        binary(part.certification, "tags.certification"), binary(part.signature, "tags.signature")
    )
