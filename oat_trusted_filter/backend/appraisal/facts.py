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
"""Step 9 of the appraisal: are the facts of the boot as the policy asks?

Each check has a number; what a policy does not speak of is not checked.

1. ``secure_boot: required``: it is on, something vouched for what was started (an authority), and
   no firmware debugger is enabled.
2. ``certificates``: of each database named, all certificates are among those listed.
3. ``dbx_minimum``: each digest listed is in dbx.
4. ``kernel_command_line``: each line matches the pattern as a whole. A boot loader that measures no
   line leaves room for whoever comes later to make one up, so this means something only beside a
   requirement for PCR 4 or for the images started.
5. ``images``: each image that was started is in a valid reference set of one of these kinds.
6. ``boot_files``: each file the boot loader has loaded (PCR 9) is in a valid reference set of one
   of these kinds.
7. ``dynamic_launch: required``: a dynamic launch (Intel TXT, AMD SKINIT) has reset PCRs 17 to 20.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from oat_trusted_filter.backend.appraisal.boot_log import (
    BOOT_FILES_PCR,
    NAMING_BANKS,
    ReadBootLog,
    boot_file_events,
)
from oat_trusted_filter.backend.appraisal.matching import short
from oat_trusted_filter.backend.appraisal.patterns import PatternError, pattern_of
from oat_trusted_filter.backend.appraisal.records import Finding
from oat_trusted_filter.backend.appraisal.rule_records import Policy, ReferenceSet
from oat_trusted_filter.tcg.events import STUB_PCR, describe_event, event_type_name
from oat_trusted_filter.tcg.facts import BOOT_LOADER_PCR
from oat_trusted_filter.tcg.pcr import PcrValues
from oat_trusted_filter.tcg.signature_database import X509

#: PCRs a dynamic launch takes from ones to zeros before it extends some of them.
_DYNAMIC_LAUNCH_PCRS = range(17, 21)
#: Files that are named one by one; the first says how many there are.
_MOST_SHOWN = 20


def check_facts(
    read_log: ReadBootLog,
    pcrs: PcrValues,
    policy: Policy,
    references: Sequence[ReferenceSet],
    now: datetime,
) -> Iterator[Finding]:
    """What is not as the policy asks.

    :param pcrs: the quoted values.
    """
    for finding in _check(read_log, pcrs, policy, references, now):
        bank = finding.bank or next(name for name in NAMING_BANKS if name in pcrs)
        kind, quoted = finding.event_type, finding.quoted
        if kind is None and finding.event is not None:
            kind = event_type_name(read_log.log.events[finding.event].type)
        if quoted is None and finding.pcr is not None:
            quoted = pcrs[bank][finding.pcr].hex()
        yield replace(finding, bank=bank, event_type=kind, quoted=quoted)


def _check(
    read_log: ReadBootLog,
    pcrs: PcrValues,
    policy: Policy,
    references: Sequence[ReferenceSet],
    now: datetime,
) -> Iterator[Finding]:
    if policy.secure_boot == "required":
        yield from _secure_boot(read_log)  # 1
    if policy.certificates:
        yield from _certificates(read_log, policy)  # 2
    if policy.dbx_minimum:
        yield from _dbx(read_log, policy)  # 3
    if policy.kernel_command_line is not None:
        yield from _command_lines(read_log, pcrs, policy.kernel_command_line)  # 4
    if policy.images:
        yield from _images(read_log, policy, references, now)  # 5
    if policy.boot_files:
        yield from _boot_files(read_log, policy, references, now)  # 6
    if policy.dynamic_launch == "required":
        yield from _dynamic_launch(pcrs)  # 7


def _secure_boot(read_log: ReadBootLog) -> Iterator[Finding]:
    facts = read_log.facts
    if facts.secure_boot is None:
        yield Finding(
            "secure-boot-unknown", "the boot log does not say if Secure Boot is on", pcr=7
        )
    elif not facts.secure_boot.value:
        yield Finding(
            "secure-boot-off",
            f"Secure Boot is off: event {facts.secure_boot.event}",
            pcr=7,
            event=facts.secure_boot.event,
        )
    elif not facts.authorities:
        yield Finding(
            "secure-boot-authority",
            "Secure Boot is said to be on, but nothing in PCR 7 vouched for what was started",
            pcr=7,
        )
    if facts.uefi_debugger is not None:
        yield Finding(
            "uefi-debugger",
            f"a firmware debugger is enabled: event {facts.uefi_debugger.event}",
            pcr=7,
            event=facts.uefi_debugger.event,
        )


def _certificates(read_log: ReadBootLog, policy: Policy) -> Iterator[Finding]:
    for name, allowed in policy.certificates.items():
        database = read_log.facts.databases.get(name)
        if database is None:
            yield Finding("database-unknown", f"the boot log does not show {name}", pcr=7)
            continue
        for entry in database.value:
            if entry.kind == X509 and entry.fingerprint not in allowed:
                yield Finding(
                    "certificate-unknown",
                    f"PCR 7: {name} holds certificate {entry.fingerprint}, which the policy does "
                    f"not list: event {database.event}",
                    pcr=7,
                    event=database.event,
                    description=name,
                    actual=entry.fingerprint,
                    expected=tuple(sorted(allowed)),
                )


def _dbx(read_log: ReadBootLog, policy: Policy) -> Iterator[Finding]:
    database = read_log.facts.databases.get("dbx")
    if database is None:
        yield Finding("database-unknown", "the boot log does not show dbx", pcr=7)
        return
    missing = sorted(policy.dbx_minimum - {entry.fingerprint for entry in database.value})
    if missing:
        yield Finding(
            "dbx-outdated",
            f"PCR 7: {len(missing)} of {len(policy.dbx_minimum)} digests the policy wants in dbx "
            f"are not in it, {missing[0]} for one: event {database.event}",
            pcr=7,
            event=database.event,
            description="dbx",
            expected=(missing[0],),
        )


def _command_lines(read_log: ReadBootLog, pcrs: PcrValues, pattern: str) -> Iterator[Finding]:
    facts = read_log.facts
    if facts.command_line_hidden_by is not None:
        yield Finding(
            "kernel-command-line-unknown",
            f"event {facts.command_line_hidden_by} of the boot log may hide a kernel command line",
            event=facts.command_line_hidden_by,
        )
        return
    lines = facts.kernel_command_lines
    # The running system may extend PCR 12 further, so step 8 does not look at it.
    if any(line.pcr == STUB_PCR for line in lines) and not all(
        read_log.replayed[bank][STUB_PCR] == values[STUB_PCR] for bank, values in pcrs.items()
    ):
        yield Finding(
            "kernel-command-line-unknown",
            f"PCR {STUB_PCR} has another value than the boot log leads to, so the command line it "
            "shows proves nothing",
            pcr=STUB_PCR,
        )
        return
    if not lines:
        yield Finding("kernel-command-line-unknown", "the boot log has no kernel command line")
    try:
        known = pattern_of(pattern)
    except PatternError as error:
        yield Finding(
            "policy-pattern", f"the policy's pattern for kernel command lines is none: {error}"
        )
        return
    for line in lines:
        if not known.match(line.value):
            yield Finding(
                "kernel-command-line",
                f"PCR {line.pcr}: the kernel command line of event {line.event} is not as the "
                "policy asks",
                pcr=line.pcr,
                event=line.event,
                actual=line.value,
                expected=(pattern,),
            )


def _images(
    read_log: ReadBootLog, policy: Policy, references: Sequence[ReferenceSet], now: datetime
) -> Iterator[Finding]:
    kinds = ", ".join(policy.images)
    known = _known(
        reference.images
        for reference in references
        if reference.kind in policy.images and reference.valid_at(now)
    )
    if not known:
        yield Finding("no-reference", f"there is no valid reference set of kind {kinds} for images")
        return
    for application in read_log.facts.boot_applications:
        if not _is_known(application.value.digests, known):
            path = application.value.path or "an image without a path"
            measured = application.value.digests
            nearest, expected = _nearest(path, policy.images, references, now)
            hint = f"; set {nearest} knows it with {short(expected[0])}" if expected else ""
            yield Finding(
                "image-unknown",
                f"PCR {application.pcr}: event {application.event} started {path}, and no valid "
                f"reference set of kind {kinds} knows its digest{hint}",
                pcr=application.pcr,
                event=application.event,
                description=path,
                actual=next((d.hex() for bank, d in measured.items() if bank in known), None),
                expected=expected,
                reference_set=nearest,
                tried=_tried(policy.images, references, now),
            )


def _nearest(
    path: str, kinds: Sequence[str], references: Sequence[ReferenceSet], now: datetime
) -> tuple[str | None, tuple[str, ...]]:
    """The first set that knows an image of this name, and its digests there."""
    name = _file_name(path)
    for reference in references:
        if reference.kind in kinds and reference.valid_at(now):
            digests = tuple(
                event.digest
                for event in reference.events
                if event.pcr == BOOT_LOADER_PCR and _file_name(event.description) == name
            )
            if digests:
                return reference.name, digests
    return None, ()


def _file_name(path: str) -> str:
    """For people only: what follows the last separator, without regard to case."""
    return path.replace("\\", "/").rpartition("/")[2].lower()


def _tried(
    kinds: Sequence[str], references: Sequence[ReferenceSet], now: datetime
) -> tuple[str, ...]:
    return tuple(
        sorted(item.name for item in references if item.kind in kinds and item.valid_at(now))
    )


def _boot_files(
    read_log: ReadBootLog, policy: Policy, references: Sequence[ReferenceSet], now: datetime
) -> Iterator[Finding]:
    kinds = ", ".join(policy.boot_files)
    known = _known(
        reference.boot_files
        for reference in references
        if reference.kind in policy.boot_files and reference.valid_at(now)
    )
    if not known:
        yield Finding(
            "no-reference", f"there is no valid reference set of kind {kinds} for boot files"
        )
        return
    events = boot_file_events(read_log.log)
    if not events:
        yield Finding(
            "boot-files-unknown",
            "the boot log does not say which files the boot loader has loaded",
            pcr=BOOT_FILES_PCR,
        )
    unknown = [event for event in events if not _is_known(event.digests, known)]
    for event in unknown[:_MOST_SHOWN]:
        path = describe_event(event) or "a file without a name"
        yield Finding(
            "boot-file-unknown",
            f"PCR {BOOT_FILES_PCR}: event {event.number} loaded {path}, and no valid reference set "
            f"of kind {kinds} knows its digest ({len(unknown)} such files in all)",
            pcr=BOOT_FILES_PCR,
            event=event.number,
            description=path,
            actual=next((d.hex() for bank, d in event.digests.items() if bank in known), None),
            tried=_tried(policy.boot_files, references, now),
        )


def _known(sets: Iterable[Mapping[str, frozenset[bytes]]]) -> dict[str, set[bytes]]:
    """All these digests by bank."""
    known: dict[str, set[bytes]] = {}
    for of_set in sets:
        for bank, digests in of_set.items():
            known.setdefault(bank, set()).update(digests)
    return known


def _is_known(measured: Mapping[str, bytes], known: Mapping[str, set[bytes]]) -> bool:
    """Known in each bank the reference sets speak of, of which one at least is not SHA-1."""
    digests = {b: d for b, d in measured.items() if b in known}
    return bool(digests.keys() - {"sha1"}) and all(d in known[b] for b, d in digests.items())


def _dynamic_launch(pcrs: PcrValues) -> Iterator[Finding]:
    for bank, values in pcrs.items():
        never = [pcr for pcr in _DYNAMIC_LAUNCH_PCRS if not values[pcr].strip(b"\xff")]
        if never:
            numbers = ", ".join(map(str, never))
            yield Finding(
                "no-dynamic-launch",
                f"the host has made no dynamic launch since it booted: PCR {numbers} ({bank}) "
                "still hold ones",
                pcr=never[0],
                bank=bank,
            )
            return
