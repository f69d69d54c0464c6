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
"""``oat host history``, ``oat host diff`` and ``oat report``."""

import json

import pytest


def report(number, **fields):
    return {
        "id": str(number), "region": "", "host": "node-1", "at": "2026-01-01T00:00:00.000Z",
        "confirmed_until": None, "cause": "evidence", "level": "untrusted", "reason": "x",
        "findings": [{"code": "x", "message": "PCR 4 differs"}], "reference_sets": [],
        "policy": "", "rules": 1, "boot_log_digest": None,
    } | fields  # fmt: skip


def test_history_page_by_page(oat, api):
    pages = [
        {"json": {"reports": [report(3), report(2)], "marker": "2"}},
        {"json": {"reports": [report(1)], "marker": None}},
    ]
    api("GET", "/v1/reports", response_list=pages)
    ran = oat("host", "history", "node-1", "-f", "json")
    assert [row["id"] for row in json.loads(ran.out)] == ["3", "2", "1"]
    assert "marker=2" in api.history()[1].query


def test_history_for_people_says_why(oat, api):
    api("GET", "/v1/reports", json={"reports": [report(3)], "marker": None})
    assert "PCR 4 differs" in oat("host", "history", "node-1").out


DIFFERENCES = {
    "pcrs": [{"bank": "sha256", "pcr": 4, "before": "aa", "after": "bb"}],
    "facts": [{"fact": "secure_boot", "before": True, "after": False}],
    "events": {
        "removed": [],
        "added": [{"pcr": 4, "type": "EV_X", "description": "x.efi", "digest": "cc", "number": 7}],
        "reordered": [5],
    },
}


@pytest.mark.parametrize(
    ("words", "queries"),
    [
        (("--at", "2026-01-01T00:00:00"), ["until=2026-01-01t00%3a00%3a00%2b00%3a00", ""]),
        (("--other", "node-2"), ["host=node-1", "host=node-2"]),
    ],
)
def test_diff(oat, api, words, queries):
    api("GET", "/v1/reports", response_list=[
        {"json": {"reports": [report(1)], "marker": None}},
        {"json": {"reports": [report(2)], "marker": None}},
    ])  # fmt: skip
    api("GET", "/v1/reports/1/differences/2", json=DIFFERENCES)
    ran = oat("host", "diff", "node-1", *words, "-f", "json")
    rows = json.loads(ran.out)
    assert [(row["kind"], row["before"], row["after"]) for row in rows] == [
        ("pcr", "aa", "bb"), ("fact", True, False), ("event", None, "cc"), ("event", None, None),
    ]  # fmt: skip
    for request, query in zip(api.history(), queries, strict=False):
        assert query in request.query


def test_a_host_without_reports(oat, api):
    api("GET", "/v1/reports", json={"reports": [], "marker": None})
    ran = oat("host", "diff", "node-9", "--at", "2026-01-01")
    assert ran.status == 1
    assert "node-9" in ran.err


@pytest.mark.parametrize(
    "words", [(), ("--at", "yesterday"), ("--at", "2026-01-01", "--other", "x"),
              ("--other", "x", "--to", "2026-01-01")],
)  # fmt: skip
def test_wrong_use(oat, words):
    assert oat("host", "diff", "node-1", *words).status == 2


def test_a_report_and_its_appraisal(oat, api):
    api("GET", "/v1/reports/7", json=report(7) | {"evidence_of": "7", "signed": True, "pcrs": {}})
    assert "PCR 4 differs" in oat("report", "show", "7").out
    answer = {"level": "untrusted", "findings": [], "same": True, "signature": "verified"}
    api("GET", "/v1/reports/7/appraisal", json=answer)
    assert json.loads(oat("report", "appraise", "7", "-f", "json").out) == answer
