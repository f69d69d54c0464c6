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
"""Judging the evidence of a report again, by the rules of then."""

from typing import cast

import msgspec
from sqlalchemy import Connection

from oat_trusted_filter.backend.api.boot_logs import LazyBootLog
from oat_trusted_filter.backend.api.fields import pcr_values
from oat_trusted_filter.backend.api.kept import unpacked
from oat_trusted_filter.backend.api.problems import Problem
from oat_trusted_filter.backend.api.rules import (
    Rules,
    moment_of,
    parsed,
    parsed_override,
    parsed_state,
    parsed_tags,
)
from oat_trusted_filter.backend.appraisal import appraise
from oat_trusted_filter.backend.appraisal.boot_log import ReadBootLog
from oat_trusted_filter.backend.appraisal.override import overridden
from oat_trusted_filter.backend.appraisal.records import (
    Binding,
    Evidence,
    EvidenceRefused,
    ImaPart,
    Verdict,
)
from oat_trusted_filter.backend.appraisal.rule_records import Policy
from oat_trusted_filter.backend.store import proven_boot_logs, reports
from oat_trusted_filter.backend.store.reports import Circumstances, Report
from oat_trusted_filter.tcg.pcr import PcrValues


class Again:
    """A report with its evidence, to be judged again or compared.

    :raises Problem: ``report-without-evidence``.
    """

    def __init__(self, connection: Connection, report: Report) -> None:
        self.report = report
        self._circumstances = msgspec.json.decode(report.circumstances, type=Circumstances)
        found = reports.basis(connection, report)
        if found is None:
            raise _without_evidence(report, "no evidence had come before it")
        self.kept = unpacked(found.evidence)
        self.pcrs: PcrValues = pcr_values(msgspec.Raw(self.kept.pcrs.encode()))
        data = self.kept.boot_log
        if data is None and found.boot_log_digest is not None:
            data = proven_boot_logs.data_of(connection, found.boot_log_digest)
        self.log = None if data is None else LazyBootLog(data)
        documents = reports.rules_of(connection, report.rules)
        self._rules = None if documents is None else parsed(documents)

    @property
    def signed(self) -> bool:
        """Whether the quote is kept, so that its signature can be checked again."""
        return self.report.cause == reports.EVIDENCE and self.kept.proof is not None

    def judge(self) -> Verdict:
        """Judge by the rules of then.

        Warnings that a reference set ends soon are left out.

        :raises Problem: ``report-without-evidence``.
        """
        report = self.report
        if report.cause not in (reports.EVIDENCE, reports.RULES, reports.UPGRADE):
            raise _without_evidence(report, "it was not made by an appraisal")
        if self.log is None or self.kept.incomplete:
            raise _without_evidence(report, "its logs were too large to be kept")
        if self._rules is None:
            raise _without_evidence(report, "the rules of then are not kept")
        if not self.signed and (self.kept.boot_log or self.kept.ima_part):
            raise _without_evidence(report, "the evidence before it had been refused")
        try:
            verdict = self._judge(self._rules, self.log)
        except EvidenceRefused as error:
            verdict = Verdict("untrusted", (error.finding,))
        override = parsed_override(self._circumstances.override)
        return overridden(verdict, override, moment_of(report.at))

    def _judge(self, rules: Rules, log: LazyBootLog) -> Verdict:
        moment, then = moment_of(self.report.at), self._circumstances
        challenged_at = None if then.challenged_at is None else moment_of(then.challenged_at)
        demand = rules.policy_of(self.report.policy, then.labels)
        read_log = cast(ReadBootLog, log)
        proof = self.kept.proof
        if proof is None or not self.signed:
            return appraise.judge(
                read_log,
                self.pcrs,
                demand,
                rules.reference_sets,
                moment,
                parsed_state(then.tpm_state),
                self.kept.ima,
                challenged_at,
                parsed_tags(then.tags),
            )
        evidence = Evidence(
            self.report.region,
            self.report.host,
            proof.nonce,
            proof.quote,
            proof.signature,
            self.pcrs,
            log.data,
            self._ima_part(demand),
            challenged_at,
            self.kept.tags,
        )
        binding = Binding(
            self.report.region,
            self.report.host,
            proof.ak_public,
            tuple(proof.banks.split(",")),
            proof.software_tpm,
        )
        return appraise.appraise(
            evidence,
            binding,
            demand,
            rules.reference_sets,
            parsed_state(proof.previous),
            moment,
            read_log,
            self.kept.ima,
            tags=parsed_tags(then.tags).tags,
        )

    def _ima_part(self, demand: Policy) -> ImaPart | None:
        kept = self.kept
        if kept.ima_part is not None or kept.ima is None or demand.ima.mode == "off":
            return kept.ima_part
        # The part was taken in; nothing of it is left to read.
        return ImaPart(kept.ima.offset, b"", not kept.ima.complete)


def _without_evidence(report: Report, why: str) -> Problem:
    return Problem(
        "report-without-evidence", f"report {report.id} cannot be appraised again: {why}"
    )
