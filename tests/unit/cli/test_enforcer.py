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
"""``oat enforcer``."""

import json

ENFORCER = {
    "region": "",
    "name": "control-1",
    "leader": True,
    "silent": False,
    "reported_at": "2026-01-01T00:00:00.000Z",
    "counts": {"set": 3, "removed": 0, "incidents": 1},
}


def test_a_list_says_who_acts_and_who_is_silent(oat, api):
    silent = ENFORCER | {"name": "control-2", "leader": False, "silent": True}
    api("GET", "/v1/enforcers", json={"enforcers": [ENFORCER, silent]})
    ran = oat("enforcer", "list")
    assert ran.status == 0
    cells = [[part.strip() for part in line.split("|")[1:-1]] for line in ran.out.splitlines()]
    assert cells[1] == ["Name", "Region", "Leader", "Silent", "Reported At", "Counts"]
    assert cells[3] == ["control-1", "", "yes", "no", ENFORCER["reported_at"], "3 set, 1 incidents"]
    assert cells[4][:4] == ["control-2", "", "no", "yes"]


def test_a_part_of_the_list_is_asked_for(oat, api):
    api("GET", "/v1/enforcers", json={"enforcers": [ENFORCER]})
    assert oat("enforcer", "list", "--limit", "1", "--marker", "/control-0").status == 0
    assert api.history()[0].qs == {"limit": ["1"], "marker": ["/control-0"]}
    assert oat("enforcer", "list", "--limit", "0").status == 2


def test_a_list_for_programs_has_the_fields_of_the_api(oat, api):
    api("GET", "/v1/enforcers", json={"enforcers": [ENFORCER]})
    assert json.loads(oat("enforcer", "list", "-f", "json").out) == [ENFORCER]
