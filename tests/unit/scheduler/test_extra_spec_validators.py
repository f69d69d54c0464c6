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
"""What nova-api lets into flavors is what the filter understands."""

import pytest
from nova import exception
from nova.api.validation.extra_specs import validators

from oat_trusted_filter.scheduler.extra_specs import DemandError, read_demand

GOOD = {
    "trust:trusted_host": ["trusted", "untrusted"],
    "trust:asset_tag:zone": ["eu-1", "eu-1,eu-2", "with blank"],
    "trust:asset_tag:rack.row_7": ["7"],
}
BAD = {
    "trust:trusted_host": ["Trusted", " trusted", "trusted ", "", "true", "trusted\n"],
    "trust:trusted": ["trusted"],
    "trust:": ["trusted"],
    "trust:Trusted_Host": ["trusted"],
    "trust:asset_tag:": ["eu-1"],
    "trust:asset_tag": ["eu-1"],
    "trust:asset_tag:zone": ["", ",", "eu-1,", "eu-1, eu-2", " eu-1", "é", "x" * 250],
    "trust:asset_tag:zo ne": ["eu-1"],
    "trust:asset_tag:zone:row": ["eu-1"],
    "trust:asset_tag:_zone": ["eu-1"],
}


def pairs(specs):
    return [(name, value) for name, values in specs.items() for value in values]


@pytest.mark.parametrize(("name", "value"), pairs(GOOD))
def test_what_the_filter_understands_is_taken(name, value):
    assert read_demand({name: value})
    validators.validate(name, value)


@pytest.mark.parametrize(("name", "value"), pairs(BAD))
def test_E6_what_the_filter_refuses_is_refused(name, value):
    with pytest.raises(DemandError):
        read_demand({name: value})
    with pytest.raises(exception.ValidationError):
        validators.validate(name, value)


def test_extra_specs_of_others_are_none_of_our_business():
    validators.validate("quota:cpu_shares", "10")
    validators.validate("nobodys:thing", "x")
