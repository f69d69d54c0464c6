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
"""What Nova asks no filter about, as the documentation says: the host is not checked.

These are no promises but limits. If Nova begins to ask, the documentation has to change.
"""

from tests.functional.nova.conftest import BAD, GOOD


def nobody_is_asked(nova, action):
    asked = len(nova.backend.requests)
    found = action()
    assert len(nova.backend.requests) == asked
    return found


def test_a_live_migration_that_is_forced_is_not_checked(nova):
    server = nova.cloud.create_server(nova.trusted, host=GOOD[0])
    moved = nobody_is_asked(nova, lambda: nova.cloud.force_live_migration(server, BAD[0]))
    assert moved.host == BAD[0]


def test_a_resize_that_is_reverted_goes_back_unchecked(nova):
    server = nova.cloud.create_server(nova.trusted, host=GOOD[0])
    bigger = nova.cloud.create_flavor(trusted=True)
    nova.only_trusted(GOOD[1])
    between, back = nova.cloud.resize_and_revert(server, bigger)
    assert (between.host, back.host) == (GOOD[1], GOOD[0])


def test_old_filter_power_on_is_never_checked_by_nova_as_the_documentation_says(nova):
    server = nova.cloud.create_server(nova.trusted, host=GOOD[0])
    nova.only_trusted()
    started = nobody_is_asked(nova, lambda: nova.cloud.stop_and_start(server))
    assert (started.status, started.host) == ("ACTIVE", GOOD[0])
