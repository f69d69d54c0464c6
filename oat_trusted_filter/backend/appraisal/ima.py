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
"""Appraisal of the IMA log: which files the running system has used.

The log grows while the system runs, so only what is new is sent and looked at; what is known is
kept in an :class:`ImaState`. In numbered steps, as in :mod:`.appraise`:

 1. The part begins where the last one ended. After a reboot, or when the rules are others and what
    was seen cannot be judged again, it begins at the start.
 2. Each entry is well-formed and has the digest of its data.
 3. A prefix of the entries leads to the quoted PCR 10 in every allocated bank. What comes after it
    was measured after the quote, and is for the next round. If there is more than can be sent at
    once, no prefix may do so yet: the entries are taken in, but as long as no later part reaches
    the PCR nothing is known for sure.
 4. Each file of the prefix is on the allow list, with this digest, or excluded by a pattern, or
    signed by a key. A violation is on no list: the kernel could not tell what was used.

Source: Linux kernel, Documentation/security/IMA-templates.rst.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from oat_trusted_filter.backend.appraisal.allow_list import AllowList
from oat_trusted_filter.backend.appraisal.records import (
    EvidenceRefused,
    Finding,
    ImaOffsetNeeded,
    ImaPart,
    ImaResult,
    ImaState,
    SeenFile,
    UnknownFile,
)
from oat_trusted_filter.backend.appraisal.rule_records import ImaPolicy
from oat_trusted_filter.tcg.errors import FormatError
from oat_trusted_filter.tcg.ima import IMA_PCR, ImaEntry, ImaReplay, parse_ima_log
from oat_trusted_filter.tcg.pcr import PcrValues

#: Unknown files that are remembered by name; of more only the number is.
MOST_UNKNOWN = 25
#: Unknown files after which no more signatures are checked: the host is none to trust anyway, and
#: bad signatures cost it nothing to make.
MOST_SIGNATURES = 1000
#: Code of the finding that nothing is known for sure yet.
INCOMPLETE = "ima-log-incomplete"
#: In place of the name of a signer: there is a signature, but it was not needed or not good.
NOT_VERIFIED = "?"
#: The first entry: a digest over PCRs that are checked by themselves.
_BOOT_AGGREGATE = "boot_aggregate"
_KEXEC_BUFFER = "kexec-cmdline"


def needed_offset(state: ImaState | None, boot: int, rules: str) -> int:
    """Where the next part has to begin (step 1)."""
    if state is None or state.boot != boot or state.rules != rules:
        return 0
    return state.offset


def check_ima(
    part: ImaPart | None,
    state: ImaState | None,
    boot: int,
    policy: ImaPolicy,
    allowed: AllowList,
    pcrs: PcrValues,
) -> ImaResult:
    """:func:`appraise_ima` as the policy says: what it only reports refuses nothing.

    :raises EvidenceRefused: as :func:`appraise_ima`.
    """
    if part is None:
        missing = Finding("ima-log-missing", "the host has no IMA log", pcr=IMA_PCR)
        return ImaResult(None, problem=missing)
    try:
        return appraise_ima(part, state, boot, allowed, pcrs)
    except EvidenceRefused as error:
        if policy.mode == "enforce" or not error.authentic:
            raise
        return ImaResult(None, problem=error.finding)


def appraise_ima(
    part: ImaPart, state: ImaState | None, boot: int, allowed: AllowList, pcrs: PcrValues
) -> ImaResult:
    """Take the new entries in.

    :param state: of the last round, None if there is none.
    :param boot: reset count in the quote.
    :param pcrs: the quoted values.
    :raises ImaOffsetNeeded: the part does not begin where it should.
    :raises EvidenceRefused: authentic: ``ima-log-…`` of the parser and ``ima-log-mismatch``.
    """
    offset = needed_offset(state, boot, allowed.name)
    if part.offset != offset:  # 1
        raise ImaOffsetNeeded(offset)
    fresh = state is None or offset == 0
    if state is None or fresh:
        zeros = {bank: bytes(len(values[IMA_PCR])) for bank, values in pcrs.items()}
        padding = {bank: value for bank, value in zeros.items() if bank != "sha1"}
        state = ImaState(boot, allowed.name, 0, 0, zeros, alternatives=padding)
    quoted = {bank: values[IMA_PCR] for bank, values in pcrs.items()}
    try:
        return _taken_in(part, state, allowed, quoted, fresh=fresh)  # 2, 3, 4
    except FormatError as error:
        finding = Finding(error.code, str(error), pcr=IMA_PCR)
        raise EvidenceRefused(error.code, str(error), authentic=True, finding=finding) from error


def _taken_in(
    part: ImaPart,
    state: ImaState,
    allowed: AllowList,
    quoted: Mapping[str, bytes],
    *,
    fresh: bool,
) -> ImaResult:
    """The entries that lead to the quoted values, or all of them if there are more to come.

    :raises FormatError: ``ima-log-…``.
    """
    if set(state.values) != set(quoted):
        raise FormatError("ima-log-mismatch", "the allocated PCR banks changed within one boot")
    replay = ImaReplay(state.values, state.padded, state.alternatives)
    tally = _Tally(state, allowed)
    padded = replay.padded_at(quoted)
    end = 0
    for entry in _entries(part, state.entries) if padded is None else ():  # 2
        if entry.pcr == IMA_PCR:
            replay.extend(entry, tally.entries)
        tally.take_in(entry)  # 4
        end = entry.end
        padded = replay.padded_at(quoted)
        if padded is not None:
            break
    if padded is None and not part.more:  # 3
        raise FormatError(
            "ima-log-mismatch",
            f"no part of the IMA log leads to the quoted PCR {IMA_PCR}; {state.entries} entries "
            "were known before",
        )
    alternatives = replay.alternatives
    if padded is not None:
        # As long as there were only violations, which are never padded, both ways are the same.
        alternatives = {b: v for b, v in alternatives.items() if v == replay.values[b]}
    taken_in = replace(
        tally.state(),
        offset=state.offset + end,
        values=replay.values if padded is None else dict(quoted),
        padded=state.padded if padded is None else padded,
        alternatives=alternatives,
        complete=padded is not None,
    )
    return ImaResult(taken_in, tuple(tally.files), fresh)


def _entries(part: ImaPart, first: int) -> Iterator[ImaEntry]:
    """The whole entries of a part: if there is more, it may have been cut anywhere."""
    try:
        yield from parse_ima_log(part.data, first)
    except FormatError as error:
        if not part.more or error.code != "ima-log-truncated":
            raise


def judge_again(
    state: ImaState, files: Iterable[SeenFile], allowed: AllowList
) -> ImaState | None:
    """What a state becomes by other rules.

    :param files: all that led to the state.
    :returns: None if the log has to be read again, for of signatures only the good are kept.
    """
    tally = _Tally(replace(state, rules=allowed.name, unknown=(), unknown_count=0), allowed)
    for file in files:
        if not tally.judge(file) and file.signer == NOT_VERIFIED and allowed.keys.names:
            return None
    return tally.state()


class _Tally:
    """Judges files and counts.

    :param state: where to begin.
    """

    def __init__(self, state: ImaState, allowed: AllowList) -> None:
        self.entries = state.entries
        self.files: dict[SeenFile, None] = {}
        self._state = state
        self._allowed = allowed
        self._count = state.files
        self._violations = state.violations
        self._kexec = state.kexec
        self._unknown = list(state.unknown)
        self._unknown_count = state.unknown_count
        self._signers: dict[tuple[str, bytes], str | None] = {}

    def take_in(self, entry: ImaEntry) -> None:
        """Count the next entry and judge its file."""
        self.entries += 1
        if entry.path == _BOOT_AGGREGATE:
            if self.entries == 1:
                return
            # A kernel that kexec starts makes a digest over the boot as well.
            self._kexec = True
        elif entry.template == "ima-buf" and entry.path == _KEXEC_BUFFER:
            self._kexec = True
        self._count += 1
        self._violations += entry.violation
        file = self._seen(entry)
        self.files[file] = None
        self.judge(file)

    def _seen(self, entry: ImaEntry) -> SeenFile:
        """An entry as it is kept; its signature is checked if that matters."""
        if entry.violation:
            return SeenFile(entry.path, "", "")
        digest = f"{entry.algorithm}:{entry.file_digest.hex()}"
        if not entry.signature:
            return SeenFile(entry.path, digest, "")
        signer = None
        if self._unknown_count < MOST_SIGNATURES and not self._allowed.knows(entry.path, digest):
            # The same signature again must not cost the time of another check.
            known = (digest, entry.signature)
            if known not in self._signers:
                self._signers[known] = self._allowed.keys.signer(
                    entry.algorithm, entry.file_digest, entry.signature
                )
            signer = self._signers[known]
        return SeenFile(entry.path, digest, signer or NOT_VERIFIED)

    def judge(self, file: SeenFile) -> bool:
        """Whether a file is good."""
        allowed = self._allowed
        if file.digest:
            good = allowed.knows(file.path, file.digest) or file.signer in allowed.keys.names
        else:
            good = allowed.excludes(file.path)
        if not good:
            unknown = UnknownFile(file.path, file.digest)
            if unknown not in self._unknown:
                self._unknown_count += 1
                if len(self._unknown) < MOST_UNKNOWN:
                    self._unknown.append(unknown)
        return good

    def state(self) -> ImaState:
        """The state with what was counted."""
        return replace(
            self._state,
            entries=self.entries,
            files=self._count,
            violations=self._violations,
            unknown=tuple(self._unknown),
            unknown_count=self._unknown_count,
            kexec=self._kexec,
        )


def ima_findings(policy: ImaPolicy, known: ImaState | Finding | None) -> tuple[Finding, ...]:
    """What is wrong by a policy.

    :param known: the state of the log, or why there is none; None: nothing is known yet.
    """
    if policy.mode == "off":
        return ()
    if known is None:
        found: tuple[Finding, ...] = (_incomplete("is asked for from its start"),)
    elif isinstance(known, Finding):
        found = (known,)
    else:
        found = findings_of(known)
    if policy.mode == "enforce":
        return found
    return tuple(replace(finding, severity="warning") for finding in found)


def findings_of(state: ImaState) -> tuple[Finding, ...]:
    """What is wrong with a log, as far as it is known."""
    found = [
        Finding(
            "ima-violation" if not file.digest else "ima-unknown-file",
            f"PCR {IMA_PCR}: {file.path} "
            + (
                f"has digest {file.digest}, which is not on the allow list"
                if file.digest
                else "was written while it was measured"
            ),
            pcr=IMA_PCR,
            description=file.path,
            actual=file.digest or None,
        )
        for file in state.unknown
    ]
    more = state.unknown_count - len(state.unknown)
    if more:
        found.append(Finding("ima-unknown-file", f"PCR {IMA_PCR}: {more} more files", pcr=IMA_PCR))
    if not state.complete:
        found.append(_incomplete(f"is known up to entry {state.entries} only"))
    elif not state.files:
        nothing = f"PCR {IMA_PCR}: the host measures no files; it needs an IMA policy"
        found.append(Finding("ima-log-missing", nothing, pcr=IMA_PCR))
    return tuple(found)


def _incomplete(why: str) -> Finding:
    message = f"PCR {IMA_PCR}: the IMA log {why}; the next rounds bring the rest"
    return Finding(INCOMPLETE, message, pcr=IMA_PCR)
