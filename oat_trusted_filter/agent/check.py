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
"""``oat-agent --check``: is everything on this host usable, and if not, what to do."""

import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from email.utils import parsedate_to_datetime

from oat_trusted_filter.agent.attestation_key import attestation_key
from oat_trusted_filter.agent.endorsement import EndorsementKey, endorsement_key
from oat_trusted_filter.agent.enrolment import open_tpm
from oat_trusted_filter.agent.errors import AgentError, BootLogError
from oat_trusted_filter.agent.evidence import SignedPcrs, read_boot_log, sign_pcrs
from oat_trusted_filter.agent.ima_log import read_entries, read_ima_log
from oat_trusted_filter.agent.settings import Settings
from oat_trusted_filter.agent.tpm import Tpm
from oat_trusted_filter.client.http import AttestationClient, BackendUnreachable, ClientError
from oat_trusted_filter.cmd.check import Line, show_lines
from oat_trusted_filter.tcg.bootlog import parse_boot_log, replay
from oat_trusted_filter.tcg.errors import FormatError
from oat_trusted_filter.tcg.ima import IMA_PCR, ImaReplay

#: Verdicts do not depend on this host's clock, but TLS certificates and the reading of logs do.
CLOCK_TOLERANCE_SECONDS = 30.0

# PCRs only firmware and boot loader extend, so the boot log has to explain them.
_BOOT_PCRS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 14)


def run_checks(settings: Settings, client: AttestationClient, show: Callable[[str], None]) -> bool:
    """Look at everything and show a line for each.

    Nothing is changed, neither on this host nor at the backend.

    :returns: whether all of it is usable.
    """
    return show_lines(_lines(settings, client), show)


def _lines(settings: Settings, client: AttestationClient) -> Iterator[Line]:
    region = f" in region {settings.region}" if settings.region else ""
    yield Line(True, "host", f"{settings.host}{region}")
    found = _Found()
    yield from _tpm_lines(settings, found)
    yield _boot_log_line(settings, found)
    yield _ima_log_line(settings, found)
    yield from _backend_lines(settings, client)


class _Found:
    """What one check learns for another."""

    signed: SignedPcrs | None = None


def _tpm_lines(settings: Settings, found: _Found) -> Iterator[Line]:
    subject = "TPM"
    try:
        with open_tpm(settings) as tpm:
            properties = tpm.properties()
            yield Line(
                True,
                subject,
                f"{settings.tcti}, made by {properties.manufacturer} ({properties.model}), "
                f"firmware {properties.firmware}",
            )
            subject = "endorsement key"
            with endorsement_key(tpm, settings.ek_template, settings.ek_certificate) as key:
                yield _endorsement_line(key)
            subject = "quote"
            yield _quote_line(settings, tpm, found)
    except AgentError as error:
        yield Line(False, subject, str(error))


def _endorsement_line(key: EndorsementKey) -> Line:
    if key.certificate is None:
        return Line(
            True,
            "endorsement key",
            f"{key.kind}, without certificate",
            "an operator has to vouch for it at approval",
        )
    chain = f" and {len(key.intermediates)} of its authority" if key.intermediates else ""
    return Line(True, "endorsement key", f"{key.kind}, with certificate{chain}")


def _quote_line(settings: Settings, tpm: Tpm, found: _Found) -> Line:
    with attestation_key(tpm, settings.ak_algorithm) as key:
        found.signed = sign_pcrs(tpm, key, range(24), secrets.token_bytes(32))
    allocated = ", ".join(found.signed.pcrs)
    if not {"sha256", "sha384", "sha512"} & set(found.signed.pcrs):
        return Line(
            False,
            "quote",
            f"only the PCR banks {allocated or 'none'} are allocated",
            "allocate sha256 in the firmware settings, or with tpm2_pcrallocate, and reboot",
        )
    return Line(True, "quote", f"{settings.ak_algorithm} key signs PCR banks {allocated}")


