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
"""The appraisal: evidence, policy and reference values in, a verdict out.

Pure functions: no I/O, no database, no clock of their own. The steps:

 1. The quote and its signature are well-formed.                          (A4, A5)
 2. The quote holds the nonce of the challenge.                           (A6)
 3. The attestation key bound to this host signed the quote.              (A4, A8, A12, B9)
    From here on the TPM has said it; what does not fit is held against the host.
 4. The clock has gone forward since the last evidence.                   (A9)
 5. The quote selects all PCRs of every allocated bank, each bank once.   (A1, A2, A3, A11)
 6. The PCR values beside the quote are the quoted ones, and only those.  (A1)
 7. The boot log is well-formed, and its data is what was measured.       (D2, D3, D5)
 8. The log leads to the quoted PCRs of firmware and boot loader,
    in every allocated bank.                                              (A11, D4, D6)
 9. The facts are as the policy asks, see :mod:`.facts`.                  (D1, D3)
10. For each requirement of the policy a valid reference set matches.
11. The IMA log leads to PCR 10, and its files are known, see :mod:`.ima`. (D9)
12. The tags of the host are as the policy asks, and if it wants that, its TPM
    certifies for the same challenge that it holds them, see :mod:`.tags`.

Steps 1 to 3 refuse without a word about the host: anybody can send rubbish in its name. So does
step 4, for evidence of the past says nothing about now. Steps 5 to 8 refuse, and the host is
untrusted. Steps 9 and 10 lead to a verdict with findings. Steps 11 and 12 do one or the other:
files that are not known and tags that are missing are findings; a log that does not fit, and what
was certified otherwise than it has to be, are refused.
"""

import functools
import hmac
import logging
import operator
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from oat_trusted_filter.backend.appraisal.allow_list import (
    AllowList,
    make_allow_list,
    valid_lists,
)
from oat_trusted_filter.backend.appraisal.boot_log import ReadBootLog, read_boot_log
from oat_trusted_filter.backend.appraisal.facts import check_facts
from oat_trusted_filter.backend.appraisal.ima import INCOMPLETE, check_ima, ima_findings
from oat_trusted_filter.backend.appraisal.matching import match
from oat_trusted_filter.backend.appraisal.records import (
    NO_TAGS,
    QUOTED_PCRS,
    Binding,
    Evidence,
    EvidenceRefused,
    Finding,
    HostTags,
    ImaState,
    Level,
    PreviousState,
    TagEvidence,
    Verdict,
)
from oat_trusted_filter.backend.appraisal.reference import BOOT_PCRS
from oat_trusted_filter.backend.appraisal.rule_records import Policy, ReferenceSet
from oat_trusted_filter.backend.appraisal.tags import (
    NOT_IN_TPM,
    check_certification,
    tag_findings,
)
from oat_trusted_filter.backend.appraisal.tpm_state import check_tpm, state_after
from oat_trusted_filter.tcg.attestation import PcrSelection, Quote, parse_quote
from oat_trusted_filter.tcg.errors import FormatError, SignatureError
from oat_trusted_filter.tcg.pcr import PcrValues, pcr_digest
from oat_trusted_filter.tcg.public import PublicArea, parse_public, signing_bank, verify_signature
from oat_trusted_filter.tcg.signature import parse_signature

LOG = logging.getLogger(__name__)

NONCE_BYTES = 32
#: Code of what is found when the verifier itself has failed.
VERIFIER_ERROR = "verifier-error"
#: Banks of which at least one has to be allocated; SHA-1 alone proves nothing any more.
STRONG_BANKS = frozenset({"sha256", "sha384", "sha512"})

_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
_boot_values = operator.itemgetter(*BOOT_PCRS)

_MASK = sum(1 << pcr for pcr in QUOTED_PCRS)

# Loading a key takes longer than checking a signature with it.
_public_area = functools.lru_cache(maxsize=16_384)(parse_public)


