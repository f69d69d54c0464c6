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
"""What hosts are judged by, and what is made of a judgement."""

import datetime
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import msgspec
from sqlalchemy import Connection

from oat_trusted_filter.backend.api.problems import Problem
from oat_trusted_filter.backend.appraisal import policy, reference
from oat_trusted_filter.backend.appraisal.allow_list import (
    AllowList,
    make_allow_list,
    valid_lists,
)
from oat_trusted_filter.backend.appraisal.expiry import with_expiry_warnings
from oat_trusted_filter.backend.appraisal.override import OVERRIDE, overridden
from oat_trusted_filter.backend.appraisal.records import (
    NO_TAGS,
    Finding,
    Override,
    PreviousState,
    TagEvidence,
    Verdict,
)
from oat_trusted_filter.backend.appraisal.rule_records import ImaPolicy, Policy, ReferenceSet
from oat_trusted_filter.backend.store import changes, hosts, rules


@dataclass(frozen=True, slots=True)
class Rules:
    """What hosts are judged by."""

    version: int
    policies: Mapping[str, Policy]
    references: Mapping[str, ReferenceSet]
    generations: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """``policies`` and ``reference_sets`` -> name -> count of rules at the last change."""
    _allow_lists: dict[tuple[ImaPolicy, tuple[str, ...]], AllowList] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def policy_of(self, bound: str, labels: str | None) -> Policy:
        """The policy of a host: the one it is bound to, or its labels choose, or ``default``.

        :param bound: a name, or :data:`hosts.UNBOUND`.
        :param labels: JSON; None: none.
        :raises Problem: ``policy-unknown``, ``policy-ambiguous``.
        """
        if bound != hosts.UNBOUND:
            found = self.policies.get(bound)
            if found is None:
                raise Problem("policy-unknown", f"there is no policy {bound}")
            return found
        chosen = [] if labels is None else self._chosen_by(msgspec.json.decode(labels))
        if len(chosen) > 1:
            names = ", ".join(sorted(policy.name for policy in chosen))
            raise Problem(
                "policy-ambiguous",
                f"several policies are for hosts with these labels ({names}); bind the host to "
                "one of them, or make their labels differ",
            )
        return chosen[0] if chosen else self.policies[policy.DEFAULT_POLICY.name]

    def _chosen_by(self, labels: Mapping[str, str]) -> list[Policy]:
        return [
            candidate
            for candidate in self.policies.values()
            if candidate.labels and candidate.labels.items() <= labels.items()
        ]

    def generation(self, kind: Literal["policies", "reference_sets"], name: str) -> int:
        """The count of rules when a document was last changed; 0 if it never was."""
        return self.generations.get(kind, {}).get(name, 0)

    def check_generation(
        self, kind: Literal["policies", "reference_sets"], name: str, expected: int | None
    ) -> None:
        """See that an edit was made from what is in force.

        :param expected: None: from whatever it is.
        :raises Problem: ``edit-conflict``.
        """
        now = self.generation(kind, name)
        if expected not in (None, now):
            raise Problem(
                "edit-conflict",
                f"{name} has been changed since it was read: it is generation {now}, not "
                f"{expected}; look at it again",
            )

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

    def now(self, connection: Connection) -> Rules:
        """The rules in force."""
        return self.current(connection, changes.position(connection).rules)

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
    for name, stored in documents.policies.items():
        policies[name] = policy.from_document(
            msgspec.json.decode(stored.document), stored=True
        )
    return Rules(
        documents.version,
        policies,
        {
            name: reference.from_document(msgspec.json.decode(stored.document))
            for name, stored in documents.reference_sets.items()
        },
        {
            "policies": {name: item.generation for name, item in documents.policies.items()},
            "reference_sets": {
                name: item.generation for name, item in documents.reference_sets.items()
            },
        },
    )


def parsed_override(text: str | None) -> Override | None:
    """An override as it is stored."""
    return None if text is None else msgspec.json.decode(text, type=Override)


def concluded(
    verdict: Verdict,
    known: Rules,
    override: str | None,
    moment: datetime.datetime,
    lead: datetime.timedelta,
) -> Verdict:
    """What becomes of an appraisal: warnings of what ends soon, and the word of an operator.

    :param override: JSON; None: there is none.
    :param lead: how long before its end a set is warned of.
    """
    warned = with_expiry_warnings(verdict, known.references, moment, lead)
    return overridden(warned, parsed_override(override), moment)


def parsed_state(text: str | None) -> PreviousState | None:
    """The signed counters of a TPM as they are stored."""
    return None if text is None else msgspec.json.decode(text, type=PreviousState)


def tags_json(tags: TagEvidence) -> str | None:
    """What is known of the tags of a host, as it is stored; None: nothing."""
    return None if tags == NO_TAGS else msgspec.json.encode(tags).decode()


def parsed_tags(text: str | None) -> TagEvidence:
    """The reverse of :func:`tags_json`."""
    return NO_TAGS if text is None else msgspec.json.decode(text, type=TagEvidence)


def findings_json(findings: Iterable[Finding]) -> str:
    """Findings as they are stored."""
    return msgspec.json.encode(list(findings)).decode()


def first_code(findings: Iterable[Finding]) -> str:
    """The reason relying parties are told."""
    return next(
        (item.code for item in findings if item.severity == "error" or item.code == OVERRIDE), ""
    )


def milliseconds(moment: datetime.datetime) -> int:
    """A moment as it is stored."""
    return int(moment.timestamp() * 1000)


def moment_of(milliseconds: int) -> datetime.datetime:
    """A stored moment."""
    return datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.UTC)
