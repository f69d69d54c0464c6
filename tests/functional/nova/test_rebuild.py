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
"""What becomes of a rebuild where the server is, by the option ``check_rebuild``."""

import pytest

from tests.functional.nova.conftest import GOOD, scene
from tests.lab.nova import IMAGE
from tests.lab.scripted_backend import cut

HOST = GOOD[0]


@pytest.mark.parametrize(
    ("check_rebuild", "outcomes"),
    [
        ("off", ["ACTIVE", "ACTIVE", "ACTIVE"]),
        ("untrusted", ["ACTIVE", "ACTIVE", "ERROR"]),
        ("strict", ["ACTIVE", "ERROR", "ERROR"]),
    ],
)
def test_E5_a_rebuild_is_refused_as_the_operator_says(tmp_path, check_rebuild, outcomes):
    with scene(tmp_path, check_rebuild=check_rebuild) as nova:
        cloud = nova.cloud
        nova.say("trusted", HOST)
        servers = [cloud.create_server(nova.trusted, host=HOST) for _ in range(3)]
        plain = cloud.create_server(nova.plain, host=HOST)
        found = []
        for server, level in zip(servers, ("trusted", "unknown", "untrusted"), strict=True):
            nova.say(level, HOST)
            rebuilt = cloud.rebuild(server)
            assert rebuilt.host == HOST
            found.append(rebuilt.status)
        assert found == outcomes
        assert cloud.rebuild(plain).status == "ACTIVE"
        # The scheduler is not asked about the same image, whatever the option says.
        requests = len(nova.backend.requests)
        assert cloud.rebuild(plain, IMAGE).status == "ACTIVE"
        assert len(nova.backend.requests) == requests


@pytest.mark.parametrize(
    ("check_rebuild", "status"), [("untrusted", "ACTIVE"), ("strict", "ERROR")]
)
def test_E3_a_rebuild_while_the_backend_is_silent(tmp_path, check_rebuild, status):
    with scene(tmp_path, check_rebuild=check_rebuild) as nova:
        server = nova.cloud.create_server(nova.trusted, zone=f"nova:{HOST}")
        nova.backend.fault = cut
        assert nova.cloud.rebuild(server).status == status
