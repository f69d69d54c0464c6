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
"""A full look at placement, in steps, so that a change of a verdict need not wait for its end."""

from oat_trusted_filter.enforcer.placement import Placement
from oat_trusted_filter.enforcer.plan import NOTHING, Picture
from oat_trusted_filter.traits import is_ours


class Survey:
    """Two requests at the start, and one for each of our traits that is in use.

    :raises PlacementUnavailable: from here and from :meth:`step`; the survey is then of no use.
    """

    def __init__(self, placement: Placement) -> None:
        self._placement = placement
        self._providers = {provider.uuid: provider for provider in placement.providers()}
        in_use = placement.traits_in_use()
        self._unread = sorted((trait for trait in in_use if is_ours(trait)), reverse=True)
        self._present: dict[str, frozenset[str]] = {}
        self._written: dict[str, frozenset[str]] = {}
        self._gone: set[str] = set()

    @property
    def finished(self) -> bool:
        """Whether all is read."""
        return not self._unread

    def step(self) -> None:
        """Read who has one trait."""
        trait = self._unread[-1]
        for provider in self._placement.providers_with(trait):
            # It may be newer than the list of all.
            self._providers.setdefault(provider.uuid, provider)
            self._present[provider.uuid] = self._present.get(provider.uuid, NOTHING) | {trait}
        self._unread.pop()

    def wrote(self, uuid: str, traits: frozenset[str]) -> None:
        """Meanwhile the provider was given these traits, or read with them."""
        self._written[uuid] = traits

    def lost(self, uuid: str) -> None:
        """Meanwhile the provider has gone."""
        self._gone.add(uuid)

    def picture(self) -> Picture:
        """What was found."""
        found = {**self._present, **self._written}
        providers = {u: p for u, p in self._providers.items() if u not in self._gone}
        roots = {uuid: provider for uuid, provider in providers.items() if provider.root}
        return Picture(
            roots=roots,
            present={uuid: traits for uuid, traits in found.items() if uuid in roots and traits},
            nested={u: t for u, t in found.items() if u in providers and u not in roots},
        )
