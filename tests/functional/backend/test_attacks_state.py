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
"""Attacks on what relying parties hear, over HTTPS and in real time."""

import pytest

from tests.functional.backend.wire import Wire
from tests.lab.wait import wait_for

SHORT = {
    ("attestation", "verdict_lifetime"): 3,
    ("attestation", "challenge_lifetime"): 2,
    ("attestation", "interval"): 1,
}


@pytest.fixture
def wire(backend_maker):
    with backend_maker(SHORT) as backend:
        made = Wire(backend)
        yield made
        made.store.close()


def test_E2_E11_a_lapse_nobody_announces_and_cursors_of_another_time(wire):
    host = wire.approved_host("soft")
    host.attest()
    wire.trust(host)
    assert host.attest() == "trusted"
    whole = wire.operate("GET", "/v1/verdicts")
    assert [item["level"] for item in whole["hosts"]] == ["trusted"]
    # Nobody writes to the database from here on.
    since = f"/v1/verdicts?since={whole['epoch']}:{whole['cursor']}"

    def lapsed():
        answer = wire.call("GET", since, token=wire.token)
        if answer.status_code == 304:
            return None
        return [item.get("reason") for item in answer.json["hosts"]] == ["verdict-lapsed"]

    wait_for(lapsed, 15, "the lapse")
    assert wire.show(host)["level"] == "unknown"
    for cursor in ("another-epoch:1", f"{whole['epoch']}:999999999"):
        body = wire.operate("GET", f"/v1/verdicts?since={cursor}")
        assert (body["full"], len(body["hosts"])) == (True, 1)
    assert host.attest() == "trusted"
