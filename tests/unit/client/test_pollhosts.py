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
"""The driver ``pollhosts`` against a scripted server of the OpenAttestation era, over HTTPS."""

import datetime
import email.utils
import json

import pytest

from oat_trusted_filter.client.drivers import pollhosts
from oat_trusted_filter.client.drivers.pollhosts import PollHostsDriver
from oat_trusted_filter.client.errors import BackendUnreachable, BadReply
from oat_trusted_filter.scheduler.snapshot import apply_reply
from tests.lab import scripted_backend
from tests.lab.scripted_backend import reply

#: A server whose clock is far from that of this machine.
NOW = datetime.datetime(2016, 2, 29, 22, 29, 26, tzinfo=datetime.UTC)
LIFETIME = 60.0


class Server:
    """What the server knows, by name; a host it does not know is ``unknown`` as in 2.x."""

    def __init__(self, backend):
        self.levels = {}
        self.vtime = {}
        self.date = True
        self.body = None
        backend.fault = self.answer
        self.backend = backend

    def answer(self, handler):
        asked = json.loads(self.backend.bodies[-1])["hosts"]
        hosts = [
            {
                "host_name": name,
                "trust_lvl": self.levels.get(name, "unknown"),
                "vtime": self.vtime.get(name, "2016-02-29T22:29:26.000+0000"),
            }
            for name in asked
        ]
        headers = {"Date": email.utils.format_datetime(NOW, usegmt=True)} if self.date else {}
        # The server of the standard library adds a date of its own.
        handler.date_time_string = lambda timestamp=None: headers.get("Date", "no date")
        reply(handler, 200, {"hosts": hosts} if self.body is None else self.body)

    @property
    def asked(self):
        return [json.loads(body) for body in self.backend.bodies]


@pytest.fixture
def server(backend):
    return Server(backend)


@pytest.fixture
def driver(server, make_client):
    return PollHostsDriver(make_client(token=None, auth_blob="blob"), lifetime=LIFETIME)


def levels(answer):
    return {record.host: record.level for record in answer.hosts}


def test_the_request_is_that_of_the_old_filter(server, backend, driver):
    server.levels = {"a": "trusted", "b": "untrusted"}
    answer = driver.get_verdicts(None, None, names={"b", "a", "c"}, timeout=5.0)
    assert levels(answer) == {"a": "trusted", "b": "untrusted", "c": "unknown"}
    assert server.asked == [{"count": 3, "hosts": ["a", "b", "c"]}]
    ((path, headers),) = backend.requests
    assert path == "/OpenAttestationWebServices/V1.0/PollHosts"
    assert headers["x-auth-blob"] == "blob"
    assert headers["Content-Type"] == "application/json"


def test_the_root_of_newer_servers(server, backend, make_client):
    driver = PollHostsDriver(
        make_client(token=None), root="/AttestationService/resources", lifetime=LIFETIME
    )
    driver.get_verdicts(None, None, names={"a"}, timeout=5.0)
    assert backend.requests[0][0] == "/AttestationService/resources/PollHosts"


def test_many_hosts_are_asked_about_in_chunks(server, driver, monkeypatch):
    monkeypatch.setattr(pollhosts, "CHUNK", 2)
    server.levels = {"c": "trusted"}
    answer = driver.get_verdicts(None, None, names={"a", "b", "c"}, timeout=5.0)
    assert [asked["hosts"] for asked in server.asked] == [["a", "b"], ["c"]]
    assert levels(answer)["c"] == "trusted"


def test_an_answer_has_the_lifetime_of_the_driver_whatever_the_clocks_say(server, driver):
    server.levels = {"a": "trusted"}
    answer = driver.get_verdicts(None, None, names={"a"}, timeout=5.0)
    assert answer.lease == LIFETIME
    snapshot = apply_reply(None, answer, "", 300.0)
    assert snapshot.usable(answer.sent_at + LIFETIME - 1)
    assert not snapshot.usable(answer.sent_at + LIFETIME + 1)


def test_E2_a_level_that_is_older_ends_earlier(server, driver):
    server.levels = {"new": "trusted", "old": "trusted", "gone": "trusted"}
    server.vtime = {
        "old": "2016-02-29T22:28:46.000+0000",
        "gone": "2016-02-29T22:20:00.000+0000",
    }
    answer = driver.get_verdicts(None, None, names=set(server.levels), timeout=5.0)
    seconds = {lapse.host: round(lapse.seconds) for lapse in answer.lapsing}
    assert seconds["old"] == 20
    assert seconds["gone"] == 0


def test_the_time_as_c_writes_it(server, driver):
    server.levels = {"a": "trusted"}
    server.vtime = {"a": "Mon Feb 29 22:28:56 2016"}
    answer = driver.get_verdicts(None, None, names={"a"}, timeout=5.0)
    (lapse,) = answer.lapsing
    assert round(lapse.seconds) == 30


def test_E7_without_a_date_nobody_knows_how_old_a_level_is(server, driver):
    server.date = False
    server.levels = {"a": "trusted"}
    answer = driver.get_verdicts(None, None, names={"a"}, timeout=5.0)
    assert levels(answer) == {"a": "unknown"}


@pytest.mark.parametrize("vtime", [None, 5, "yesterday", "2016-03-01T06:29:26.000+0000"])
def test_a_level_without_a_time_counts_for_nothing(server, driver, vtime):
    server.levels = {"a": "trusted"}
    server.vtime = {"a": vtime}
    answer = driver.get_verdicts(None, None, names={"a"}, timeout=5.0)
    assert levels(answer) == {"a": "unknown"}


@pytest.mark.parametrize("level", ["timeout", "pending", "TRUSTED", "trusted "])
def test_any_other_level_is_unknown(server, driver, level):
    server.levels = {"a": level}
    answer = driver.get_verdicts(None, None, names={"a"}, timeout=5.0)
    assert levels(answer) == {"a": "unknown"}


def test_E4_an_answer_about_a_host_nobody_asked_about_counts_for_nothing(server, driver):
    server.body = {
        "hosts": [
            {"host_name": name, "trust_lvl": "trusted", "vtime": "2016-02-29T22:29:26.000+0000"}
            for name in ("A", "a.example.org", "b")
        ]
    }
    answer = driver.get_verdicts(None, None, names={"a"}, timeout=5.0)
    assert levels(answer) == {}


@pytest.mark.parametrize(
    "body", [[], {}, {"hosts": {}}, {"hosts": ["a"]}, {"hosts": [{"host_name": "a"}]}]
)
def test_E3_an_answer_of_another_form_is_none(server, driver, body):
    server.body = body
    with pytest.raises(BadReply):
        driver.get_verdicts(None, None, names={"a"}, timeout=5.0)


def test_E3_all_chunks_together_keep_the_deadline(server, backend, driver, monkeypatch):
    monkeypatch.setattr(pollhosts, "CHUNK", 1)
    backend.fault = scripted_backend.hang
    with pytest.raises(BackendUnreachable) as caught:
        driver.get_verdicts(None, None, names={"a", "b", "c"}, timeout=0.3)
    assert caught.value.code == "backend-timeout"
