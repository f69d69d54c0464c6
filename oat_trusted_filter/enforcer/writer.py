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
"""Sets the traits of one resource provider right, whoever else changes it at the same time."""

from collections.abc import Callable
from typing import NamedTuple

from oslo_log import log as logging

from oat_trusted_filter.enforcer.errors import GenerationConflict, PlacementRefused, ProviderGone
from oat_trusted_filter.enforcer.ledger import Ledger
from oat_trusted_filter.enforcer.placement import Placement, Provider
from oat_trusted_filter.enforcer.plan import NOTHING, Target
from oat_trusted_filter.traits import is_ours

LOG = logging.getLogger(__name__)

#: Attempts at one provider before it is left for the next pass.
ATTEMPTS = 5


class Outcome(NamedTuple):
    """What became of a provider."""

    present: frozenset[str]
    """Our traits that it has now."""
    added: frozenset[str] = NOTHING
    removed: frozenset[str] = NOTHING
    foreign: frozenset[str] = NOTHING
    """Of those removed, the ones no verdict had allowed."""


class Writer:
    """Writes, or in a dry run says what it would write."""

    def __init__(self, placement: Placement, ledger: Ledger, *, dry_run: bool) -> None:
        self._placement = placement
        self._ledger = ledger
        self._dry_run = dry_run
        self._made: set[str] = set()

    def make(self, trait: str) -> None:
        """Make the trait known to placement, unless we already did."""
        if trait not in self._made and not self._dry_run:
            self._placement.create_trait(trait)
            self._made.add(trait)

    def write(
        self,
        provider: Provider,
        target: Target,
        aim: Callable[[frozenset[str]], frozenset[str]],
        *,
        suspicious: bool,
    ) -> Outcome | None:
        """Read the provider and give it the traits it should have, leaving those of others.

        :param target: what it should have and why.
        :param aim: which of our traits it should have now, from those that it has.
        :param suspicious: whether traits nobody accounts for are reported.
        :returns: None if the provider is gone.
        :raises PlacementRefused: it cannot be done, or somebody else was faster too often.
        :raises PlacementUnavailable: placement does not answer as it should.
        """
        for _ in range(ATTEMPTS):
            try:
                outcome = self._attempt(provider, target, aim, suspicious)
            except GenerationConflict as error:
                LOG.debug("resource provider %s: %s; again", provider.uuid, error)
            except ProviderGone:
                LOG.info("resource provider %s (%r) is gone", provider.uuid, provider.name)
                return None
            except PlacementRefused:
                # Somebody may have deleted a trait we had made.
                self._made.clear()
                raise
            else:
                self._ledger.settle(provider, outcome.present | target.traits)
                self._tell(provider, target, outcome)
                return outcome
        raise PlacementRefused(
            "placement-busy", f"it was changed by somebody else {ATTEMPTS} times in a row"
        )

    def _attempt(
        self,
        provider: Provider,
        target: Target,
        aim: Callable[[frozenset[str]], frozenset[str]],
        suspicious: bool,
    ) -> Outcome:
        has, generation = self._placement.traits_of(provider.uuid)
        present = frozenset(trait for trait in has if is_ours(trait))
        should = aim(present)
        added, removed = should - present, present - should
        if not added and not removed:
            return Outcome(should)
        if not self._dry_run:
            for trait in added:
                self.make(trait)
            self._placement.put_traits(provider.uuid, generation, (has - removed) | added)
        foreign = removed - self._ledger.credited(provider) if suspicious else NOTHING
        return Outcome(should, added, removed, foreign)

    def _tell(self, provider: Provider, target: Target, outcome: Outcome) -> None:
        would = "would have been " if self._dry_run else ""
        for trait in sorted(outcome.foreign):
            LOG.error(
                "incident trait-not-ours: %s on resource provider %s (%r) is backed by no verdict "
                "since this enforcer started: %s; %sremoved",
                trait,
                provider.uuid,
                provider.name,
                target,
                would,
            )
        for verb, traits in (("set", outcome.added), ("removed", outcome.removed)):
            if traits:
                LOG.info(
                    "resource provider %s (%r): %s%s %s; %s",
                    provider.uuid,
                    provider.name,
                    would,
                    verb,
                    ", ".join(sorted(traits)),
                    target,
                )
