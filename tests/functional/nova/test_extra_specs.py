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
"""nova-api takes what the filter understands, from microversion 2.86 on."""

import pytest

from tests.functional.nova.conftest import GOOD
from tests.lab.nova_services import ApiError


@pytest.mark.parametrize(
    "specs",
    [
        {"trust__trusted_host": "trusted"},
        {"trust__trusted_host": "untrusted"},
        {"trust__asset_tag__zone": "eu-1"},
        {"trust__asset_tag__rack.row_7": "a 1,b"},
        {"hw__cpu_policy": "dedicated"},
    ],
)
def test_what_the_filter_understands_is_taken(nova, specs):
    assert nova.cloud.create_flavor(trusted=False, **specs)


BAD = [
    {"trust__trusted_host": "Trusted"},
    {"trust__trusted_host": "trusted "},
    {"trust__trusted_host": "yes"},
    {"trust__trustedhost": "trusted"},
    {"trust__": "trusted"},
    {"trust__asset_tag": "eu-1"},
    {"trust__asset_tag__": "eu-1"},
    {"trust__asset_tag__zone": ""},
    {"trust__asset_tag__zone": "eu-1, eu-2"},
    {"trust__asset_tag__zone": "x" * 250},
    {"trust__asset_tag__-zone": "eu-1"},
]


@pytest.mark.parametrize("specs", BAD)
def test_E6_what_it_does_not_is_answered_400(nova, specs):
    with pytest.raises(ApiError) as caught:
        nova.cloud.create_flavor(trusted=False, version="2.86", **specs)
    assert caught.value.response.status_code == 400
    assert "trust" in caught.value.response.text


@pytest.mark.parametrize("specs", [BAD[0], BAD[3], BAD[8]])
def test_E6_a_flavor_made_before_finds_no_host(nova, specs):
    flavor = nova.cloud.create_flavor(trusted=False, version="2.85", **specs)
    with nova.new_log() as lines:
        assert nova.cloud.create_server(flavor).refused
    assert "no host passes: the flavor has" in lines[0]
    assert nova.cloud.create_server(nova.trusted).host in GOOD
