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
"""``oat filter explain`` and ``oat host compare-nova``, with the APIs of Keystone and Nova."""

import json

import pytest


@pytest.fixture
def hypervisors(cloud):
    def there_are(*names):
        listed = [{"id": f"uuid-{name}", "hypervisor_hostname": name} for name in names]
        cloud("/os-hypervisors?limit=1000", json={"hypervisors": listed})

    return there_are


@pytest.fixture
def verdicts(api):
    def are(**levels):
        hosts = [
            {"region": "", "host": host, "level": level, "reason": reason, "tags": {},
             "service_host": None, "resource_provider": None}
            for host, (level, reason) in levels.items()
        ]  # fmt: skip
        body = {
            "epoch": "e",
            "cursor": 1,
            "lease": 30.0,
            "full": True,
            "hosts": hosts,
            "deleted": [],
            "lapsing": [],
        }
        api("GET", "/v1/verdicts", json=body)

    are(good=("trusted", ""), bad=("untrusted", "pcr-mismatch"))
    return are


def rows(ran):
    assert ran.status == 0, ran.err
    return json.loads(ran.out)


def test_the_filter_is_asked_about_extra_specs(oat, verdicts):
    ran = oat("filter", "explain", "--property", "trust:trusted_host=trusted", "-f", "json")
    assert rows(ran) == [
        {
            "host": "bad",
            "passes": False,
            "level": "untrusted",
            "reason": "untrusted (pcr-mismatch)",
        },
        {"host": "good", "passes": True, "level": "trusted", "reason": ""},
    ]
    assert ran.err == "1 of 2 hosts pass; 1 untrusted (pcr-mismatch)\n"


def test_the_filter_is_asked_about_one_host(oat, verdicts):
    ran = oat(
        "filter", "explain", "--property", "trust:trusted_host=trusted", "--host", "stranger",
        "-f", "value",
    )  # fmt: skip
    assert ran.out == "stranger no unknown unknown (not-enrolled)\n"


def test_the_filter_is_asked_about_a_flavor_and_the_hypervisors_of_nova(
    oat, verdicts, cloud, hypervisors
):
    hypervisors("good", "bad", "stranger")
    specs = {"trust:trusted_host": "trusted"}
    cloud("/flavors/gold", status_code=404, json={"itemNotFound": {}})
    cloud(
        "/flavors/detail?is_public=None",
        json={"flavors": [{"id": "7", "name": "gold", "extra_specs": specs}]},
    )
    ran = oat("filter", "explain", "--flavor", "gold", "-f", "json")
    assert [(row["host"], row["passes"]) for row in rows(ran)] == [
        ("bad", False),
        ("good", True),
        ("stranger", False),
    ]
    assert ran.err.startswith("1 of 3 hosts pass; 1 unknown (not-enrolled)")


def test_a_flavor_that_asks_for_nothing_passes_everywhere(oat, verdicts, cloud, hypervisors):
    hypervisors("bad")
    cloud("/flavors/7", json={"flavor": {"id": "7", "name": "plain", "extra_specs": {}}})
    ran = oat("filter", "explain", "--flavor", "7", "-f", "json")
    assert [row["passes"] for row in rows(ran)] == [True]
    assert "asks for no trust" in ran.err


def test_E6_an_extra_spec_nobody_understands_is_said(oat, verdicts):
    ran = oat("filter", "explain", "--property", "trust:trusted_host=yes")
    assert ran.status == 1
    assert "extra-spec-invalid: the flavor has trust:trusted_host='yes'" in ran.err


def test_a_flavor_there_is_not_is_said(oat, verdicts, cloud):
    cloud("/flavors/none", status_code=404, json={})
    cloud("/flavors/detail?is_public=None", json={"flavors": []})
    ran = oat("filter", "explain", "--flavor", "none")
    assert (ran.status, ran.err) == (1, "flavor-unknown: Nova has no flavor none\n")


@pytest.mark.parametrize(
    ("reply", "status", "code"),
    [
        ({"status_code": 403, "text": "no"}, 1, "nova-refused"),
        ({"status_code": 200, "text": "<html>"}, 3, "is not Nova"),
    ],
)
def test_a_nova_that_does_not_answer_as_it_should_is_said(oat, cloud, reply, status, code):
    cloud("/os-hypervisors?limit=1000", **reply)
    ran = oat("host", "compare-nova")
    assert ran.status == status
    assert code in ran.err
    assert "Traceback" not in ran.err


def test_without_a_cloud_in_the_environment_it_is_said(oat, monkeypatch, tmp_path):
    for name in ("CLOUD", "AUTH_URL"):
        monkeypatch.delenv(f"OS_{name}", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    ran = oat("host", "compare-nova")
    assert ran.status == 2
    assert "which cloud?" in ran.err


def test_what_nova_and_the_backend_know_differently(oat, api, hypervisors):
    hypervisors("both", "new", "waiting", "expected", "rebound")
    known = [
        ("both", "approved"),
        ("waiting", "pending"),
        ("expected", "registered"),
        ("rebound", "approved"),
        ("rebound", "pending"),
        ("gone", "approved"),
    ]
    hosts = [{"region": "", "host": host, "state": state} for host, state in known]
    other = {"region": "other", "host": "elsewhere", "state": "approved"}
    api("GET", "/v1/hosts", json={"hosts": [*hosts, other]})
    assert rows(oat("host", "compare-nova", "-f", "json")) == [
        {"host": "expected", "difference": "waits-for-agent"},
        {"host": "gone", "difference": "no-hypervisor"},
        {"host": "new", "difference": "not-enrolled"},
        {"host": "waiting", "difference": "waits-for-approval"},
    ]


def test_all_pages_of_hypervisors_are_read(oat, api, cloud):
    first = [{"id": f"u{n}", "hypervisor_hostname": f"h{n:04}"} for n in range(1000)]
    cloud("/os-hypervisors?limit=1000", json={"hypervisors": first})
    cloud(
        "/os-hypervisors?limit=1000&marker=u999",
        json={"hypervisors": [{"id": "u1000", "hypervisor_hostname": "h1000"}]},
    )
    api("GET", "/v1/hosts", json={"hosts": []})
    assert len(rows(oat("host", "compare-nova", "-f", "json"))) == 1001
