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
"""A host of the appraisal tests: a recorded boot, an attestation key, evidence of it."""

import datetime
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from oat_trusted_filter.backend.appraisal.boot_log import read_boot_log
from oat_trusted_filter.backend.appraisal.derivation import GoodBoot, derive_reference
from oat_trusted_filter.backend.appraisal.records import QUOTED_PCRS, Binding, Evidence
from oat_trusted_filter.backend.appraisal.rule_records import ReferenceSet
from oat_trusted_filter.tcg.bootlog import parse_boot_log, replay
from tests.lab.boots import Boot
from tests.lab.quotes import SigningKey, quote, select

NOW = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)
NONCE = bytes(range(32))
IMPLEMENTED = ("sha1", "sha256", "sha384", "sha512")
ALLOCATED = ("sha1", "sha256", "sha384")
PLATFORM_PCRS = (0, 2, 4, 7)


def good_boot(name: str) -> GoodBoot:
    """A recording as the source of reference values."""
    boot = Boot(name)
    return GoodBoot(name, read_boot_log(boot.boot_log).log, boot.pcrs)


def reference_of(
    *names: str, kind: str = "platform", pcrs=PLATFORM_PCRS, **fields: Any
) -> ReferenceSet:
    """A reference set taken from recordings."""
    boots = [good_boot(name) for name in names]
    reference, _ = derive_reference("-".join(names), kind, pcrs, boots)
    return replace(reference, **fields)


class Host:
    """The host; what it sends can be changed part by part."""

    def __init__(self, boot: str = "machine-a", key: SigningKey | None = None) -> None:
        recorded = Boot(boot)
        self.key = key or SigningKey.ecc()
        self.boot_log = recorded.boot_log
        self.values: dict[str, dict[int, bytes]] = {
            bank: {pcr: recorded.pcrs[bank][pcr] for pcr in QUOTED_PCRS} for bank in ALLOCATED
        }

    @property
    def binding(self) -> Binding:
        """As it was enrolled."""
        return Binding("", "host", self.key.public, IMPLEMENTED, False)

    def log_is(self, data: bytes) -> None:
        """Take this log, and the PCRs it leads to where a boot log does."""
        self.boot_log = data
        log = parse_boot_log(data)
        for bank in log.banks:
            values = replay(log, bank)
            for pcr in (*range(10), 14):
                self.values[bank][pcr] = values[pcr]

    def evidence(
        self,
        *,
        nonce: bytes = NONCE,
        selections=None,
        pcrs: Mapping[str, Mapping[int, bytes]] | None = None,
        key: SigningKey | None = None,
        **fields: int,
    ) -> Evidence:
        """Evidence; a parameter replaces what a good host would send.

        :param selections: what the TPM is told to quote.
        :param pcrs: the values sent beside the quote.
        :param fields: of the attestation structure.
        """
        if selections is None:
            selections = select(IMPLEMENTED, tuple(self.values), QUOTED_PCRS)
        signed = quote(key or self.key, nonce, self.values, selections, **fields)
        return Evidence("", "host", NONCE, *signed, pcrs or self.values, self.boot_log)