def appraise(
    evidence: Evidence,
    binding: Binding,
    policy: Policy,
    references: Sequence[ReferenceSet],
    previous: PreviousState | None,
    now: datetime,
    read_log: ReadBootLog | None = None,
    ima: ImaState | None = None,
    allowed: AllowList | None = None,
    tags: HostTags | None = None,
) -> Verdict:
    """Appraise fresh evidence.

    :param binding: the host in whose name the evidence was sent, as it was enrolled.
    :param references: all reference sets there are.
    :param previous: counters of the last accepted evidence, None if this is the first.
    :param now: the moment that counts for validity, with a time zone.
    :param read_log: what :func:`read_boot_log` made of ``evidence.boot_log``, if that is known.
    :param ima: what is known of the IMA log from earlier evidence.
    :param allowed: what :func:`make_allow_list` made of policy and references, if that is known.
    :param tags: those the host has.
    :raises EvidenceRefused: in steps 1 to 8, 11 and 12.
    """
    public = _public_area(binding.ak_public)
    quote = _check_quote(evidence, public)  # 1, 2, 3
    state = state_after(quote, previous)
    _check_clock(state, previous)  # 4
    try:
        selected = _check_selection(quote.selections, binding.banks)  # 5
        _check_values(evidence.pcrs, quote, selected, signing_bank(public))  # 6
        if read_log is None:
            read_log = read_boot_log(evidence.boot_log)  # 7
        check_replay(read_log, evidence.pcrs)  # 8
        result = None
        if policy.ima.mode != "off":
            allowed = allowed or make_allow_list(policy.ima, valid_lists(references, now))
            boot = state.reset_count
            result = check_ima(
                evidence.ima, ima, boot, policy.ima, allowed, evidence.pcrs
            )  # 11
        contents = None
        if policy.tags.nvram == "required" and evidence.tags is not None:
            contents = check_certification(evidence.tags, evidence.challenge_nonce, public)  # 12
    except FormatError as error:
        raise EvidenceRefused(error.code, str(error), authentic=True, state=state) from error
    except EvidenceRefused as error:
        error.state = state
        raise
    known = None if result is None else result.problem or result.state
    verdict = judge(
        read_log, evidence.pcrs, policy, references, now, state, known, evidence.challenged_at,
        TagEvidence(tags, contents),
    )  # 9, 10, 12  # fmt: skip
    return verdict if result is None else replace(verdict, ima=result)


def judge(
    read_log: ReadBootLog,
    pcrs: PcrValues,
    policy: Policy,
    references: Sequence[ReferenceSet],
    now: datetime,
    state: PreviousState | None = None,
    ima: ImaState | Finding | None = None,
    challenged_at: datetime | None = None,
    tags: TagEvidence = NO_TAGS,
) -> Verdict:
    """Steps 9 and 10 and the findings of 11 and 12, also for stored evidence when the rules or the
    tags have changed.

    :param state: the signed counters, None if they are not known.
    :param ima: what is known of the IMA log by these rules, or why nothing is.
    :param challenged_at: how old the evidence may be; None: nobody knows.
    :param tags: those the host has at this moment, and what its TPM holds of them.
    """
    findings = list(check_facts(read_log, pcrs, policy, references, now))  # 9
    if state is not None:
        findings.extend(check_tpm(state, policy))
    matched = []
    for requirement in policy.requirements:  # 10
        result = match(requirement, references, pcrs, read_log, now)
        if isinstance(result, ReferenceSet):
            matched.append(result)
        else:
            findings.extend(result)
    findings.extend(ima_findings(policy.ima, ima))
    findings.extend(tag_findings(policy.tags, tags))  # 12
    if policy.ima.mode == "enforce":
        matched.extend(valid_lists(references, now))
    ends = [reference.valid_until for reference in matched if reference.valid_until is not None]
    if policy.max_age is not None:
        ends.append((challenged_at or _LONG_AGO) + timedelta(seconds=policy.max_age))
    if policy.tags.asks and tags.tags is not None and tags.tags.valid_until is not None:
        ends.append(tags.tags.valid_until)
    return Verdict(
        level=level_of(findings),
        findings=tuple(findings),
        references=tuple(dict.fromkeys(reference.name for reference in matched)),
        valid_until=min(ends, default=None),
        state=state,
        tags=tags,
    )


def level_of(findings: Sequence[Finding]) -> Level:
    """The level that follows from findings."""
    costly = {finding.code for finding in findings if finding.severity == "error"}
    if not costly:
        return "trusted"
    # What has not been seen yet is no sign of tampering.
    return "unknown" if costly <= {INCOMPLETE, NOT_IN_TPM, VERIFIER_ERROR} else "untrusted"


def appraise_safely(
    evidence: Evidence,
    binding: Binding,
    policy: Policy,
    references: Sequence[ReferenceSet],
    previous: PreviousState | None,
    now: datetime,
    read_log: ReadBootLog | None = None,
    ima: ImaState | None = None,
    allowed: AllowList | None = None,
    tags: HostTags | None = None,
) -> Verdict:
    """:func:`appraise`, with a verdict also if it fails in an unforeseen way (E1).

    :raises EvidenceRefused: as :func:`appraise`.
    """
    try:
        return appraise(
            evidence, binding, policy, references, previous, now, read_log, ima, allowed, tags
        )
    except EvidenceRefused:
        raise
    except Exception as error:
        LOG.exception("the appraisal of host %s failed in an unforeseen way", evidence.host)
        return Verdict(
            level="unknown",
            findings=(
                Finding(
                    VERIFIER_ERROR,
                    f"the verifier failed ({type(error).__name__}); its log says more",
                ),
            ),
        )


def _check_quote(evidence: Evidence, public: PublicArea) -> Quote:
    """Steps 1 to 3."""
    try:
        quote = parse_quote(evidence.quote)
        signature = parse_signature(evidence.signature)
    except FormatError as error:
        raise EvidenceRefused(error.code, str(error), authentic=False) from error
    nonce = evidence.challenge_nonce
    if len(nonce) != NONCE_BYTES or not hmac.compare_digest(quote.extra_data, nonce):
        raise EvidenceRefused(
            "nonce-mismatch", "the quote was not made for this challenge", authentic=False
        )
    try:
        verify_signature(public, quote.raw, signature)
    except SignatureError as error:
        raise EvidenceRefused(error.code, str(error), authentic=False) from error
    return quote


