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
"""Policies and reference sets as records, and what follows when they change.

A change takes effect at once: in the transaction that stores it, every verdict that still runs is
made anew from the evidence it rests on. Judging takes long, so it is done before, without a lock;
the transaction then judges again only what has moved in between. Appraisals under way notice by
the serial of their host and start over. A deadline is never put off.
"""

import datetime
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, cast

import msgspec
from oslo_log import log as logging
from sqlalchemy import Connection

from oat_trusted_filter.backend.api.boot_logs import BootLogs
from oat_trusted_filter.backend.api.fields import pcr_values
from oat_trusted_filter.backend.api.ima import state_by
from oat_trusted_filter.backend.api.kept import packed_again
from oat_trusted_filter.backend.api.problems import Problem
from oat_trusted_filter.backend.api.rules import (
    Rules,
    RulesBook,
    concluded,
    findings_json,
    first_code,
    milliseconds,
    moment_of,
    parsed,
    parsed_state,
    parsed_tags,
    tags_json,
)
from oat_trusted_filter.backend.api.tag_records import TagBook
from oat_trusted_filter.backend.appraisal import appraise
from oat_trusted_filter.backend.appraisal.boot_log import ReadBootLog
from oat_trusted_filter.backend.appraisal.override import OVERRIDE
from oat_trusted_filter.backend.appraisal.records import (
    Finding,
    ImaState,
    TagEvidence,
    Verdict,
)
from oat_trusted_filter.backend.store import changes, hosts, ima, revising, rules, verdicts
from oat_trusted_filter.backend.store.engine import Store
from oat_trusted_filter.backend.store.errors import Overtaken
from oat_trusted_filter.backend.store.revising import Appraisable, Revision

LOG = logging.getLogger(__name__)

_ATTEMPTS = 5


