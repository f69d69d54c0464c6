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
"""Where Nova puts a server that moves (E5)."""

import pytest

from tests.functional.nova.conftest import BAD, GOOD


@pytest.fixture
def server(nova):
    """A trusted server on the first of the good hosts."""
    found = nova.cloud.create_server(nova.trusted, host=GOOD[0])
    assert found.host == GOOD[0]
    return found


def test_E5_a_resize_to_a_trusted_flavor_moves_to_a_trusted_host(nova):
    plain = nova.cloud.create_server(nova.plain, host=BAD[0])
    resized = nova.cloud.resize(plain, nova.trusted)
    assert resized.status == "ACTIVE"
    assert resized.host in GOOD


def test_E5_a_resize_to_a_trusted_flavor_without_trusted_hosts_changes_nothing(nova):
    plain = nova.cloud.create_server(nova.plain, host=BAD[0])
    nova.only_trusted()
    resized = nova.cloud.resize(plain, nova.trusted)
    assert (resized.status, resized.host) == ("ACTIVE", BAD[0])


def test_E5_a_resize_to_a_plain_flavor_asks_nobody(nova, server):
    requests = len(nova.backend.requests)
    assert nova.cloud.resize(server, nova.plain).status == "ACTIVE"
    assert len(nova.backend.requests) == requests


def test_E5_a_cold_migration_goes_to_a_trusted_host(nova, server):
    moved = nova.cloud.migrate(server)
    assert (moved.status, moved.host) == ("ACTIVE", GOOD[1])


@pytest.mark.parametrize("host", BAD)
def test_E5_a_cold_migration_to_a_host_that_is_not_trusted_is_refused(nova, server, host):
    moved = nova.cloud.migrate(server, host)
    assert (moved.status, moved.host) == ("ACTIVE", GOOD[0])


def test_E5_a_live_migration_goes_to_a_trusted_host(nova, server):
    moved = nova.cloud.live_migrate(server)
    assert (moved.status, moved.host) == ("ACTIVE", GOOD[1])


def test_E5_a_live_migration_to_a_host_that_is_not_trusted_is_refused(nova, server):
    moved = nova.cloud.live_migrate(server, BAD[0])
    assert (moved.status, moved.host) == ("ACTIVE", GOOD[0])


def test_E5_a_live_migration_without_another_trusted_host_is_refused(nova, server):
    nova.only_trusted(GOOD[0])
    moved = nova.cloud.live_migrate(server)
    assert (moved.status, moved.host) == ("ACTIVE", GOOD[0])


def test_E5_unshelving_goes_to_a_trusted_host(nova, server):
    shelved = nova.cloud.shelve(server)
    assert shelved.host is None
    nova.only_trusted(BAD[0])
    assert nova.cloud.unshelve(shelved).host == BAD[0]


def test_E5_unshelving_without_a_trusted_host_leaves_the_server_shelved(nova, server):
    shelved = nova.cloud.shelve(server)
    nova.only_trusted()
    assert nova.cloud.unshelve(shelved).status == "SHELVED_OFFLOADED"
