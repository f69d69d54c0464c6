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
"""What nova-api lets into flavors: entry point ``trust`` of ``nova.api.extra_spec_validators``.

With this package beside nova-api, a key with the prefix ``trust:`` that does not exist, or a value
it cannot have, is answered 400 from microversion 2.86 on. Flavors that were made before, or through
an older microversion, are for the filter to refuse; both read them with the same code.
"""

from nova import exception
from nova.api.validation.extra_specs import base

from oat_trusted_filter.scheduler.extra_specs import (
    ASSET_TAG,
    TRUSTED_HOST,
    DemandError,
    Level,
    read_demand,
)


class TrustValidator(base.ExtraSpecValidator):
    """Takes what the filter understands and nothing else."""

    def validate(self, name: str, value: str) -> None:
        """Check one extra spec.

        :raises nova.exception.ValidationError: the filter would refuse every host.
        """
        super().validate(name, value)
        try:
            read_demand({name: value})
        except DemandError as error:
            raise exception.ValidationError(f"Validation failed; {error}.") from None


def register() -> list[base.ExtraSpecValidator]:
    """The validators of the namespace ``trust``."""
    return [
        TrustValidator(
            name=TRUSTED_HOST,
            description=(
                "Only hosts the attestation backend trusts now. The value ``untrusted``, only "
                "hosts known not to be trustworthy, is deprecated."
            ),
            value={"type": str, "enum": [level.value for level in Level]},
        ),
        TrustValidator(
            name=f"{ASSET_TAG}{{name}}",
            description="Only trusted hosts with this tag and one of the values.",
            value={"type": str},
            parameters=[{"name": "name", "pattern": r"[A-Za-z0-9._-]+"}],
        ),
    ]
