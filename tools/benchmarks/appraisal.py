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
"""The appraisal: quote checks beside bare signature checks, boot logs, IMA lists."""

import itertools
import time
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from oat_trusted_filter.backend.appraisal.appraise import appraise
from oat_trusted_filter.backend.appraisal.boot_log import read_boot_log
from oat_trusted_filter.backend.appraisal.policy import DEFAULT_POLICY
from oat_trusted_filter.tcg.attestation import parse_quote
from oat_trusted_filter.tcg.ima import ImaReplay, parse_ima_log
from oat_trusted_filter.tcg.pcr import pcr_digest
from oat_trusted_filter.tcg.public import parse_public, verify_signature
from oat_trusted_filter.tcg.signature import parse_signature
from tests.lab.boots import Boot
from tests.lab.quotes import SigningKey
from tests.unit.appraisal.hosts import NOW, Host, reference_of
from tests.unit.tcg.logs import encode, measured, recorded
from tools.benchmarks.timing import Figure, microseconds

_LOG_BYTES = 40_000
_IMA_ENTRIES = 2_000


def run() -> list[Figure]:
    """Measure."""
    return [*_quotes(), *_boot_logs(), *_ima()]


def _quotes() -> list[Figure]:
    """The whole check of a quote, as the appraisal does it, and the bare check in it."""
    calls: dict[str, Any] = {}
    for name, key in (("rsa2048", SigningKey.rsa()), ("p256", SigningKey.ecc())):
        host = Host(key=key)
        evidence, public = host.evidence(), parse_public(host.binding.ak_public)
        calls[f"{name} whole"] = lambda e=evidence, p=public, b=key.bank: _check(e, p, b)
        calls[f"{name} bare"] = _bare(public.key, evidence)
    taken = microseconds(calls, time.process_time)
    return [
        Figure(
            f"quote_{name}_ratio",
            taken[f"{name} whole"] / taken[f"{name} bare"],
            budget,
            f"{taken[f'{name} whole']:.0f} us whole, {taken[f'{name} bare']:.0f} us bare check",
        )
        for name, budget in (("rsa2048", 2.0), ("p256", 1.4))
    ]


def _check(evidence: Any, public: Any, bank: str) -> None:
    quote = parse_quote(evidence.quote)
    verify_signature(public, quote.raw, parse_signature(evidence.signature))
    if pcr_digest(quote.selections, evidence.pcrs, bank) != quote.pcr_digest:
        raise AssertionError


def _bare(key: Any, evidence: Any) -> Any:
    """The signature check alone, with everything prepared."""
    signature = parse_signature(evidence.signature)
    message = evidence.quote
    if isinstance(key, ec.EllipticCurvePublicKey):
        der = encode_dss_signature(signature.r, signature.s)
        how = ec.ECDSA(hashes.SHA256())
        return lambda: key.verify(der, message, how)
    pkcs1, sha256 = padding.PKCS1v15(), hashes.SHA256()
    return lambda: key.verify(signature.rsa, message, pkcs1, sha256)


def _boot_logs() -> list[Figure]:
    host = Host()
    events = recorded()
    # Firmware with option ROMs and a large dbx writes more than the recorded one.
    filler = itertools.cycle(measured(1, 0x80000002, bytes(500)) for _ in range(8))
    while len(encode(events)) < _LOG_BYTES:
        events.append(next(filler))
    host.log_is(encode(events))
    evidence, binding = host.evidence(), host.binding
    references = [reference_of("machine-a", "machine-b")]
    read_log = read_boot_log(host.boot_log)

    def first() -> object:
        return appraise(evidence, binding, DEFAULT_POLICY, references, None, NOW)

    def unchanged() -> object:
        return appraise(evidence, binding, DEFAULT_POLICY, references, None, NOW, read_log)

    if first().level != "trusted":  # type: ignore[attr-defined]
        raise AssertionError("the evidence that is measured is not in order")
    taken = microseconds({"first": first, "unchanged": unchanged}, time.process_time)
    size = f"boot log of {len(host.boot_log)} bytes, {len(events)} events; whole appraisal"
    return [
        Figure("boot_log_first_us", taken["first"], 1000, size),
        Figure("boot_log_unchanged_us", taken["unchanged"], 100, "the same evidence, log known"),
    ]


def _ima() -> list[Figure]:
    log = Boot("machine-a").ima_log
    count = sum(1 for _ in parse_ima_log(log))
    many = log * (_IMA_ENTRIES // count)

    def replay() -> None:
        replay = ImaReplay({"sha1": bytes(20), "sha256": bytes(32)})
        for number, entry in enumerate(parse_ima_log(many)):
            replay.extend(entry, number)

    taken = microseconds({"ima": replay}, time.process_time)["ima"]
    taken /= len(many) // len(log) * count
    return [Figure("ima_entry_us", taken, 4.0, "parse, check and extend SHA-1 and SHA-256")]
