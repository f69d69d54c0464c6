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

from oat_trusted_filter.scheduler.extra_specs import (
    Demand,
    DemandError,
    Level,
    TagDemand,
    read_demand,
)


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
    assert read_demand({"trust:trusted_host": "trusted"}) == Demand(Level.TRUSTED)
    untrusted = {"a": "b", "trust:trusted_host": "untrusted"}
    assert read_demand(untrusted) == Demand(Level.UNTRUSTED)


def test_tags_are_asked_of_trusted_hosts():
    zone = TagDemand("zone", frozenset({"eu-1", "eu-2"}))
    rack = TagDemand("Rack.row-2", frozenset({"7 b"}))
    specs = {"trust:asset_tag:zone": "eu-1,eu-2", "trust:asset_tag:Rack.row-2": "7 b"}
    assert read_demand(specs) == Demand(Level.TRUSTED, (rack, zone))
    assert read_demand({"trust:trusted_host": "trusted", **specs}) == read_demand(specs)
    # The order of the keys is not the flavor's.
    assert read_demand(dict(reversed(specs.items()))) == read_demand(specs)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("trust:asset_tag:zone", ""),
        ("trust:asset_tag:zone", None),
        ("trust:asset_tag:zone", "eu-1, eu-2"),
        ("trust:asset_tag:zone", "eu-1,"),
        ("trust:asset_tag:zone", " eu-1"),
        ("trust:asset_tag:zone", "köln"),
        ("trust:asset_tag:zone", "a" * 240),
        ("trust:asset_tag:", "eu-1"),
        ("trust:asset_tag:zone:x", "eu-1"),
        ("trust:asset_tag: zone", "eu-1"),
        ("trust:asset_tag", "eu-1"),
        ("trust:Asset_Tag:zone", "eu-1"),
        ("trust:asset_tag_zone", "eu-1"),
    ],
)
def test_E6_a_tag_nobody_can_have_is_an_error_that_names_it(key, value):
    with pytest.raises(DemandError, match="the flavor has") as caught:
        read_demand({"trust:trusted_host": "trusted", key: value})
    assert key in str(caught.value)


def test_E6_nobody_vouches_for_the_tags_of_an_untrusted_host():
    with pytest.raises(DemandError, match="tags of untrusted hosts: zone=eu"):
        read_demand({"trust:trusted_host": "untrusted", "trust:asset_tag:zone": "eu"})


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