def _check_clock(state: PreviousState, previous: PreviousState | None) -> None:
    """Step 4: within a boot the clock does not go back, and boots are counted."""
    if previous is None or state.reset_count > previous.reset_count:
        return
    if state.reset_count < previous.reset_count:
        raise EvidenceRefused(
            "tpm-cleared",
            f"the TPM counts {state.reset_count} resets after {previous.reset_count}: it was "
            "cleared and has to enrol again",
            authentic=False,
        )
    # A restart (resume from suspend) does not set the clock back either.
    if state.restart_count < previous.restart_count or state.clock < previous.clock:
        raise EvidenceRefused(
            "clock-backwards",
            f"within one boot the TPM's clock went back from {previous.clock} ms after "
            f"{previous.restart_count} restarts to {state.clock} ms after {state.restart_count}",
            authentic=False,
        )


# The same for all hosts of a kind; a stranger's selections only turn the cache over.
@functools.lru_cache(maxsize=256)
def _check_selection(
    selections: tuple[PcrSelection, ...], banks: tuple[str, ...]
) -> Mapping[str, tuple[int, ...]]:
    """Step 5: an unallocated bank is there with nothing selected, an allocated one with all.

    :param banks: with which the TPM was enrolled.
    :returns: the PCRs selected of each allocated bank.
    """
    selected = {}
    seen = set()
    for selection in selections:
        bank = selection.bank
        if bank is None or bank not in banks or bank in seen:
            raise _refused(
                "quote-banks",
                f"the quote selects from bank {bank or f'{selection.algorithm:#06x}'} "
                f"{'twice' if bank in seen else 'although the TPM was enrolled without it'}",
            )
        seen.add(bank)
        if selection.mask not in (0, _MASK):
            raise _refused(
                "quote-selection",
                f"the quote selects PCRs {_numbers(selection.pcrs)} of bank {bank}, not "
                f"{_numbers(QUOTED_PCRS)}",
            )
        if selection.mask:
            selected[bank] = selection.pcrs
    missing = [bank for bank in banks if bank not in seen]
    if missing:
        raise _refused("quote-banks", f"the quote leaves out bank {', '.join(missing)}")
    if STRONG_BANKS.isdisjoint(selected):
        raise _refused("quote-banks", "no PCR bank stronger than SHA-1 is allocated")
    return selected


def _check_values(
    pcrs: PcrValues,
    quote: Quote,
    selected: Mapping[str, tuple[int, ...]],
    bank_of_signature: str,
) -> None:
    """Step 6."""
    right = pcrs.keys() == selected.keys()
    for bank, values in pcrs.items():
        # Most often they come in order.
        right = right and (
            tuple(values) == selected[bank] or tuple(sorted(values)) == selected[bank]
        )
    if not right:
        raise _refused("pcr-selection", "the PCR values sent are not those that were quoted")
    digest = pcr_digest(quote.selections, pcrs, bank_of_signature)
    if not hmac.compare_digest(digest, quote.pcr_digest):
        raise _refused("pcr-digest", "the PCR values sent do not have the digest that was quoted")


def check_replay(read_log: ReadBootLog, pcrs: PcrValues) -> None:
    """Step 8.

    :raises EvidenceRefused: ``boot-log-bank`` or ``boot-log-mismatch``, authentic.
    """
    for bank, values in pcrs.items():
        replayed = read_log.replayed.get(bank)
        if replayed is None:
            raise _refused(
                "boot-log-bank",
                f"PCR bank {bank} is allocated, but the boot log has no digests of it",
            )
        if _boot_values(replayed) != _boot_values(values):
            pcr = next(pcr for pcr in BOOT_PCRS if replayed[pcr] != values[pcr])
            raise _replay_mismatch(read_log, bank, pcr, values[pcr])


def _replay_mismatch(
    read_log: ReadBootLog, bank: str, pcr: int, value: bytes
) -> EvidenceRefused:
    empty = all(event.pcr != pcr for event in read_log.log.events)
    why = "no event for it" if empty else "events that lead to another value"
    message = f"PCR {pcr} ({bank}) cannot be explained: the boot log has {why}"
    return EvidenceRefused(
        "boot-log-mismatch",
        message,
        authentic=True,
        finding=Finding(
            "boot-log-mismatch",
            message,
            pcr=pcr,
            bank=bank,
            actual=value.hex(),
            expected=(read_log.replayed[bank][pcr].hex(),),
        ),
    )


def _refused(code: str, message: str) -> EvidenceRefused:
    return EvidenceRefused(code, message, authentic=True)


def _numbers(pcrs: Sequence[int]) -> str:
    return ",".join(map(str, pcrs)) or "none"
