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
"""Evidence as it is kept with a report.

Kept is all the appraisal started from, so it can be run again later, from the signature of the
quote on. Two things are kept otherwise: the boot log by its digest, and of an IMA log only how far
it was known, for that is what counted.
"""

import zlib
from typing import TYPE_CHECKING

import msgspec

from oat_trusted_filter.backend.appraisal.records import (
    ImaPart,
    ImaState,
    TagCertification,
    Verdict,
)
from oat_trusted_filter.backend.store.renewing import Subject

if TYPE_CHECKING:
    # It needs the service, and that the rules, and these what is kept.
    from oat_trusted_filter.backend.api.submission import Submission

#: Bytes of a log that does not fit its quote which are kept with the report about it. Nobody else
#: has such a log, so it would be stored for each report anew.
LARGEST_ODD_LOG = 256 * 1024


class Proof(msgspec.Struct, omit_defaults=True):
    """The TPM's word, and whose it is."""

    quote: bytes
    signature: bytes
    nonce: bytes
    ak_public: bytes
    banks: str
    software_tpm: bool
    previous: str | None = None
    """Counters the TPM had shown before, as they are stored."""


class Kept(msgspec.Struct, omit_defaults=True):
    """Evidence as it is kept."""

    pcrs: str
    """JSON as it was sent."""
    proof: Proof | None = None
    """None: from before there was a history, or what was judged again under other rules."""
    boot_log: bytes | None = None
    """A log that does not fit the quote."""
    ima: ImaState | None = None
    """What was known of the IMA log, with the part that was taken in."""
    ima_part: ImaPart | None = None
    """A part that was refused; None: the state is that after the part."""
    tags: TagCertification | None = None
    incomplete: bool = False
    """A log was too large to be kept."""


_KEPT = msgspec.json.Decoder(Kept)


def unpacked(data: bytes) -> Kept:
    """What :func:`packed` has made."""
    return _KEPT.decode(zlib.decompress(data))


def packed(
    submission: "Submission",
    subject: Subject,
    before: ImaState | None,
    verdict: Verdict | None,
    log: bytes,
) -> bytes:
    """Evidence a verdict rests on, for the report about it.

    :param before: what was known of the IMA log.
    :param verdict: None: the evidence was refused.
    :param log: the boot log.
    """
    result = None if verdict is None else verdict.ima
    evidence = submission.evidence
    kept = Kept(
        pcrs=submission.pcrs_json,
        proof=Proof(
            evidence.quote,
            evidence.signature,
            evidence.challenge_nonce,
            subject.ak_public,
            subject.banks,
            bool(subject.software_tpm),
            subject.tpm_state,
        ),
        ima=None if result is None else result.state,
        tags=evidence.tags,
    )
    if verdict is None:
        kept.boot_log = log
    if verdict is None or (result is not None and result.problem is not None):
        kept.ima, kept.ima_part = before, evidence.ima
    odd = (kept.boot_log or b"", b"" if kept.ima_part is None else kept.ima_part.data)
    if sum(map(len, odd)) > LARGEST_ODD_LOG:
        kept.boot_log = kept.ima_part = None
        kept.incomplete = True
    return zlib.compress(msgspec.json.encode(kept))


def packed_again(pcrs: str, ima: ImaState | None) -> bytes:
    """Evidence that was judged under other rules and has moved on since it was kept last."""
    return zlib.compress(msgspec.json.encode(Kept(pcrs=pcrs, ima=ima)))
