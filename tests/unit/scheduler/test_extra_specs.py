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
"""What a flavor asks for, and what nobody understands is never a silent pass."""

import pytest

from oat_trusted_filter.scheduler.extra_specs import Demand, DemandError, read_demand


@pytest.mark.parametrize(
    "extra_specs",
    [
        None,
        {},
        {"hw:cpu_policy": "dedicated"},
        {"trust": "trusted"},
        {"trusted_host": "trusted"},
        {"mytrust:trusted_host": "trusted"},
    ],
)
def test_a_flavor_without_the_prefix_asks_for_nothing(extra_specs):
    assert read_demand(extra_specs) is None


def test_the_two_values():
    assert read_demand({"trust:trusted_host": "trusted"}) is Demand.TRUSTED
    assert read_demand({"a": "b", "trust:trusted_host": "untrusted"}) is Demand.UNTRUSTED


@pytest.mark.parametrize(
    "value",
    [
        "Trusted",
        "TRUSTED",
        " trusted",
        "trusted ",
        "trusted\n",
        "",
        "true",
        "yes",
        "1",
        "unknown",
        "<in> trusted",
        "s== trusted",
        "truѕted",  # with a Cyrillic letter
        None,
    ],
)
def test_E6_a_value_nobody_understands_is_an_error_that_names_it(value):
    with pytest.raises(DemandError) as caught:
        read_demand({"trust:trusted_host": value})
    assert caught.value.code == "extra-spec-invalid"
    assert str(caught.value) == (
        f"the flavor has trust:trusted_host={value!r}; it has to be exactly 'trusted'"
    )


@pytest.mark.parametrize(
    "key",
    [
        "trust:Trusted_Host",
        "TRUST:trusted_host",
        " trust:trusted_host",
        "trust:trusted_host ",
        "trust:trusted",
        "trust:trusted_hosts",
        "trust:",
    ],
)
def test_E6_a_key_nobody_understands_is_an_error_that_names_it(key):
    with pytest.raises(DemandError) as caught:
        read_demand({key: "trusted"})
    assert repr(key) in str(caught.value)
    with pytest.raises(DemandError):
        read_demand({"trust:trusted_host": "trusted", key: "trusted"})
