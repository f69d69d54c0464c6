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
"""Which traits each resource provider should have. No requests are made here."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from oat_trusted_filter.enforcer.placement import Provider
from oat_trusted_filter.enforcer.standing import HostStanding
from oat_trusted_filter.traits import TRUSTED, TraitError, tag_trait

NOTHING: frozenset[str] = frozenset()


class Entitlement(NamedTuple):
    """What a host may have by its verdict."""

    host: str
    level: str
    reason: str
    resource_provider: str | None
    traits: frozenset[str]

    @property
    def key(self) -> str:
        """What its resource provider is found by: the UUID if it was recorded, or the name."""
        return self.resource_provider or self.host

    def __str__(self) -> str:
        return f"host {self.host} is {self.level}" + (f" ({self.reason})" if self.reason else "")


class Refusal(NamedTuple):
    """A tag that has no trait."""

    host: str
    name: str
    error: TraitError


@dataclass(slots=True)
class Picture:
    """What placement holds, as far as it concerns us."""

    roots: dict[str, Provider]
    """Providers without a parent, by UUID."""
    present: dict[str, frozenset[str]]
    """Our traits on them, by UUID; none where there is no entry."""
    nested: dict[str, frozenset[str]] = field(default_factory=dict)
    """Our traits on providers that have a parent, where they have no business."""
    names: dict[str, str] = field(init=False)
    """UUID of the roots by name."""

    def __post_init__(self) -> None:
        self.names = {provider.name: uuid for uuid, provider in self.roots.items()}

    def find(self, key: str, by_uuid: bool) -> str | None:
        """UUID of the root with this UUID or name."""
        if by_uuid:
            return key if key in self.roots else None
        return self.names.get(key)

    def forget(self, uuid: str) -> None:
        """It is gone."""
        provider = self.roots.pop(uuid, None)
        self.present.pop(uuid, None)
        if provider is not None and self.names.get(provider.name) == uuid:
            del self.names[provider.name]


class Target(NamedTuple):
    """What a resource provider should have, and by which hosts."""

    traits: frozenset[str]
    hosts: tuple[Entitlement, ...] = ()

    def __str__(self) -> str:
        return " and ".join(map(str, self.hosts)) or "no host with a verdict has it"


NOBODY = Target(NOTHING)


def entitlement(host: HostStanding) -> tuple[Entitlement, list[Refusal]]:
    """What a host may have; tags without a trait are left out and told."""
    provider = host.resource_provider.lower() if host.resource_provider else None
    if not host.trusted:
        return Entitlement(host.host, host.level, host.reason, provider, NOTHING), []
    traits, refused = {TRUSTED}, []
    for name, value in host.tags.items():
        try:
            traits.add(tag_trait(name, value))
        except TraitError as error:
            refused.append(Refusal(host.host, str(name), error))
    return Entitlement(host.host, host.level, host.reason, provider, frozenset(traits)), refused


@dataclass(slots=True)
class Plan:
    """What should be, and what stands in the way."""

    targets: dict[str, Target] = field(default_factory=dict)
    """By UUID of the provider."""
    waiting: list[Entitlement] = field(default_factory=list)
    """Hosts that may have traits, but placement does not know them."""
    oddities: set[str] = field(default_factory=set)
    """Sentences about records that do not fit together."""


def make_plan(
    picture: Picture, entitled: Iterable[Entitlement], unsure: Iterable[str] = ()
) -> Plan:
    """Compare verdicts and placement.

    If several hosts claim one provider it gets what all of them may have, so nothing if one of them
    is not trusted. Providers that no host claims should have nothing.

    :param unsure: UUIDs of providers of which nobody knows what they have.
    """
    plan = Plan()
    for host in entitled:
        uuid = picture.find(host.key, by_uuid=host.resource_provider is not None)
        if uuid is None:
            if host.traits:
                plan.waiting.append(host)
            continue
        name = picture.roots[uuid].name
        if name != host.host:
            plan.oddities.add(
                f"host {host.host}: the resource provider it enrolled with, {uuid}, is that of "
                f"{name!r}"
            )
        other = plan.targets.get(uuid)
        if other is None:
            plan.targets[uuid] = Target(host.traits, (host,))
        else:
            plan.targets[uuid] = Target(other.traits & host.traits, (*other.hosts, host))
            plan.oddities.add(f"resource provider {uuid} ({name!r}) is claimed by several hosts")
    for uuid in (*picture.present, *unsure):
        if uuid in picture.roots:
            plan.targets.setdefault(uuid, NOBODY)
    return plan
