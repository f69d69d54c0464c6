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
"""Who may have set a trait: we did if a verdict allowed it at some time; else it was not us.

The ledger credits a host with each trait a verdict allows it, from the moment this process sees the
verdict, whether this enforcer acts or another one. A credit ends when the trait is seen absent, or
was removed, while no verdict allows it. A trait that is found without a verdict for it and without
a credit was set by somebody else.
"""

from collections.abc import Iterable

from oat_trusted_filter.enforcer.placement import Provider
from oat_trusted_filter.enforcer.plan import NOTHING, Entitlement, Picture


class Ledger:
    """Credits by UUID or name of the resource provider, whichever the host is found by.

    :param settling: whether credits end; they do not while nothing is really written.
    """

    def __init__(self, *, settling: bool = True) -> None:
        self._settling = settling
        self._credits: dict[str, frozenset[str]] = {}

    def credit(self, hosts: Iterable[Entitlement]) -> None:
        """These hosts may have these traits now."""
        for host in hosts:
            if host.traits:
                self._credits[host.key] = self._credits.get(host.key, NOTHING) | host.traits

    def credited(self, provider: Provider) -> frozenset[str]:
        """Traits that we, or an enforcer before us, may have set."""
        return self._credits.get(provider.uuid, NOTHING) | self._credits.get(provider.name, NOTHING)

    def review(self, picture: Picture) -> None:
        """End the credits for all that is absent in a new picture of placement."""
        if self._settling:
            found = {
                key: traits & picture.present.get(picture.names.get(key, key), NOTHING)
                for key, traits in self._credits.items()
            }
            self._credits = {key: traits for key, traits in found.items() if traits}

    def settle(self, provider: Provider, remaining: frozenset[str]) -> None:
        """Only these traits are there, or may be set; what else was credited is history."""
        for key in (provider.uuid, provider.name) if self._settling else ():
            left = self._credits.get(key)
            if left is None:
                continue
            left &= remaining
            if left:
                self._credits[key] = left
            else:
                del self._credits[key]
