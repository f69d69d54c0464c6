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
"""Appraisal of the IMA measurement list: which files the running system has used.

The list grows while the system runs, so only what is new is sent and looked at; what is known is
kept in an :class:`ImaState`. In numbered steps, as in :mod:`.appraise`:

 1. The part begins where the last one ended. After a reboot, or when the allow list is another
    one, it begins at the start.
 2. Each entry is well-formed and has the digest of its data.
 3. A prefix of the entries leads to the quoted PCR 10 in every allocated bank. What comes after it
    was measured after the quote, and is for the next round.
 4. Each file of the prefix is on the allow list, with this digest, or excluded by a pattern. A
    violation is not on any list: the kernel could not tell what was used.

Source: Linux kernel, Documentation/security/IMA-templates.rst.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from oat_trusted_filter.backend.appraisal.records import EvidenceRefused, Finding
from oat_trusted_filter.tcg.errors import FormatError
from oat_trusted_filter.tcg.ima import IMA_PCR, ImaEntry, ImaReplay, parse_ima_log
from oat_trusted_filter.tcg.pcr import PcrValues

Mode = Literal["off", "report", "enforce"]

#: Unknown files that are remembered by name; of more only the number is.
MOST_UNKNOWN = 100
#: The first entry: a digest over PCRs that are checked by themselves.
_BOOT_AGGREGATE = "boot_aggregate"
_KEXEC_BUFFER = "kexec-cmdline"


@dataclass(frozen=True, slots=True)
class ImaPolicy:
    """What is asked of the measurement list.

    :param mode: ``off``: not looked at; ``report``: findings do not cost the host its trust;
        ``enforce``: they do.
    :param exclude: regular expressions; a path one of them matches as a whole may be anything.
    """

    mode: Mode = "off"
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class UnknownFile:
    """A file that is not on the allow list."""

    path: str
    digest: str
    """``sha256:`` and hexadecimal digits; empty for a violation."""


@dataclass(frozen=True, slots=True)
class ImaState:
    """What is known of a host's list up to an entry."""

    boot: int
    """Reset count of the TPM; the list belongs to one boot."""
    rules: str
    """Names the allow list and patterns it was judged by."""
    offset: int
    """Bytes."""
    entries: int
    values: Mapping[str, bytes]
    """PCR 10 by bank."""
    padded: frozenset[str]
    """Banks the kernel extends with the padded SHA-1 digest."""
    violations: int = 0
    unknown: tuple[UnknownFile, ...] = ()
    unknown_count: int = 0
    kexec: bool = False
    """Another kernel was loaded by kexec, which no boot log tells of."""


@dataclass(frozen=True, slots=True)
class ImaPart:
    """A part of the list as it was sent."""

    offset: int
    data: bytes


class AllowList:
    """Files that are known to be good.

    :param name: changes whenever the content does.
    :param digests: ``{"sha256:…": paths}``; without paths the file may have any name.
    """

    def __init__(
        self, name: str, digests: Mapping[str, frozenset[str]], exclude: Iterable[str] = ()
    ) -> None:
        self.name = name
        self._digests = digests
        patterns = "|".join(f"(?:{pattern})" for pattern in exclude)
        self._exclude = re.compile(patterns) if patterns else None

    def knows(self, path: str, digest: str) -> bool:
        """Whether a file is good."""
        paths = self._digests.get(digest)
        if paths is not None and (not paths or path in paths):
            return True
        return self._exclude is not None and self._exclude.fullmatch(path) is not None


def needed_offset(state: ImaState | None, boot: int, rules: str) -> int:
    """Where the next part has to begin (step 1)."""
    if state is None or state.boot != boot or state.rules != rules:
        return 0
    return state.offset


