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
"""``oat host watch``: what is written, what is asked, and when it ends."""

import json
import re

import pytest

WATCH = ("host", "watch", "--interval", "0.01")


def verdict(host, level, reason="", region=""):
    return {
        "region": region, "host": host, "level": level, "reason": reason, "tags": {},
        "service_host": None, "resource_provider": None,
    }  # fmt: skip


def reply(cursor, *hosts, full=False, deleted=(), etag=None):
    body = {
        "epoch": "e", "cursor": cursor, "lease": 30.0, "full": full, "hosts": list(hosts),
        "deleted": [{"region": "", "host": host} for host in deleted], "lapsing": [],
    }  # fmt: skip
    return {"json": body, "headers": {"ETag": etag or f'"{cursor}"'}}


UNCHANGED = {"status_code": 304, "headers": {"OAT-Lease": "30", "ETag": '"1"'}}
FIRST = reply(1, verdict("a", "trusted"), verdict("b", "unknown", "no-evidence"), full=True)
#: The last change of each test; with it the watch is over.
LAST = reply(99, verdict("a", "trusted"), verdict("b", "trusted"), full=True)


@pytest.fixture
def says(api, requests_mock):
    """The backend gives these replies, one after the other."""

    def declare(*replies):
        requests_mock.get(re.compile("/v1/verdicts"), list(replies))

    declare.asked = lambda: [
        (request.qs.get("since"), request.headers.get("If-None-Match")) for request in api.history()
    ]
    return declare


def lines(ran):
    return [line.partition(" ")[2] for line in ran.out.splitlines()]


def test_each_change_is_a_line(oat, says):
    says(
        FIRST,
        UNCHANGED,
        reply(2, verdict("a", "untrusted", "pcr-mismatch"), verdict("c", "trusted", region="r1")),
        reply(3, verdict("a", "untrusted", "pcr-mismatch")),
        reply(4, verdict("a", "untrusted", "secure-boot-off"), deleted=["b"]),
        reply(5, verdict("a", "trusted")),
    )
    ran = oat(*WATCH, "--until", "trusted")
    assert ran.status == 0
    assert ran.err == "watching 2 hosts: 1 trusted, 0 untrusted, 1 unknown\n"
    assert lines(ran) == [
        "a trusted -> untrusted pcr-mismatch",
        "r1/c none -> trusted",
        "a untrusted -> untrusted secure-boot-off",
        "b unknown -> none",
        "a untrusted -> trusted",
    ]
    assert re.match(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ a ", ran.out)
    assert says.asked()[:4] == [
        (None, None), (["e:1"], '"1"'), (["e:1"], '"1"'), (["e:2"], '"2"'),
    ]  # fmt: skip


def test_programs_get_an_object_a_line(oat, says):
    says(FIRST, reply(2, verdict("b", "trusted")))
    (change,) = map(json.loads, oat(*WATCH, "--until", "trusted", "-f", "json").out.splitlines())
    assert change.pop("time").endswith("Z")
    assert change == {
        "region": "", "host": "b", "from": "unknown", "to": "trusted", "reason": "",
    }  # fmt: skip


def test_only_hosts_that_are_asked_for(oat, says):
    says(FIRST, reply(2, verdict("a", "untrusted", "pcr-mismatch"), verdict("b", "trusted")))
    ran = oat(*WATCH, "--host", "b", "--until", "trusted")
    assert lines(ran) == ["b unknown -> trusted"]
    assert ran.err == "watching 1 hosts: 0 trusted, 0 untrusted, 1 unknown\n"


def test_a_host_nobody_knows_is_waited_for(oat, says):
    says(FIRST, reply(2, verdict("c", "trusted")))
    assert lines(oat(*WATCH, "--host", "c", "--until", "trusted")) == ["c none -> trusted"]


@pytest.mark.parametrize(
    "outage",
    [
        {"status_code": 503, "json": {"code": "database-unavailable", "detail": "it is away"}},
        {"text": "<html>"},
    ],
)
def test_an_outage_is_said_once_and_outlived(oat, says, outage):
    says(FIRST, outage, outage, LAST)
    ran = oat(*WATCH, "--until", "trusted")
    assert ran.status == 0
    _, away, back = ran.err.splitlines()
    assert re.search(r"; its verdicts count for \d+ s more$", away)
    assert back == "the backend is back"
    assert lines(ran) == ["b unknown -> trusted"]


def test_a_backend_that_is_away_at_the_start_is_an_error(oat, says):
    says({"status_code": 503, "json": {"code": "database-unavailable", "detail": "it is away"}})
    ran = oat(*WATCH)
    assert (ran.status, ran.err) == (3, "database-unavailable: it is away\n")


def test_a_credential_that_is_revoked_ends_the_watch(oat, says):
    says(FIRST, {"status_code": 401, "json": {"code": "credential-wrong", "detail": "no"}})
    ran = oat(*WATCH)
    assert ran.status == 1
    assert ran.err.splitlines()[-1].startswith("credential-wrong: no")


def test_time_that_is_over_is_a_failure_only_if_something_was_waited_for(oat, says):
    says(FIRST, UNCHANGED)
    assert oat(*WATCH, "--for", "1s").status == 0
    says(FIRST, UNCHANGED)
    ran = oat(*WATCH, "--for", "1s", "--until", "trusted")
    assert ran.status == 1
    assert ran.err.splitlines()[-1] == (
        "watch-timeout: not all hosts were trusted within 1 s"
    )  # fmt: skip


def test_verdicts_whose_lease_is_over_satisfy_nobody(oat, says):
    over = reply(1, verdict("a", "trusted"), full=True)
    over["json"]["lease"] = 0.0
    says(over, {"text": "<html>"})
    assert oat(*WATCH, "--for", "1s", "--until", "trusted").status == 1


def test_ctrl_c_ends_it_without_a_word(oat, says, monkeypatch):
    def interrupt(pause):
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", interrupt)
    says(FIRST)
    ran = oat(*WATCH)
    assert (ran.status, ran.out) == (130, "")
    assert len(ran.err.splitlines()) == 1
