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
"""The driver ``keylime`` against a verifier of Keylime."""

import json
import time

import pytest
from oslo_config import cfg

from oat_trusted_filter.client.drivers.base import find_driver
from oat_trusted_filter.client.errors import BackendUnreachable, ClientError
from oat_trusted_filter.conf import trusted_computing
from oat_trusted_filter.scheduler.snapshot import apply_reply
from tests.functional.keylime.verifier import KeylimeVerifier

LIFETIME = 60
GET_QUOTE, GET_QUOTE_RETRY, FAILED, TERMINATED, INVALID_QUOTE = 3, 4, 7, 8, 9


@pytest.fixture(scope="module")
def verifier(tmp_path_factory):
    with KeylimeVerifier(tmp_path_factory.mktemp("keylime")) as running:
        yield running


@pytest.fixture
def make_driver(verifier):
    """A driver as nova.conf describes it."""
    made = []

    def make(**options):
        conf = cfg.ConfigOpts()
        trusted_computing.register_opts(conf)
        certificate, key = verifier.certificate
        options = {
            "driver": "keylime",
            "endpoint": verifier.endpoint,
            "attestation_server_ca_file": verifier.cacert,
            "certfile": certificate,
            "keyfile": key,
            "attestation_auth_timeout": LIFETIME,
            **options,
        }
        for name, value in options.items():
            conf.set_override(name, value, group="trusted_computing")
        driver = find_driver("keylime")
        driver.register_opts(conf)
        made.append(driver.from_conf(conf))
        return made[-1]

    yield make
    for driver in made:
        driver.close()


def verdicts(driver):
    reply = driver.get_verdicts(None, None, timeout=10.0)
    snapshot = apply_reply(None, reply, "", 300.0)
    return reply, {host: (v.level, v.reason) for host, v in snapshot.verdicts.items()}


def test_what_the_states_of_agents_come_to(verifier, make_driver):
    now = int(time.time())
    verifier.agent("attesting", GET_QUOTE, now)
    verifier.agent("retrying", GET_QUOTE_RETRY, now - 10)
    verifier.agent("new", GET_QUOTE, 0)
    verifier.agent("silent", GET_QUOTE_RETRY, now - LIFETIME - 30)
    verifier.agent("unreachable", FAILED, now)
    verifier.agent("gone", TERMINATED, now)
    verifier.agent("tampered", INVALID_QUOTE, now)
    reply, found = verdicts(make_driver())
    assert found == {
        "attesting": ("trusted", ""),
        "retrying": ("trusted", ""),
        "new": ("unknown", "keylime-not-attested"),
        "silent": ("unknown", "keylime-silent"),
        "unreachable": ("unknown", "keylime-not-attesting"),
        "gone": ("unknown", "keylime-not-attesting"),
        "tampered": ("untrusted", "keylime-invalid-quote"),
    }
    left = {lapse.host: lapse.seconds for lapse in reply.lapsing}
    assert set(left) == {"attesting", "retrying"}
    assert left["retrying"] < left["attesting"] <= LIFETIME


def test_agents_whose_id_is_not_the_name_of_their_host(verifier, make_driver, tmp_path):
    verifier.agent("d432fbb3-d2f1-4a97-9ef7-75bd81c00000", GET_QUOTE, int(time.time()))
    file = tmp_path / "agents.json"
    file.write_text(json.dumps({"d432fbb3-d2f1-4a97-9ef7-75bd81c00000": "compute-1"}))
    _, found = verdicts(make_driver(keylime_agents_file=str(file)))
    assert found == {"compute-1": ("trusted", "")}


@pytest.mark.parametrize("content", [None, "{", '["compute-1"]', '{"a": 1}'])
def test_a_file_of_agents_that_cannot_be_used_is_said(make_driver, tmp_path, content):
    file = tmp_path / "agents.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ClientError) as caught:
        make_driver(keylime_agents_file=str(file))
    assert caught.value.code == "keylime-agents-file"


def test_E3_without_a_certificate_there_is_no_answer(make_driver):
    driver = make_driver(certfile=None, keyfile=None)
    with pytest.raises(ClientError):
        driver.get_verdicts(None, None, timeout=5.0)


def test_E3_the_deadline_holds_for_both_requests(make_driver):
    driver = make_driver(endpoint="https://127.0.0.1:9")
    with pytest.raises(BackendUnreachable):
        driver.get_verdicts(None, None, timeout=1.0)
