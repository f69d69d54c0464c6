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
"""An enforcer that falls silent is seen."""

import pytest

from oat_trusted_filter.backend.store import enforcers

COUNTS = {"set": 3, "removed": 1, "incidents": 0}


def report(place, name="enforcer-1", **fields):
    answer = place.call("PUT", f"/v1/enforcers/{name}", {"leader": True, "counts": COUNTS} | fields)
    return answer.status_code, answer.json


def known(place):
    return place.get("/v1/enforcers")["enforcers"]


def left_alone(place):
    with place.store.read() as connection:
        return enforcers.regions_left_alone(connection, place.clock())


def test_a_report_is_shown(place):
    assert known(place) == []
    status, said = report(place)
    assert status == 200
    assert known(place) == [said]
    assert said == {
        "region": "",
        "name": "enforcer-1",
        "leader": True,
        "silent": False,
        "reported_at": "2027-01-15T08:00:00.000Z",
        "counts": COUNTS,
    }


def test_the_last_report_counts(place):
    report(place)
    place.clock.pass_by(30)
    report(place, leader=False, counts={"set": 4})
    (only,) = known(place)
    assert (only["leader"], only["counts"]) == (False, {"set": 4})
    assert only["reported_at"] == "2027-01-15T08:00:30.000Z"


def test_an_enforcer_that_does_not_report_is_silent_and_its_region_left_alone(place):
    report(place)
    report(place, "enforcer-2", leader=False)
    report(place, region="north")
    assert left_alone(place) == []
    place.clock.pass_by(60)
    report(place, region="north")
    report(place, "enforcer-2", leader=False)
    place.clock.pass_by(31)
    assert [(one["region"], one["name"], one["silent"]) for one in known(place)] == [
        ("", "enforcer-1", True),
        ("", "enforcer-2", False),
        ("north", "enforcer-1", False),
    ]
    assert left_alone(place) == [""]
    report(place, "enforcer-2", leader=True)
    assert left_alone(place) == []


def test_who_is_gone_for_a_week_is_forgotten_as_another_one_comes(place):
    report(place)
    place.clock.pass_by(7 * 24 * 3600 + 1)
    report(place, "enforcer-2")
    assert [one["name"] for one in known(place)] == ["enforcer-2"]


def test_a_token_cannot_fill_the_table(place, monkeypatch):
    monkeypatch.setattr(enforcers, "MOST_ENFORCERS", 3)
    outcomes = [report(place, f"enforcer-{n}") for n in range(4)]
    assert [status for status, _ in outcomes] == [200, 200, 200, 409]
    assert outcomes[3][1]["code"] == "too-many-enforcers"
    assert report(place, "enforcer-0")[0] == 200


@pytest.mark.parametrize(
    "fields",
    [
        {"leader": 1},
        {"counts": {"set": -1}},
        {"counts": {"set": 2**60}},
        {"counts": {"Set": 1}},
        {"counts": {"x" * 40: 1}},
        {"counts": {f"c{'x' * n}": 1 for n in range(31)} | {f"d{'x' * n}": 1 for n in range(9)}},
        {"counts": None},
        {"region": "no\nrth"},
    ],
)
def test_C5_what_does_not_fit_is_refused(place, fields):
    status, problem = report(place, **fields)
    assert (status, problem["code"]) == (400, "field-invalid")
    assert known(place) == []


@pytest.mark.parametrize("name", ["a b", "%0A", "%C3%A9", "x" * 300])
def test_B8_a_name_is_plain(place, name):
    assert report(place, name)[0] == 400
