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
"""Where Nova puts the servers of a host that is lost (E5). The host does not come back."""

from tests.functional.nova.conftest import BAD, GOOD


def test_E5_an_evacuation_goes_to_a_trusted_host(nova):
    server = nova.cloud.create_server(nova.trusted, host=GOOD[0])
    nova.cloud.lose_host(GOOD[0])
    nova.only_trusted(BAD[1])
    moved = nova.cloud.evacuate(server)
    assert (moved.host, moved.fault) == (BAD[1], None)


def test_an_evacuation_that_is_forced_is_not_checked_as_the_documentation_says(nova):
    server = nova.cloud.create_server(nova.trusted, host=GOOD[1])
    nova.cloud.lose_host(GOOD[1])
    asked = len(nova.backend.requests)
    moved = nova.cloud.evacuate(server, BAD[0], force=True)
    assert moved.host == BAD[0]
    assert len(nova.backend.requests) == asked
