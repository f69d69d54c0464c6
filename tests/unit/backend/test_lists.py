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
"""Lists part by part, filtered and sorted."""

import datetime
from urllib.parse import urlsplit

import pytest

from tests.lab.makers import authority


@pytest.fixture
def cloud(place):
    """Seven approved hosts in two regions, one of them trusted, and one that is registered."""
    machines = [
        place.approved_host(f"node-{number}", region="b" if number % 2 else "a")
        for number in range(7)
    ]
    machines[0].attest()
    answer = place.call(
        "POST", "/v1/hosts", {"host": "node-9", "ek_fingerprint": "9" * 64, "region": "a"}
    )
    assert answer.status_code == 201
    return place


def names(hosts):
    return [host["host"][-1] for host in hosts]


def walked(place, path, noun="hosts"):
    """All parts of a list, by its links."""
    parts = []
    while path:
        answer = place.get(path)
        parts.append(answer[noun])
        links = {link["rel"]: urlsplit(link["href"]) for link in answer.get("links", ())}
        following = links.get("next")
        path = following and f"{following.path}?{following.query}"
    return parts


@pytest.mark.parametrize(
    ("query", "order"),
    [
        ("", "02469135"), ("sort=-host", "53196420"), ("sort=created_at", "01234569"),
        ("sort=-created_at", "96543210"), ("region=b", "135"), ("state=registered", "9"),
        ("level=untrusted", "0"), ("state=approved&level=unknown&region=a", "246"),
        ("sort=-state", "96543210"),
    ],
)  # fmt: skip
def test_parts_make_the_whole(cloud, query, order):
    assert names(cloud.get(f"/v1/hosts?{query}")["hosts"]) == list(order)
    for limit in (1, 3, 100):
        parts = walked(cloud, f"/v1/hosts?{query}&limit={limit}")
        assert names(host for part in parts for host in part) == list(order)
        assert all(len(part) <= limit for part in parts)


def test_a_list_goes_on_after_a_host_that_came_or_went(cloud):
    first = cloud.get("/v1/hosts?limit=3")
    cloud.approved_host("node-3", region="a")
    cloud.call("DELETE", "/v1/hosts/node-6")
    url = urlsplit(first["links"][0]["href"])
    assert names(cloud.get(f"{url.path}?{url.query}&limit=100".replace("limit=3&", ""))["hosts"])
    marker = cloud.get("/v1/hosts/node-0")["id"]
    cloud.call("DELETE", "/v1/hosts/node-0")
    answer = cloud.call("GET", f"/v1/hosts?marker={marker}")
    assert (answer.status_code, answer.json["code"]) == (400, "marker-unknown")


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=1001", "limit=x", "marker=x", "marker=-1", "sort=evil", "level=good",
     "state=", "limit=1&limit=2", "sort=host%27--"],
)  # fmt: skip
def test_a_query_that_is_none(place, query):
    answer = place.call("GET", f"/v1/hosts?{query}")
    assert (answer.status_code, answer.json["code"]) == (400, "field-invalid")


def test_a_list_of_authorities(place_maker, tmp_path):
    (tmp_path / "ek-ca").mkdir()
    for name in "abc":
        made = authority(name, end=datetime.datetime(2030, 1, ord(name) - 96, tzinfo=datetime.UTC))
        (tmp_path / "ek-ca" / f"{name}.pem").write_bytes(made.pem)
    place = place_maker(ek_ca_dir=tmp_path / "ek-ca")
    for query, order in (("", "abc"), ("sort=-valid_until&", "cba")):
        parts = walked(place, f"/v1/ek-authorities?{query}limit=2", "ek_authorities")
        assert [item["subject"][-1] for part in parts for item in part] == list(order)
    answer = place.call("GET", f"/v1/ek-authorities?marker={'0' * 64}")
    assert (answer.status_code, answer.json["code"]) == (400, "marker-unknown")


def test_lists_of_names(place):
    for name in "cab":
        body = {"requirements": [{"kind": "platform", "pcrs": [0]}]}
        assert place.call("PUT", f"/v1/policies/{name}", body).status_code == 200
    for query, order in (("", "a b c default"), ("sort=-name&", "default c b a")):
        parts = walked(place, f"/v1/policies?{query}limit=2", "policies")
        assert [policy["name"] for part in parts for policy in part] == order.split()
    answer = place.call("GET", "/v1/policies?marker=z")
    assert (answer.status_code, answer.json["code"]) == (400, "marker-unknown")
    assert place.get("/v1/reference-sets?kind=platform&limit=1")["reference_sets"] == []