def appraise_ima(
    part: ImaPart, state: ImaState | None, boot: int, allowed: AllowList, pcrs: PcrValues
) -> ImaState:
    """Take the new entries in.

    :param state: of the last round, None if there is none.
    :param boot: reset count in the quote.
    :param pcrs: the quoted values.
    :raises EvidenceRefused: ``ima-offset`` (the part does not begin where it should; nothing is
        held against the host), or, authentic, ``ima-log-…`` of the parser and
        ``ima-log-mismatch``.
    """
    offset = needed_offset(state, boot, allowed.name)
    if part.offset != offset:  # 1
        raise EvidenceRefused(
            "ima-offset",
            f"the IMA list is needed from byte {offset}, not from {part.offset}",
            authentic=False,
        )
    if state is None or offset == 0:
        start = {bank: bytes(len(values[IMA_PCR])) for bank, values in pcrs.items()}
        state = ImaState(boot, allowed.name, 0, 0, start, frozenset())
        ways = [frozenset[str](), frozenset(bank for bank in pcrs if bank != "sha1")]
    else:
        ways = [state.padded]
    quoted = {bank: values[IMA_PCR] for bank, values in pcrs.items()}
    try:
        count, values, padded, end = _prefix(part.data, state, ways, quoted)  # 2, 3
        entries = parse_ima_log(part.data[:end], state.entries)
        return _judged(state, entries, count, values, padded, end, allowed)  # 4
    except FormatError as error:
        raise EvidenceRefused(error.code, str(error), authentic=True) from error


def _prefix(
    data: bytes,
    state: ImaState,
    ways: Sequence[frozenset[str]],
    quoted: Mapping[str, bytes],
) -> tuple[int, dict[str, bytes], frozenset[str], int]:
    """The first prefix that leads to the quoted values: entries, values, padded banks, bytes."""
    if set(state.values) != set(quoted):
        raise FormatError("ima-log-mismatch", "the allocated PCR banks changed within one boot")
    replays = [ImaReplay(state.values, way) for way in ways]
    padded = _padded(replays, ways, quoted)
    if padded is not None:
        return 0, dict(quoted), padded, 0
    for number, entry in enumerate(parse_ima_log(data, state.entries), 1):
        if entry.pcr == IMA_PCR:
            for replay in replays:
                replay.extend(entry, state.entries + number - 1)
            padded = _padded(replays, ways, quoted)
            if padded is not None:
                return number, dict(quoted), padded, entry.end
    raise FormatError(
        "ima-log-mismatch",
        f"no part of the IMA list leads to the quoted PCR {IMA_PCR}; {state.entries} entries were "
        "known before",
    )


def _padded(
    replays: Sequence[ImaReplay], ways: Sequence[frozenset[str]], quoted: Mapping[str, bytes]
) -> frozenset[str] | None:
    """The banks that match padded, if each bank matches one way; None if one matches none."""
    found = set()
    for bank, value in quoted.items():
        matching = [
            way for replay, way in zip(replays, ways, strict=True) if replay.values[bank] == value
        ]
        if not matching:
            return None
        if all(bank in way for way in matching):
            found.add(bank)
    return frozenset(found)


def _judged(
    state: ImaState,
    entries: Iterable[ImaEntry],
    count: int,
    values: Mapping[str, bytes],
    padded: frozenset[str],
    end: int,
    allowed: AllowList,
) -> ImaState:
    unknown = list(state.unknown)
    unknown_count, violations, kexec = state.unknown_count, state.violations, state.kexec
    for entry in entries:
        kexec = kexec or (entry.template == "ima-buf" and entry.path == _KEXEC_BUFFER)
        digest = f"{entry.algorithm}:{entry.file_digest.hex()}"
        if entry.violation:
            violations += 1
            digest = ""
        elif entry.path == _BOOT_AGGREGATE or allowed.knows(entry.path, digest):
            continue
        unknown_count += 1
        if len(unknown) < MOST_UNKNOWN:
            unknown.append(UnknownFile(entry.path, digest))
    return ImaState(
        boot=state.boot,
        rules=state.rules,
        offset=state.offset + end,
        entries=state.entries + count,
        values=values,
        padded=padded if count else state.padded,
        violations=violations,
        unknown=tuple(unknown),
        unknown_count=unknown_count,
        kexec=kexec,
    )


def findings_of(state: ImaState) -> tuple[Finding, ...]:
    """What is wrong with a list, as far as it is known."""
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
        found.append(
            Finding("ima-unknown-file", f"PCR {IMA_PCR}: {more} more files", pcr=IMA_PCR)
        )
    return tuple(found)
