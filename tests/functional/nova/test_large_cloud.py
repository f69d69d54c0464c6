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
"""A thousand hypervisors, one of them trusted, and the limit of placement."""

import pytest

from oat_trusted_filter.traits import TRUSTED, tag_trait
from tests.functional.nova.conftest import scene

HYPERVISORS = 1000
THE_ONE = "the-one"


@pytest.fixture(scope="module")
def nova(tmp_path_factory):
    with scene(
        tmp_path_factory.mktemp("large"),
        hosts=("crowd",),
        scheduler={"max_placement_results": 100},
        request_filter=True,
        require_trait=True,
    ) as made:
        made.cloud.copy_node("crowd", HYPERVISORS - 2)
        made.cloud.start_compute(THE_ONE)
        made.say("trusted", THE_ONE)
        made.cloud.set_traits(THE_ONE, TRUSTED, tag_trait("zone", "eu-1"))
        yield made


def test_every_one_of_twenty_boots_finds_the_only_trusted_host(nova):
    assert len(nova.cloud.api.api_get("/os-hypervisors").body["hypervisors"]) == HYPERVISORS
    for _ in range(20):
        assert nova.cloud.create_server(nova.trusted).host == THE_ONE


def test_a_tag_with_one_value_is_asked_for_in_placement(nova):
    flavor = nova.cloud.create_flavor(trusted=True, trust__asset_tag__zone="eu-1")
    nova.backend.say("trusted", THE_ONE, tags={"zone": "eu-1"})
    assert nova.cloud.create_server(flavor).host == THE_ONE
    several = nova.cloud.create_flavor(trusted=True, trust__asset_tag__zone="eu-1,eu-2")
    assert nova.cloud.create_server(several).host == THE_ONE
    nova.cloud.delete_all()


def test_E13_the_trait_alone_makes_no_host_trusted(nova):
    nova.say("untrusted", THE_ONE, reason="pcr-mismatch")
    try:
        with nova.new_log() as lines:
            assert nova.cloud.create_server(nova.trusted).refused
        assert "0 of 1 hosts pass; 1 untrusted (pcr-mismatch)" in lines[0]
    finally:
        nova.say("trusted", THE_ONE)


def test_the_trait_alone_is_what_an_image_can_ask_for(nova):
    flavor = nova.cloud.create_flavor(trusted=False, trait__CUSTOM_OAT_TRUSTED="required")
    assert nova.cloud.create_server(flavor).host == THE_ONE
    nova.cloud.delete_all()
