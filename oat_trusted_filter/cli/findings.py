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
"""Findings of an appraisal as sentences, with what an operator can do about each."""

from collections.abc import Iterable, Mapping
from typing import Any

from oat_trusted_filter.cli.text import numbered, plain, printable

#: What to do about a finding, by its code. ``{host}`` becomes the name of the host. A code that is
#: not here stands with the backend's own sentence alone.
ADVICE: Mapping[str, str] = {
    "boot-file-unknown": "If the file is a good one, say so: oat reference create NAME --kind KIND "
    "--from-file FILE. If not, find out who changed {host}, and boot it clean.",
    "boot-files-unknown": "The boot loader of {host} measures no files: use GRUB 2.04 or later, or "
    "take boot_files out of the policy.",
    "boot-log-mismatch": "The log on {host} does not tell how its TPM came to be as it is: look "
    "for whoever writes to PCRs there, or for firmware that does not log all it measures.",
    "certificate-unknown": "If the certificate belongs there, list it in the policy; if not, take "
    "it out of the firmware of {host}.",
    "dbx-outdated": "Update dbx on {host} (fwupdmgr update) and reboot it.",
    "image-unknown": "If the image is a good one, say so: oat reference create NAME --kind KIND "
    "--from-host {host}. If not, find out who changed {host}, and boot it clean.",
    "ima-log-incomplete": "Wait for the next rounds. If it stays so, look at the log of oat-agent "
    "on {host}.",
    "ima-log-mismatch": "Somebody changed the log on {host}, or put something into PCR 10 beside "
    "it: find out who, and boot it clean.",
    "ima-log-missing": "Boot {host} with ima_policy=tcb, and see that oat-agent --check there can "
    "read the IMA log.",
    "ima-unknown-file": "If {host} may use these files, say so: oat reference create NAME --kind "
    "ima --from-host {host}. If not, find out who put them there, and boot it clean.",
    "ima-violation": "If such files may change while they are used, exclude them in the policy.",
    "kernel-command-line": "Change it in the boot loader's configuration on {host} and reboot, or "
    "change the policy: oat policy show, oat policy set.",
    "no-dynamic-launch": "Turn Intel TXT or AMD SKINIT on in the firmware of {host}, and boot it "
    "through tboot or TrenchBoot.",
    "no-reference": "Say which boots are good: oat reference create NAME --from-host {host}",
    "not-attested": "Look at the log of oat-agent on {host}; there, oat-agent --check says what "
    "it can use.",
    "pcr-mismatch": "If this boot is a good one, say so: oat reference create NAME --from-host "
    "{host}. If not, find out who changed {host}, and boot it clean.",
    "override": "To let what is found count again: oat host override {host} --clear",
    "policy-pattern": "Change the pattern: oat policy show, oat policy set.",
    "power-cut": "If nobody pulled the plug, look for who else could. A reboot in good order, or "
    "an hour, makes the clock safe again.",
    "reference-expiring": "Take new values in time, or give the set more: oat reference set NAME "
    "--valid-until MOMENT",
    "reference-incomplete": "Take the set anew from a host that has the same PCR banks as {host}: "
    "oat reference create NAME --from-host {host}",
    "secure-boot-off": "Turn Secure Boot on in the firmware of {host} and reboot it, or set "
    "secure_boot: optional in the policy.",
    "tpm-firmware-changed": "If the TPM of {host} was updated, list the version in the policy "
    "(tpm_firmware).",
    "tpm-firmware-unknown": "Update the TPM of {host}, or list its version in the policy "
    "(tpm_firmware).",
    "uefi-debugger": "Turn it off in the firmware of {host} and reboot it.",
    "verdict-lapsed": "Is {host} up, and does it reach the backend? Look at the log of oat-agent "
    "there.",
    "verifier-error": "This is a defect of the backend; the log of oat-attestation-api says more.",
}


def sentence(finding: Mapping[str, Any]) -> str:
    """What the backend found, in one line."""
    text = printable(str(finding.get("message") or finding.get("code") or "no reason given"))
    return f"warning: {text}" if finding.get("severity") == "warning" else text


def summary(findings: Any) -> str:
    """The first finding, and how many more there are."""
    known = _records(findings)
    if not known:
        return ""
    more = len(known) - 1
    return sentence(known[0]) + (f" (and {more} more)" if more else "")


def report(findings: Any, host: str) -> str:
    """All findings, each with what to do about it; the same advice only once."""
    given: set[str] = set()
    lines = []
    for finding in _records(findings):
        advice = ADVICE.get(str(finding.get("code")), "").format(host=host)
        lines.append((sentence(finding), "" if advice in given else advice))
        given.add(advice)
    return numbered(lines)


def events(found: Iterable[Any]) -> list[str]:
    """Boot log events as one line each."""
    return [
        " ".join(
            plain(event[key])
            for key in ("number", "type", "description", "digest")
            if event.get(key) not in (None, "")
        )
        if isinstance(event, Mapping)
        else plain(event)
        for event in found
    ]


def _records(findings: Any) -> list[Mapping[str, Any]]:
    if not isinstance(findings, list):
        return []
    return [finding for finding in findings if isinstance(finding, Mapping)]
