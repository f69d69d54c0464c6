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
Any other key with that prefix, in any case and with blanks around it
    No host at all: it is a slip of the pen for the one above.
"""

import enum
from collections.abc import Mapping

PREFIX = "trust:"
TRUSTED_HOST = "trust:trusted_host"


class Demand(enum.Enum):
    """The level of verdict a flavor asks for."""

    TRUSTED = "trusted"
    UNTRUSTED = "untrusted"


class DemandError(ValueError):
    """A flavor asks for something there is not.

    :ivar code: stable, kebab-case.
    """

    code = "extra-spec-invalid"


def read_demand(extra_specs: Mapping[str, str | None] | None) -> Demand | None:
    """What the flavor asks for, or None if it does not ask for trust.

    :raises DemandError: a key or a value other than those above.
    """
    demand = None
    for key, value in (extra_specs or {}).items():
        if not key.strip().lower().startswith(PREFIX):
            continue
        if key != TRUSTED_HOST:
            raise DemandError(f"the flavor has {key!r}; the only such key is {TRUSTED_HOST!r}")
        try:
            demand = Demand(value)
        except ValueError:
            raise DemandError(
                f"the flavor has {TRUSTED_HOST}={value!r}; it has to be exactly 'trusted'"
            ) from None
    return demand
