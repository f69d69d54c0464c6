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
"""What one address may ask for, and what the address of a request is."""

import ipaddress

import pytest
from sqlalchemy import func, select

from oat_trusted_filter.backend.api import limits
from oat_trusted_filter.backend.api.limits import Limit
from oat_trusted_filter.backend.api.problems import Problem
from oat_trusted_filter.backend.store.tables import metadata

PROXIES = tuple(map(ipaddress.ip_network, ("192.0.2.0/24", "2001:db8::/64")))
PROXY = "192.0.2.1"


@pytest.fixture
def place(place_maker):
    return place_maker(challenges_per_minute=5, enrolments_per_minute=2, proxies=PROXIES)


def ask(place, address, path="/v1/challenges", **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return place.call("POST", path, {"host": "node-1"}, remote_addr=address, headers=headers)


def rows(place):
    with place.store.read() as connection:
        return {
            table.name: connection.scalar(select(func.count()).select_from(table))
            for table in metadata.sorted_tables
        }


def test_C4_a_flood_from_one_address(place):
    before = rows(place)
    for path, most in (("/v1/challenges", 5), ("/v1/enrolments", 2)):
        answers = [ask(place, "198.51.100.1", path) for _ in range(20)]
        assert [answer.status_code for answer in answers[most:]] == [429] * (20 - most)
        assert all(answer.status_code < 429 for answer in answers[:most])
        assert answers[-1].json["code"] == "too-many-requests"
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
        # Nobody else is held up, not even the host that was asked for.
        assert ask(place, "198.51.100.2", path).status_code < 429
    assert rows(place) == before


def test_C4_secrets_of_enrolments_that_nobody_began(place):
    before = rows(place)
    answers = [
        place.call("PUT", f"/v1/enrolments/{path}", {"secret": "AA"}, remote_addr="198.51.100.1")
        for path in ("0" * 48, "%00", *["ab"] * 5)
    ]
    found = [(answer.status_code, answer.json["code"]) for answer in answers]
    assert found == [(404, "enrolment-unknown")] * 2 + [(429, "too-many-requests")] * 5
    assert rows(place) == before


@pytest.mark.every_database
def test_C5_an_id_of_an_enrolment_is_looked_for_without_writing(place_maker):
    place = place_maker()

    def forbidden(work):
        raise AssertionError("a stranger makes the service write")

    place.store.write = forbidden
    for path in ("%00", "0" * 48, "'%20OR%201=1", "%F0%9F%94%91", "9" * 5000):
        answer = place.call("PUT", f"/v1/enrolments/{path}", {"secret": "AA"})
        assert (answer.status_code, answer.json["code"]) == (404, "enrolment-unknown")


def test_C4_asking_in_the_name_of_a_host_does_not_starve_it(place):
    host = place.approved_host("node-1")
    challenge = ask(place, "198.51.100.9").json["challenge"]
    for _ in range(50):
        ask(place, "198.51.100.1")
    assert host.submit(host.evidence(challenge)).status_code == 200


def test_C4_this_machine_has_no_limit(place):
    assert {ask(place, "127.0.0.1").status_code for _ in range(20)} == {200}
    assert {ask(place, "::1").status_code for _ in range(20)} == {200}


def test_C4_an_address_is_what_the_proxy_says(place):
    for number in range(20):
        answer = ask(place, PROXY, X_Forwarded_For=f"198.51.100.{number}")
        assert answer.status_code == 200
    # What stands before the address our proxy has seen, the client has written itself.
    codes = [
        ask(place, PROXY, X_Forwarded_For=f"203.0.113.{number}, 198.51.100.77").status_code
        for number in range(10)
    ]
    assert codes == [200] * 5 + [429] * 5
    chain = "198.51.100.78, 192.0.2.9, 2001:db8::1"
    codes = [ask(place, PROXY, X_Forwarded_For=chain).status_code for _ in range(6)]
    assert codes == [200] * 5 + [429]


def test_C4_others_cannot_choose_their_address(place):
    codes = [
        ask(place, "198.51.100.1", X_Forwarded_For=f"203.0.113.{number}").status_code
        for number in range(10)
    ]
    assert codes == [200] * 5 + [429] * 5


def test_a_network_of_ipv6_is_one_client(place):
    codes = [ask(place, f"2001:db8:1:2::{number:x}").status_code for number in range(1, 8)]
    assert codes == [200] * 5 + [429] * 2
    assert ask(place, "2001:db8:1:3::1").status_code == 200


class Asker:
    def __init__(self, address):
        self.env = {"REMOTE_ADDR": address}


def test_what_was_used_comes_back_evenly():
    now = [0.0]
    limit = Limit(60, lambda: now[0])
    for _ in range(60):
        limit.count(Asker("198.51.100.1"))
    with pytest.raises(Problem) as caught:
        limit.count(Asker("198.51.100.1"))
    assert caught.value.headers == {"Retry-After": "1"}
    now[0] = 1.0
    limit.count(Asker("198.51.100.1"))


def test_C4_a_flood_from_many_addresses_is_bounded_in_memory(monkeypatch):
    monkeypatch.setattr(limits, "MOST_ADDRESSES", 100)
    limit = Limit(5)
    for number in range(1000):
        limit.count(Asker(f"198.51.{number // 250}.{number % 250}"))
    assert len(limit._used) == 100


@pytest.mark.parametrize(
    ("headers", "href"),
    [
        ({"X-Forwarded-Prefix": "/trust", "X-Forwarded-Host": "cloud.example.org",
          "X-Forwarded-Proto": "https"}, "https://cloud.example.org/trust/v1/"),
        ({"X-Forwarded-Host": "[2001:db8::9]:8443"}, "http://[2001:db8::9]:8443/v1/"),
        ({"X-Forwarded-Prefix": "/../x", "X-Forwarded-Host": "a b", "X-Forwarded-Proto": "ftp"},
         "http://falconframework.org/v1/"),
    ],
)  # fmt: skip
def test_behind_a_proxy_links_are_those_of_the_proxy(place, headers, href):
    for address, wanted in ((PROXY, href), ("198.51.100.9", "http://falconframework.org/v1/")):
        shown = place.get("/", headers=headers, remote_addr=address)
        assert shown["versions"][0]["links"][0]["href"] == wanted


def test_a_prefix_the_proxy_leaves_on_the_path(place):
    headers = {"X-Forwarded-Prefix": "/trust"}
    assert place.get("/trust/v1/policies", headers=headers, remote_addr=PROXY)["policies"]
