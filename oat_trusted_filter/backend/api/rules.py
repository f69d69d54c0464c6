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
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import cast

import msgspec
from oslo_log import log as logging
from sqlalchemy import Connection

from oat_trusted_filter.backend.api.boot_logs import BootLogs
from oat_trusted_filter.backend.api.fields import pcr_values
from oat_trusted_filter.backend.api.ima import state_by
from oat_trusted_filter.backend.api.problems import Problem
from oat_trusted_filter.backend.appraisal import appraise, policy, reference
from oat_trusted_filter.backend.appraisal.allow_list import (
    AllowList,
    make_allow_list,
    valid_lists,
)
from oat_trusted_filter.backend.appraisal.boot_log import ReadBootLog
from oat_trusted_filter.backend.appraisal.records import (
    Finding,
    ImaPolicy,
    Policy,
    ReferenceSet,
    Verdict,
)
from oat_trusted_filter.backend.store import changes, ima, rules, verdicts
from oat_trusted_filter.backend.store.engine import Store
from oat_trusted_filter.backend.store.errors import Overtaken
from oat_trusted_filter.backend.store.verdicts import Appraisable, Revision

LOG = logging.getLogger(__name__)

_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Rules:
    """What hosts are judged by."""

    version: int
    policies: Mapping[str, Policy]
    references: Mapping[str, ReferenceSet]
    _allow_lists: dict[tuple[ImaPolicy, tuple[str, ...]], AllowList] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def policy(self, name: str) -> Policy:
        """The policy of a host; the default one if it has been lost."""
        return self.policies.get(name) or self.policies[policy.DEFAULT_POLICY.name]

    @property
    def reference_sets(self) -> tuple[ReferenceSet, ...]:
        """All of them."""
        return tuple(self.references.values())

    def allow_list(self, demand: Policy, moment: datetime.datetime) -> AllowList | None:
        """What a policy takes for good in IMA logs; None: it does not look at them."""
        if demand.ima.mode == "off":
            return None
        lists = valid_lists(self.reference_sets, moment)
        key = (demand.ima, tuple(reference.name for reference in lists))
        found = self._allow_lists.get(key)
        if found is None:
            found = self._allow_lists[key] = make_allow_list(demand.ima, lists)
        return found


class RulesBook:
    """The rules in force, read anew when their version has changed. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: Rules | None = None

    def current(self, connection: Connection, version: int) -> Rules:
        """The rules of this version or of a later one."""
        known = self._known
        if known is None or known.version != version:
            with self._lock:
                known = self._known
                if known is None or known.version != version:
                    known = self._known = parsed(rules.load(connection))
        return known


def parsed(documents: rules.Documents) -> Rules:
    """Records out of what is stored."""
    policies = {policy.DEFAULT_POLICY.name: policy.DEFAULT_POLICY}
    for name, text in documents.policies.items():
        policies[name] = policy.from_document(msgspec.json.decode(text))
    return Rules(
        documents.version,
        policies,
        {
            name: reference.from_document(msgspec.json.decode(text))
            for name, text in documents.reference_sets.items()
        },
    )


def findings_json(findings: Iterable[Finding]) -> str:
    """Findings as they are stored."""
    return msgspec.json.encode(list(findings)).decode()


def first_code(findings: Iterable[Finding]) -> str:
    """The reason relying parties are told."""
    return next((finding.code for finding in findings if finding.severity == "error"), "")


def milliseconds(moment: datetime.datetime) -> int:
    """A moment as it is stored."""
    return int(moment.timestamp() * 1000)


class RuleChanger:
    """Changes rules and makes the verdicts anew."""

    def __init__(self, store: Store, boot_logs: BootLogs) -> None:
        self._store = store
        self._boot_logs = boot_logs

    def change(
        self, edit: Callable[[Rules], Rules], write: Callable[[Connection], None], now: int
    ) -> None:
        """Store a change of rules and what follows from it.

        :param edit: the rules as they will be, from the rules as they are; may raise to refuse.
        :param write: stores the change, in a transaction.
        :param now: milliseconds since 1970.
        :raises Problem: ``service-busy``.
        """
        for _ in range(_ATTEMPTS):
            try:
                self._attempt(edit, write, now)
                return
            except Overtaken:
                continue
        raise Problem("service-busy", "other changes of rules were faster; try again")

    def _attempt(
        self, edit: Callable[[Rules], Rules], write: Callable[[Connection], None], now: int
    ) -> None:
        judged: dict[int, tuple[str, Verdict]] = {}
        with self._store.read() as connection:
            before = parsed(rules.load(connection))
            after = edit(before)
            for row in verdicts.appraisable(connection, with_pcrs=True):
                judged[row.host_id] = (row.evidence, self._judge(connection, row, after, now))

        def transaction(connection: Connection) -> None:
            # Verdicts before counts, as everywhere, so that no two wait for each other.
            verdicts.overtake_all(connection)
            if changes.next_rules(connection) != before.version + 1:
                raise Overtaken
            write(connection)
            verdicts.revise(connection, list(revisions(connection)))

        def revisions(connection: Connection) -> Iterator[tuple[Appraisable, Revision]]:
            for row in verdicts.appraisable(connection, with_pcrs=False):
                evidence, verdict = judged.get(row.host_id, ("", None))
                if verdict is None or evidence != row.evidence:
                    verdict = self._judge(connection, row, after, now)
                revision = _revision(row, verdict)
                if revision != row[-len(revision) :]:
                    yield row, revision

        self._store.write(transaction)

    def _judge(self, connection: Connection, row: Appraisable, after: Rules, now: int) -> Verdict:
        """Judge stored evidence; whatever fails costs this host its trust and no other."""
        try:
            pcrs = row.pcrs or verdicts.pcrs_of(connection, row.host_id)
            log = self._boot_logs.find(connection, row.boot_log_digest)
            if pcrs is None or log is None:
                raise LookupError("the evidence is gone")
            moment = datetime.datetime.fromtimestamp(now / 1000, datetime.UTC)
            demand = after.policy(row.policy)
            allowed = after.allow_list(demand, moment)
            known = None
            if allowed is not None:
                stored = ima.load(connection, row.host_id)
                known = state_by(connection, row.host_id, stored, allowed)
            return appraise.judge(
                cast(ReadBootLog, log),
                pcr_values(msgspec.Raw(pcrs.encode())),
                demand,
                after.reference_sets,
                moment,
                None,
                known,
            )
        except Exception as error:
            LOG.exception("judging host %s again failed in an unforeseen way", row.host)
            finding = Finding(
                "verifier-error",
                f"the verifier failed ({type(error).__name__}); its log says more",
            )
            return Verdict(level="unknown", findings=(finding,))


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
    )
