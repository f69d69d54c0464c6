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
"""What the appraisal works on and what it says: typed records without behaviour of their own.

What it goes by, policies and reference values, is in :mod:`.rule_records`.

The words are those of RFC 9334 (RATS): evidence, reference values, appraisal policy, and the
attestation result, here called verdict.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple

from oat_trusted_filter.tcg.pcr import PcrValues

Level = Literal["trusted", "untrusted", "unknown"]
Severity = Literal["error", "warning"]

#: PCRs a quote has to hold: all but the debug PCR 16 and the application PCR 23, which anybody may
#: reset at any time.
QUOTED_PCRS: tuple[int, ...] = tuple(pcr for pcr in range(24) if pcr not in (16, 23))


@dataclass(frozen=True, slots=True)
class ImaPart:
    """A part of the IMA log as it was sent."""

    offset: int | None
    """Byte it begins at; None: the host asks which one is wanted."""
    data: bytes = b""
    more: bool = False
    """There is more of the log, which was too much to send at once."""


@dataclass(frozen=True, slots=True)
class TagCertification:
    """What a TPM certifies of the NV index for tags."""

    attest: bytes
    """TPMS_ATTEST."""
    signature: bytes
    """TPMT_SIGNATURE."""


@dataclass(frozen=True, slots=True)
class HostTags:
    """The tags a host has at this moment, from a signed record that was verified."""

    serial: int
    tags: Mapping[str, str]
    digest: bytes
    """SHA-256 of the record."""
    valid_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class TagEvidence:
    """What is known of the tags of a host when it is judged."""

    tags: HostTags | None = None
    contents: bytes | None = None
    """What the NV index for tags holds; None: that was not asked for, or was not shown."""


NO_TAGS = TagEvidence()


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a host sent."""

    region: str
    host: str
    challenge_nonce: bytes
    """The nonce that had to be quoted, 32 bytes."""
    quote: bytes
    """TPMS_ATTEST."""
    signature: bytes
    """TPMT_SIGNATURE."""
    pcrs: PcrValues
    boot_log: bytes
    ima: ImaPart | None = None
    """None: the host has no IMA log."""
    challenged_at: datetime | None = None
    """When the challenge was issued; the evidence is at most as old."""
    tags: TagCertification | None = None
    """None: there is no such index."""


@dataclass(frozen=True, slots=True)
class Binding:
    """What was established at enrolment."""

    region: str
    host: str
    ak_public: bytes
    """TPM2B_PUBLIC of the attestation key."""
    banks: tuple[str, ...]
    """PCR banks the TPM implements, allocated or not."""
    software_tpm: bool


@dataclass(frozen=True, slots=True)
class PreviousState:
    """Signed counters of the last evidence that was accepted."""

    clock: int
    """Milliseconds."""
    reset_count: int
    restart_count: int
    firmware_version: int
    safe: bool = True
    """False: the clock may have been further once, for the TPM lost power before it noted it."""
    went_back: bool = False
    """At the last reset the clock was behind what had been quoted before."""
    firmware_before: int | None = None
    """The version the TPM was known with, if it has another one now."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One reason why a host is not trusted, or, as a warning, why it may not be some day."""

    code: str
    """Stable, for programs."""
    message: str
    """One sentence for operators."""
    pcr: int | None = None
    bank: str | None = None
    event: int | None = None
    """Number of the event in the boot log."""
    event_type: str | None = None
    description: str | None = None
    """What the event is about."""
    actual: str | None = None
    """Digest of the event, or value, that is not good."""
    expected: tuple[str, ...] = ()
    """What would be good in its place, as far as the nearest set knows."""
    quoted: str | None = None
    """Value of the PCR."""
    reference_values: tuple[str, ...] = ()
    """Values of the PCR that the nearest set has."""
    reference_set: str | None = None
    """The nearest one."""
    tried: tuple[str, ...] = ()
    """All sets that were compared."""
    severity: Severity = "error"
    """A warning costs no trust."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class UnknownFile:
    """A file that is not on the allow list."""

    path: str
    digest: str
    """``sha256:`` and hexadecimal digits; empty for a violation."""


@dataclass(frozen=True, slots=True)
class ImaState:
    """What is known of a host's IMA log up to an entry."""

    boot: int
    """Reset count of the TPM; the log belongs to one boot."""
    rules: str
    """Names the allow list and patterns it was judged by."""
    offset: int
    """Bytes."""
    entries: int
    values: Mapping[str, bytes]
    """PCR 10 by bank."""
    padded: frozenset[str] = frozenset()
    """Banks the kernel extends with the padded SHA-1 digest."""
    alternatives: Mapping[str, bytes] = field(default_factory=dict)
    """PCR 10 of the other banks if it pads there too, as long as no quote has told."""
    complete: bool = True
    """It has reached the quoted PCR 10."""
    files: int = 0
    """Entries but for the one over the boot."""
    violations: int = 0
    unknown: tuple[UnknownFile, ...] = ()
    """The first ones."""
    unknown_count: int = 0
    kexec: bool = False
    """Another kernel was loaded by kexec, which no boot log tells of."""


class SeenFile(NamedTuple):
    """A file a host has used."""

    path: str
    digest: str
    """``sha256:`` and hexadecimal digits; empty for a violation."""
    signer: str
    """Name of the key that signed it; see :mod:`.ima` for what else it may be."""


@dataclass(frozen=True, slots=True)
class ImaResult:
    """What came of a part of an IMA log."""

    state: ImaState | None
    """None: nothing can be built on."""
    files: tuple[SeenFile, ...] = ()
    """Those of the part."""
    fresh: bool = True
    """The part began at the start of the log."""
    problem: Finding | None = None
    """Why there is no state."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of an appraisal."""

    level: Level
    findings: tuple[Finding, ...] = ()
    references: tuple[str, ...] = ()
    """Names of the reference sets it rests on."""
    valid_until: datetime | None = None
    """When the first of these ends, None for never."""
    state: PreviousState | None = field(default=None)
    """For the next appraisal of this host."""
    ima: ImaResult | None = None
    """None: the IMA log was not looked at."""
    tags: TagEvidence = NO_TAGS


@dataclass(frozen=True, slots=True)
class Override:
    """An operator's word about a host, for a time."""

    level: Literal["trusted", "untrusted"]
    reason: str
    by: str
    """Who said it."""
    made_at: datetime
    until: datetime


class EvidenceRefused(Exception):
    """The evidence is not accepted.

    :param code: stable, for programs.
    :param message: one sentence for people.
    :param authentic: False: nothing proves that the host said this, so nothing may be concluded
        about it. True: the host's TPM said so, and what came with it does not fit.
    :param finding: more about it than code and message.
    :param state: the signed counters of authentic evidence.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        authentic: bool,
        finding: Finding | None = None,
        state: PreviousState | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.authentic = authentic
        self.finding = finding or Finding(code, message)
        self.state = state


class ImaOffsetNeeded(EvidenceRefused):
    """The part of the IMA log does not begin where it is needed; nothing is held against the host.

    :param offset: where the part has to begin.
    """

    def __init__(self, offset: int) -> None:
        super().__init__(
            "ima-offset", f"the IMA log is needed from byte {offset} on", authentic=False
        )
        self.offset = offset
