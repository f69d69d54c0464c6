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
"""``/v1/evidence``: from a quote to a verdict.

 1. The request fits its schema; the challenge is ours, for this host, and fresh.
 2. What is known of the host, and the rules, are read without a lock.
 3. The appraisal judges. What does not prove to come from the host changes nothing.
 4. One short transaction uses up the challenge and stores the verdict, on the condition that
    nothing which was read in step 2 has changed. Otherwise steps 2 to 4 are done again.

A verdict lives from the moment its challenge was issued, so nobody gains by sending late.
"""

import datetime
import hmac
import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

import falcon
import msgspec
from oslo_log import log as logging
from sqlalchemy import Connection

from oat_trusted_filter.backend.api import ima, kept
from oat_trusted_filter.backend.api.boot_logs import LazyBootLog
from oat_trusted_filter.backend.api.exchange import LARGE_BODY, answer, read_body
from oat_trusted_filter.backend.api.fields import moment, printable
from oat_trusted_filter.backend.api.problems import STATUS, Problem
from oat_trusted_filter.backend.api.rules import (
    Rules,
    concluded,
    findings_json,
    first_code,
    milliseconds,
    moment_of,
    parsed_state,
    tags_json,
)
from oat_trusted_filter.backend.api.service import Service
from oat_trusted_filter.backend.api.submission import Submission, read_submission
from oat_trusted_filter.backend.appraisal import appraise
from oat_trusted_filter.backend.appraisal.allow_list import AllowList
from oat_trusted_filter.backend.appraisal.boot_log import ReadBootLog
from oat_trusted_filter.backend.appraisal.records import (
    Binding,
    Evidence,
    EvidenceRefused,
    HostTags,
    ImaOffsetNeeded,
    ImaState,
    PreviousState,
    Verdict,
)
from oat_trusted_filter.backend.appraisal.rule_records import Policy
from oat_trusted_filter.backend.appraisal.tags import missing
from oat_trusted_filter.backend.store import hosts, renewing, reports
from oat_trusted_filter.backend.store import ima as ima_store
from oat_trusted_filter.backend.store.errors import Overtaken
from oat_trusted_filter.backend.store.ima import ImaChange
from oat_trusted_filter.backend.store.renewing import Outcome, Spent, Subject
from oat_trusted_filter.tcg.attestation import parse_quote
from oat_trusted_filter.tcg.errors import FormatError, SignatureError
from oat_trusted_filter.tcg.public import parse_public, verify_signature
from oat_trusted_filter.tcg.signature import parse_signature

LOG = logging.getLogger(__name__)

_ATTEMPTS = 5
#: Seconds until the next round of a host that has more of its IMA log to send.
_NEXT_PART_SECONDS = 1.0
#: Stored verdicts of a worker between two purges of spent challenges.
_PURGE_EVERY = 128
#: So that a single lost round costs a host nothing that has to prove itself more often.
_ROUNDS_IN_MAX_AGE = 3
_stored = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Round:
    """What comes of a submission."""

    outcome: Outcome
    ima_offset: int | None
    """Where the next part of the IMA log has to begin; None: it is not wanted."""
    interval: float
    """Seconds until the next one."""
    tag_contents: bytes | None
    """What the NV index for tags has to hold and does not; None: nothing to do."""