def _boot_log_line(settings: Settings, found: _Found) -> Line:
    try:
        data = read_boot_log(settings.boot_log).data
        log = parse_boot_log(data)
        text = f"{settings.boot_log}, {len(data)} bytes, {len(log.events)} events"
        if found.signed is None:
            return Line(True, "boot log", text, "not compared with the TPM")
        differing: list[str] = []
        for bank, values in found.signed.pcrs.items():
            if bank not in log.banks:
                differing.append(f"all of {bank}")
                continue
            differing += _differing(bank, values, replay(log, bank))
    except BootLogError as error:
        return Line(False, "boot log", str(error))
    except FormatError as error:
        return Line(False, "boot log", f"{settings.boot_log} is malformed: {error}")
    if differing:
        return Line(
            False,
            "boot log",
            f"{text}, does not lead to these PCRs of the TPM: {', '.join(differing)}",
            "is it the log of this boot, and has every allocated bank been extended?",
        )
    return Line(True, "boot log", f"{text}, leads to the PCRs of the TPM")


def _differing(bank: str, values: Mapping[int, bytes], replayed: Mapping[int, bytes]) -> list[str]:
    return [f"{bank}:{pcr}" for pcr in _BOOT_PCRS if pcr in values and values[pcr] != replayed[pcr]]


def _ima_log_line(settings: Settings, found: _Found) -> Line:
    path = settings.ima_log
    if read_ima_log(path, 0, 1) is None:
        return Line(
            True,
            "IMA log",
            f"{path} does not exist or cannot be read",
            "only policies that ask for it need it",
        )
    signed = {} if found.signed is None else found.signed.pcrs
    quoted = {bank: values[IMA_PCR] for bank, values in signed.items()}
    zeros = {bank: bytes(len(value)) for bank, value in quoted.items()}
    # Kernels differ in what they extend the banks other than SHA-1 with.
    replay = ImaReplay(zeros, alternatives={b: v for b, v in zeros.items() if b != "sha1"})
    leads, count = replay.padded_at(quoted) is not None, 0
    try:
        for entry in read_entries(path):
            if entry.pcr == IMA_PCR:
                replay.extend(entry, count)
                # The kernel goes on measuring after the quote.
                leads = leads or replay.padded_at(quoted) is not None
            count += 1
    except FormatError as error:
        return Line(False, "IMA log", f"{path} is malformed: {error}")
    text = f"{path}, {count} entries"
    if not quoted:
        return Line(True, "IMA log", text, "not compared with the TPM")
    if not leads:
        return Line(
            False,
            "IMA log",
            f"{text}, does not lead to PCR {IMA_PCR} of the TPM",
            "is it the log of this boot?",
        )
    return Line(True, "IMA log", f"{text}, leads to PCR {IMA_PCR} of the TPM")


def _backend_lines(settings: Settings, client: AttestationClient) -> Iterator[Line]:
    sent = time.time()
    try:
        _, headers, _ = client.request("GET", "/")
    except BackendUnreachable as error:
        advice = "check [agent] endpoint and ca_file, the backend's service and the firewall"
        yield Line(False, "backend", f"{settings.endpoint}: {error}", advice)
        yield Line(False, "clock", "not compared, the backend does not answer")
        return
    except (ClientError, AgentError) as error:
        yield Line(False, "backend", f"{settings.endpoint} is no attestation backend: {error}")
        yield Line(False, "clock", "not compared, the backend does not answer")
        return
    received = time.time()
    if settings.endpoint.startswith("https:"):
        yield Line(True, "backend", f"{settings.endpoint} answers, its certificate holds good")
    else:
        yield Line(
            True, "backend", f"{settings.endpoint} answers", "without TLS nobody vouches for it"
        )
    yield _clock_line(headers, sent, received)


def _clock_line(headers: Mapping[str, str], sent: float, received: float) -> Line:
    date = next((value for name, value in headers.items() if name.lower() == "date"), None)
    try:
        theirs = parsedate_to_datetime(date or "").timestamp()
    except (ValueError, TypeError):
        return Line(True, "clock", "not compared, the backend's answer carries no date")
    # The header counts whole seconds and was written some time between the two readings.
    ahead = max(sent - (theirs + 1.0), 0.0) or min(received - theirs, 0.0)
    if abs(ahead) > CLOCK_TOLERANCE_SECONDS:
        word = "ahead of" if ahead > 0 else "behind"
        return Line(
            False,
            "clock",
            f"{abs(ahead):.0f} s {word} the backend's",
            "keep both in step with NTP (chrony, systemd-timesyncd)",
        )
    return Line(True, "clock", "in step with the backend's")
