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
"""Step 12 of the appraisal: are the tags of the host as the policy asks?

The backend keeps a signed record of them, which was verified before. If the policy wants it in the
TPM (``nvram: required``), the host sends along what its TPM certifies of an NV index:

1. It is well-formed: made by a TPM, about an NV index.
2. It holds the nonce of the challenge.
3. The attestation key that signed the quote signed it.
4. The Name of the index is that of ours: its number, its attributes, no policy, its size.
5. It is about the whole index: from offset 0 to the end.

What does not fit so far is refused, and held against the host. The rest leads to findings, also
when record or policy have changed since:

6. ``require``: the host has each of these tags, with one of the values.
7. ``nvram: required``: there is a record, and the index holds its serial number and its digest.

An index that holds nothing, or another record, is no sign of tampering: the agent may not have
written it yet. So such a host is ``unknown``.
"""

import hmac
from collections.abc import Iterator

from oat_trusted_filter.backend.appraisal.records import (
    EvidenceRefused,
    Finding,
    TagCertification,
    TagEvidence,
)
from oat_trusted_filter.backend.appraisal.rule_records import TagPolicy
from oat_trusted_filter.tcg.attestation import parse_nv_certification
from oat_trusted_filter.tcg.errors import SignatureError
from oat_trusted_filter.tcg.nv import TAG_INDEX, tag_contents, tag_serial
from oat_trusted_filter.tcg.public import PublicArea, verify_signature
from oat_trusted_filter.tcg.signature import parse_signature

#: Code of what is found as long as the TPM does not hold the record.
NOT_IN_TPM = "tag-not-in-tpm"


def check_certification(sent: TagCertification, nonce: bytes, public: PublicArea) -> bytes:
    """Checks 1 to 5.

    :param nonce: of the challenge.
    :param public: the attestation key that signed the quote.
    :returns: what the index holds.
    :raises FormatError: ``certification-…``, ``signature-…``.
    :raises EvidenceRefused: ``tag-nonce``, ``tag-signature``, ``tag-index`` or ``tag-range``,
        authentic, for the quote was.
    """
    found = parse_nv_certification(sent.attest)  # 1
    if not hmac.compare_digest(found.extra_data, nonce):  # 2
        raise _refused("tag-nonce", "the NV index was not certified for this challenge")
    try:
        verify_signature(public, found.raw, parse_signature(sent.signature))  # 3
    except SignatureError as error:
        raise _refused(
            "tag-signature", "the NV index was not certified by the host's attestation key"
        ) from error
    if not hmac.compare_digest(found.index_name, TAG_INDEX.name):  # 4
        raise _refused(
            "tag-index",
            f"what was certified is not NV index {TAG_INDEX.index:#010x} as it has to be",
        )
    if (found.offset, len(found.contents)) != (0, TAG_INDEX.size):  # 5
        raise _refused(
            "tag-range",
            f"{len(found.contents)} bytes from byte {found.offset} of the NV index were certified, "
            f"not all of it",
        )
    return found.contents


def missing(policy: TagPolicy, known: TagEvidence) -> bytes | None:
    """What the index has to hold and does not, for the host to write; None: nothing to do."""
    if policy.nvram != "required" or known.tags is None:
        return None
    wanted = tag_contents(known.tags.serial, known.tags.digest)
    return None if known.contents == wanted else wanted


def tag_findings(policy: TagPolicy, known: TagEvidence) -> Iterator[Finding]:
    """Checks 6 and 7."""
    tags = known.tags
    for name, values in policy.require.items():  # 6
        has = None if tags is None else tags.tags.get(name)
        if has not in values:
            yield Finding(
                "tag-missing",
                f"the policy wants tag {name} to be one of {', '.join(sorted(values))}; the host "
                f"has {'no such tag' if has is None else has}",
                description=name,
                actual=has,
                expected=tuple(sorted(values)),
            )
    if policy.nvram != "required":
        return
    wanted = missing(policy, known)  # 7
    if tags is None:
        yield Finding("tag-missing", "the policy wants tags in the TPM; the host has none")
    elif wanted is not None:
        held = "none" if known.contents is None else f"record {tag_serial(known.contents)}"
        yield Finding(
            NOT_IN_TPM,
            f"the TPM has to hold record {tags.serial} of tags as it was signed; it has shown "
            f"{held}",
            actual=None if known.contents is None else known.contents.hex(),
            expected=(wanted.hex(),),
        )


def _refused(code: str, message: str) -> EvidenceRefused:
    return EvidenceRefused(code, message, authentic=True)