class RuleChanger:
    """Changes rules and makes the verdicts anew.

    :param lead: how long before its end a reference set is warned of.
    """

    def __init__(
        self,
        store: Store,
        boot_logs: BootLogs,
        book: RulesBook,
        tags: TagBook,
        lead: datetime.timedelta,
    ) -> None:
        self._lead = lead
        self._store = store
        self._boot_logs = boot_logs
        self._book = book
        self._tags = tags

    def change(
        self,
        edit: Callable[[Rules], Rules],
        write: Callable[[Connection, int], None],
        now: int,
    ) -> None:
        """Store a change of rules and what follows from it.

        :param edit: the rules as they will be, from the rules as they are; may raise to refuse.
        :param write: stores the change under its generation, in a transaction; may raise to refuse.
        :param now: milliseconds since 1970.
        :raises Problem: ``service-busy``, ``policy-ambiguous``, ``policy-unknown``.
        """
        self._until_not_overtaken(lambda: self._attempt(edit, write, now))

    def change_host(
        self, host: hosts.Host, write: Callable[[Connection, Rules], None], now: int
    ) -> None:
        """Store what one host is judged by, and judge it anew.

        :param write: stores the change, in a transaction; may raise to refuse.
        :param now: milliseconds since 1970.
        :raises Problem: ``service-busy``, ``policy-ambiguous``, ``policy-unknown``.
        """
        self._until_not_overtaken(lambda: self._attempt_host(host, write, now))

    def preview(
        self,
        before: Rules,
        after: Rules,
        name: str,
        now: int,
        *,
        as_if: Callable[[Appraisable], bool] | None,
    ) -> list[tuple[Appraisable, Verdict]]:
        """What other rules would make of the verdicts that run; nothing is changed.

        :param name: of the policy the question is about.
        :param as_if: the hosts to judge as if they were bound to it; None: those it is for, before
            or after.
        :raises Problem: ``policy-ambiguous``, ``policy-unknown``.
        """
        found = []
        with self._store.read() as connection:
            if as_if is None:
                _check_bindings(connection, after)
            for row in revising.appraisable(connection, with_pcrs=True):
                judged = row if as_if is None else row._replace(policy=name)
                wanted = (
                    any(known.policy_of(row.policy, row.labels).name == name
                        for known in (before, after))
                    if as_if is None
                    else as_if(row)
                )  # fmt: skip
                if wanted:
                    found.append((row, self._judge(connection, judged, after, now).verdict))
        return found

    @staticmethod
    def _until_not_overtaken(attempt: Callable[[], None]) -> None:
        for _ in range(_ATTEMPTS):
            try:
                attempt()
                return
            except Overtaken:
                continue
        raise Problem("service-busy", "other changes of rules were faster; try again")

    def _attempt(
        self,
        edit: Callable[[Rules], Rules],
        write: Callable[[Connection, int], None],
        now: int,
    ) -> None:
        judged: dict[int, tuple[tuple[Any, ...], _Judged]] = {}
        with self._store.read() as connection:
            before = parsed(rules.load(connection))
            after = edit(before)
            _check_bindings(connection, after)
            for row in revising.appraisable(connection, with_pcrs=True):
                judged[row.host_id] = (row.judged_by, self._judge(connection, row, after, now))

        def transaction(connection: Connection) -> None:
            # Verdicts before counts, as everywhere, so that no two wait for each other.
            verdicts.overtake_all(connection)
            generation = changes.next_rules(connection)
            if generation != before.version + 1:
                raise Overtaken
            # Those that were approved while this one waited for the count.
            verdicts.overtake_all(connection)
            write(connection, generation)
            _check_bindings(connection, after)
            revising.revise(connection, list(revisions(connection)), now)

        def revisions(
            connection: Connection,
        ) -> Iterator[tuple[Appraisable, Revision, bytes | None]]:
            for row in revising.appraisable(connection, with_pcrs=False):
                judged_by, done = judged.get(row.host_id, ((), None))
                if done is None or judged_by != row.judged_by:
                    done = self._judge(connection, row, after, now)
                revision = _revision(row, done.verdict)
                if revision != row[-len(revision) :]:
                    yield row, revision, _moved_on(connection, row, done)

        self._store.write(transaction)

    def _attempt_host(
        self, host: hosts.Host, write: Callable[[Connection, Rules], None], now: int
    ) -> None:
        with self._store.read() as connection:
            known = self._book.now(connection)

        def transaction(connection: Connection) -> None:
            verdicts.overtake(connection, host.id)
            if changes.lock_rules(connection) != known.version:
                raise Overtaken
            write(connection, known)
            changed = hosts.by_id(connection, host.id)
            if changed is not None:
                known.policy_of(changed.policy, changed.labels)
            row = revising.running(connection, host.id)
            if row is not None:
                done = self._judge(connection, row, known, now)
                moved_on = _moved_on(connection, row, done)
                revising.revise(connection, [(row, _revision(row, done.verdict), moved_on)], now)

        self._store.write(transaction)

    def _judge(
        self, connection: Connection, row: Appraisable, after: Rules, now: int
    ) -> "_Judged":
        """Judge stored evidence; whatever fails costs this host its trust and no other."""
        moment = moment_of(now)
        if row.evidence is None:
            done = _Judged(_without_evidence(row))
        else:
            try:
                done = self._judge_evidence(connection, row, after, moment)
            except Exception as error:
                LOG.exception("judging host %s again failed in an unforeseen way", row.host)
                finding = Finding(
                    appraise.VERIFIER_ERROR,
                    f"the verifier failed ({type(error).__name__}); its log says more",
                )
                return _Judged(Verdict(level="unknown", findings=(finding,)))
        verdict = concluded(done.verdict, after, row.override, moment, self._lead)
        return done._replace(verdict=verdict)

    def _judge_evidence(
        self, connection: Connection, row: Appraisable, after: Rules, moment: datetime.datetime
    ) -> "_Judged":
        pcrs = row.pcrs or verdicts.pcrs_of(connection, row.host_id)
        log = row.boot_log_digest and self._boot_logs.find(connection, row.boot_log_digest)
        if pcrs is None or not log:
            raise LookupError("the evidence is gone")
        demand = after.policy_of(row.policy, row.labels)
        allowed = after.allow_list(demand, moment)
        known = None
        if allowed is not None:
            stored = ima.load(connection, row.host_id)
            known = state_by(connection, row.host_id, stored, allowed)
        verdict = appraise.judge(
            cast(ReadBootLog, log),
            pcr_values(msgspec.Raw(pcrs.encode())),
            demand,
            after.reference_sets,
            moment,
            parsed_state(row.tpm_state),
            known,
            None if row.challenged_at is None else moment_of(row.challenged_at),
            TagEvidence(
                self._tags.reader.tags_of(row, milliseconds(moment)),
                parsed_tags(row.tags).contents,
            ),
        )
        return _Judged(verdict, known)


def _check_bindings(connection: Connection, known: Rules) -> None:
    """See that each host has one policy.

    :raises Problem: ``policy-ambiguous``, ``policy-unknown``.
    """
    for host, bound, labels in hosts.bindings(connection):
        try:
            known.policy_of(bound, labels)
        except Problem as problem:
            raise Problem(problem.code, f"host {host}: {problem.detail}") from problem


def _without_evidence(row: Appraisable) -> Verdict:
    """What was found when the host said something that proves nothing."""
    found = msgspec.json.decode(row.findings, type=tuple[Finding, ...])
    findings = tuple(finding for finding in found if finding.code != OVERRIDE)
    return Verdict(level=appraise.level_of(findings), findings=findings)


class _Judged(NamedTuple):
    verdict: Verdict
    ima: ImaState | None = None


def _moved_on(connection: Connection, row: Appraisable, done: _Judged) -> bytes | None:
    """The evidence for the history, if it is not the one that was kept last: IMA logs grow."""
    pcrs = None if done.ima is None else verdicts.pcrs_of(connection, row.host_id)
    return None if pcrs is None else packed_again(pcrs, done.ima)


def _revision(row: Appraisable, verdict: Verdict) -> Revision:
    deadline = row.deadline
    if verdict.valid_until is not None:
        deadline = min(deadline, milliseconds(verdict.valid_until))
    return Revision(
        level=verdict.level,
        reason=first_code(verdict.findings),
        findings=findings_json(verdict.findings),
        reference_sets=msgspec.json.encode(verdict.references).decode(),
        deadline=deadline,
        tags=tags_json(verdict.tags),
    )
