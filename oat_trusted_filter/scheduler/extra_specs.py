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
"""What a flavor asks for: the extra specs with the prefix ``trust:``.

``trust:trusted_host``
    ``trusted``: only hosts with a verdict ``trusted`` that is still valid.
    ``untrusted``: only hosts with a valid verdict that is exactly that; deprecated.
    Anything else, other case and blanks included: no host at all, and the log says why. A value
    nobody understands must not turn into a server on any host.
``trust:asset_tag:<name>``
    A value, or several with commas between them: only trusted hosts with a tag of that name and one
    of these values, letter for letter. Several such keys: all of them. A name or a value no tag can
    have, a blank beside a comma included: no host at all.
Any other key with that prefix, in any case and with blanks around it
    No host at all: it is a slip of the pen for one of those above.
"""

import enum
from collections.abc import Mapping
from typing import NamedTuple

from oat_trusted_filter.traits import TraitError, check_tag

PREFIX = "trust:"
TRUSTED_HOST = "trust:trusted_host"
ASSET_TAG = "trust:asset_tag:"


class Level(enum.Enum):
    """A level of verdict a flavor may ask for."""

    TRUSTED = "trusted"
    UNTRUSTED = "untrusted"


class TagDemand(NamedTuple):
    """A tag a host has to have, with one of these values."""

    name: str
    values: frozenset[str]

    def __str__(self) -> str:
        return f"{self.name}={','.join(sorted(self.values))}"


class Demand(NamedTuple):
    """What a flavor asks for."""

    level: Level = Level.TRUSTED
    tags: tuple[TagDemand, ...] = ()
    """All of them, of trusted hosts."""


class DemandError(ValueError):
    """A flavor asks for something there is not.

    :ivar code: stable, kebab-case.
    """

    code = "extra-spec-invalid"


def read_demand(extra_specs: Mapping[str, str | None] | None) -> Demand | None:
    """What the flavor asks for, or None if it does not ask for trust.

    :raises DemandError: a key or a value other than those above.
    """
    level = None
    tags = []
    for key, value in (extra_specs or {}).items():
        if not key.strip().lower().startswith(PREFIX):
            continue
        if key.startswith(ASSET_TAG):
            tags.append(_tag(key, value))
        elif key == TRUSTED_HOST:
            level = _level(value)
        else:
            raise DemandError(
                f"the flavor has {key!r}; the only such keys are {TRUSTED_HOST!r} and "
                f"{ASSET_TAG + '<name>'!r}"
            )
    if tags and level is Level.UNTRUSTED:
        raise DemandError(f"the flavor asks for tags of untrusted hosts: {tags[0]}")
    if tags or level:
        return Demand(level or Level.TRUSTED, tuple(sorted(tags)))
    return None


def _level(value: str | None) -> Level:
    try:
        return Level(value)
    except ValueError:
        raise DemandError(
            f"the flavor has {TRUSTED_HOST}={value!r}; it has to be exactly 'trusted'"
        ) from None


def _tag(key: str, value: str | None) -> TagDemand:
    name = key.removeprefix(ASSET_TAG)
    values = frozenset((value or "").split(","))
    try:
        for item in values:
            check_tag(name, item)
    except TraitError as error:
        raise DemandError(f"the flavor has {key}={value!r}: {error}") from None
    return TagDemand(name, values)