def submit(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """Judge evidence and answer with the verdict."""
    submission = read_submission(service, read_body(req, LARGE_BODY))  # 1
    for _ in range(_ATTEMPTS):
        try:
            done = _judge_and_store(service, submission)  # 2, 3, 4
            break
        except Overtaken:
            continue
    else:
        raise Problem("service-busy", "too much happens to this host at this moment; try again")
    if next(_stored) % _PURGE_EVERY == 0:
        service.store.write(lambda connection: renewing.purge_spent(connection, service.clock()))
    outcome = done.outcome
    answer(
        resp,
        {
            "level": outcome.level,
            "findings": msgspec.Raw(outcome.findings.encode()),
            "appraised_at": moment(outcome.appraised_at),
            "expires_at": moment(outcome.deadline),
            "interval": done.interval,
            "ima_offset": done.ima_offset,
            "tag_contents": None if done.tag_contents is None else done.tag_contents.hex(),
        },
    )


def _judge_and_store(service: Service, submission: Submission) -> Round:
    evidence = submission.evidence
    name = hosts.approved_name(evidence.region, evidence.host)
    now = service.clock()
    with service.store.read() as connection:  # 2
        subject = renewing.subject(connection, name)
        if subject is None:
            raise _not_approved(connection, evidence)
        if subject.software_tpm and not service.settings.allow_software_tpm:
            raise Problem("ek-software-tpm", "software TPMs are not allowed any more")
        rules = service.rules.current(connection, subject.rules)
        log = _boot_log(service, connection, submission)
        demand = rules.policy_of(subject.policy, subject.labels)
        allowed = rules.allow_list(demand, moment_of(now))
        stored = known = None
        if allowed is not None:
            stored = ima_store.load(connection, subject.host_id)
            known = ima.state_by(connection, subject.host_id, stored, allowed)
    tags = service.tags.reader.tags_of(subject, now)
    refused: EvidenceRefused | None = None
    verdict: Verdict | None = None
    try:
        verdict = _appraise(
            submission, subject, rules, demand, log, now, known, allowed, tags
        )  # 3
        outcome = _outcome(service, submission, subject, rules, verdict, now)
        change = None if verdict.ima is None else ima.change_by(verdict.ima, stored)
    except ImaOffsetNeeded as error:
        raise Problem(error.code, str(error), extra={"ima_offset": error.offset}) from error
    except EvidenceRefused as error:
        if not error.authentic:
            raise _unproven(service, evidence, error) from error
        refused = error
        outcome = _refused_outcome(service, submission, subject, rules, error, now)
        # Next time from the start: whatever went wrong with the log heals by itself.
        change = ima.FORGET if error.code.startswith("ima-") else None

    def keep() -> bytes:
        return kept.packed(submission, subject, known, verdict, log.data)

    _store(service, submission, subject, outcome, change, keep)  # 4
    if outcome.boot_log_digest is not None:
        service.boot_logs.keep(submission.boot_log_digest, log)
    if outcome.level != subject.level:
        LOG.info(
            "host %s%s: %s -> %s %s", evidence.host,
            f" in region {evidence.region}" if evidence.region else "",
            subject.level, outcome.level, outcome.reason,
        )  # fmt: skip
    if verdict is None:
        assert refused is not None  # noqa: S101  one or the other
        raise Problem(
            refused.code, str(refused), status=422, extra={"level": outcome.level}
        ) from refused  # fmt: skip
    reached = None if verdict.ima is None else verdict.ima.state
    offset = 0 if reached is None else reached.offset
    interval = _interval(service, demand, reached)
    return Round(
        outcome, None if allowed is None else offset, interval, missing(demand.tags, verdict.tags)
    )


def _interval(service: Service, demand: Policy, reached: ImaState | None) -> float:
    """Seconds until the next round."""
    interval = service.settings.interval
    if demand.max_age is not None:
        interval = min(interval, demand.max_age / _ROUNDS_IN_MAX_AGE)
    if reached is not None and not reached.complete:
        interval = min(interval, _NEXT_PART_SECONDS)
    return interval


def _boot_log(service: Service, connection: Connection, submission: Submission) -> LazyBootLog:
    known = service.boot_logs.find(connection, submission.boot_log_digest)
    if known is not None:
        return known
    if submission.boot_log is None:
        raise Problem("boot-log-needed", "this boot log is not known here; send it along")
    return LazyBootLog(submission.boot_log)


def _appraise(
    submission: Submission,
    subject: Subject,
    rules: Rules,
    demand: Policy,
    log: LazyBootLog,
    now: int,
    known: ImaState | None,
    allowed: AllowList | None,
    tags: HostTags | None,
) -> Verdict:
    """Step 3.

    :raises EvidenceRefused: as :func:`appraise`.
    :raises Problem: ``verifier-error``, the verifier failed before it knew who had sent this.
    """
    challenged_at = moment_of(submission.challenge.issued_at)
    evidence = replace(submission.evidence, boot_log=log.data, challenged_at=challenged_at)
    verdict = appraise.appraise_safely(
        evidence,
        Binding(
            evidence.region,
            evidence.host,
            subject.ak_public,
            tuple(subject.banks.split(",")),
            bool(subject.software_tpm),
        ),
        demand,
        rules.reference_sets,
        parsed_state(subject.tpm_state),
        moment_of(now),
        cast(ReadBootLog, log),
        known,
        allowed,
        tags,
    )
    # A stranger who finds a fault of the verifier must not cost the host its trust with it.
    if verdict.state is None and not _speaks(subject.ak_public, evidence):
        raise Problem("verifier-error", verdict.findings[0].message)
    return verdict


def _outcome(
    service: Service,
    submission: Submission,
    subject: Subject,
    rules: Rules,
    verdict: Verdict,
    now: int,
) -> Outcome:
    lead = datetime.timedelta(seconds=service.settings.expiry_warning)
    verdict = concluded(verdict, rules, subject.override, moment_of(now), lead)
    deadline = _latest(service, submission)
    if verdict.valid_until is not None:
        deadline = min(deadline, milliseconds(verdict.valid_until))
    # Without the state the appraisal did not get to its end and the evidence proves nothing.
    proven = verdict.state is not None
    known = None if verdict.ima is None else verdict.ima.state
    ima_bytes = 0 if known is None else known.offset
    return Outcome(
        level=verdict.level,
        reason=first_code(verdict.findings),
        findings=findings_json(verdict.findings),
        reference_sets=msgspec.json.encode(verdict.references).decode(),
        appraised_at=now,
        deadline=deadline,
        tpm_state=_tpm_state(verdict.state) or subject.tpm_state,
        evidence=submission.digest(ima_bytes) if proven else None,
        pcrs=submission.pcrs_json if proven else None,
        boot_log_digest=submission.boot_log_digest if proven else None,
        challenged_at=submission.challenge.issued_at,
        tags=tags_json(verdict.tags),
    )


def _refused_outcome(
    service: Service,
    submission: Submission,
    subject: Subject,
    rules: Rules,
    error: EvidenceRefused,
    now: int,
) -> Outcome:
    """The host itself has said something that does not fit together."""
    verdict = Verdict("untrusted", (error.finding,))
    outcome = _outcome(service, submission, subject, rules, verdict, now)
    return replace(outcome, tpm_state=_tpm_state(error.state) or subject.tpm_state)


def _store(
    service: Service,
    submission: Submission,
    subject: Subject,
    outcome: Outcome,
    change: ImaChange | None,
    keep: Callable[[], bytes],
) -> None:
    """Step 4."""
    challenge = submission.challenge
    spent = Spent(challenge.digest, service.challenges.expires_at(challenge))
    log = submission.boot_log if outcome.boot_log_digest is not None else None
    reported = service.store.write(
        lambda connection: renewing.renew(connection, subject, outcome, spent, log, change, keep)
    )
    if reported:
        # Here and not every hour only: what a host makes the service keep has an end.
        most = service.settings.history_reports
        service.store.write(
            lambda connection: reports.keep_most(connection, subject.host_id, most)
        )  # fmt: skip


def _latest(service: Service, submission: Submission) -> int:
    return submission.challenge.issued_at + int(service.settings.verdict_lifetime * 1000)


def _not_approved(connection: Connection, evidence: Evidence) -> Problem:
    """Whoever waits for approval is told so; everybody else has to enrol.

    Only the holder of a waiting key is known to wait: otherwise a stranger who enrols first under
    a name would keep its real host from enrolling.
    """
    for candidate in hosts.waiting(connection, evidence.region, evidence.host):
        if candidate.ak_public is not None and _speaks(candidate.ak_public, evidence):
            return Problem("host-pending", "the host waits for the approval of an operator")
    return Problem("host-unknown", "no such host is approved; enrol")


def _unproven(service: Service, evidence: Evidence, error: EvidenceRefused) -> Problem:
    """The answer to evidence that is not, or not any more, the word of the approved host."""
    LOG.info(
        "evidence in the name of host %s refused: %s (%s)", evidence.host, printable(error),
        error.code,
    )  # fmt: skip
    if error.code == "signature-invalid":
        with service.store.read() as connection:
            problem = _not_approved(connection, evidence)
        if problem.code == "host-pending":
            return problem
    return Problem(error.code, str(error), status=STATUS.get(error.code, 400))


def _speaks(ak_public: bytes, evidence: Evidence) -> bool:
    """Whether the holder of this attestation key has quoted this challenge."""
    try:
        quote = parse_quote(evidence.quote)
        if not hmac.compare_digest(quote.extra_data, evidence.challenge_nonce):
            return False
        verify_signature(
            parse_public(ak_public), evidence.quote, parse_signature(evidence.signature)
        )  # fmt: skip
    except (FormatError, SignatureError):
        return False
    return True


def _tpm_state(state: PreviousState | None) -> str | None:
    return None if state is None else msgspec.json.encode(state).decode()
