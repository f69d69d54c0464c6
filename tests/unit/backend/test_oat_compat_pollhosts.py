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
"""PollHosts as the clients of OpenAttestation send it and read its answer."""

import datetime
import ipaddress
import json
import re

import pytest
from oslo_config import cfg

from oat_trusted_filter.backend.api.oat_compat.routes import OAT_ROUTES
from oat_trusted_filter.backend.manage.credentials import create_token
from oat_trusted_filter.backend.settings import OatCompat, Settings, StartError
from oat_trusted_filter.backend.store.credentials import SERVICE
from oat_trusted_filter.conf import backend as backend_conf

OVIRT = "192.0.2.10"
STRANGER = "198.51.100.1"
OAT_1_5 = "/OpenAttestationWebServices/V1.0/PollHosts"
OAT_2 = "/AttestationService/resources/PollHosts"
WLM = "/WLMService/resources/PollHosts"
JSON = {"Content-Type": "application/json", "Accept": "application/json"}
#: What each client takes of ``vtime``; CommandTool only prints it.
VTIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+0000")


@pytest.fixture
def place(place_maker):
    """A service that asks for credentials, except of one oVirt engine."""
    compat = OatCompat(pollhosts_from=(ipaddress.ip_network(f"{OVIRT}/32"),))
    return place_maker(auth_strategy="http_basic", oat_compat=compat)


@pytest.fixture
def hosts(operator):
    """A trusted and an untrusted host, one that is silent, and one that only waits."""
    good = operator.approved_host("good.example.org", boot="machine-a")
    bad = operator.approved_host("bad.example.org", boot="machine-a-loader")
    operator.approved_host("silent")
    assert good.attest() == "untrusted"
    operator.trust(good)
    assert (good.attest(), bad.attest()) == ("trusted", "untrusted")
    return good, bad


def poll(place, body, address=OVIRT, path=OAT_2, **headers):
    headers = JSON | {name.replace("_", "-"): value for name, value in headers.items()}
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return place.client.simulate_post(path, headers=headers, body=body, remote_addr=address)


def levels(answer):
    assert answer.status_code == 200, answer.text
    return [(item["host_name"], item["trust_lvl"]) for item in answer.json["hosts"]]


def vtime_of(item):
    """As the old filter reads it."""
    return datetime.datetime.strptime(item["vtime"], "%Y-%m-%dT%H:%M:%S.%f%z").timestamp()


# -- what clients send ------------------------------------------------------------------------


def test_ovirt_4_3(place, hosts):
    """Names by hand into the body, no count, no credential, Host without a port."""
    answer = poll(
        place,
        b'{"hosts":["bad.example.org","good.example.org"]}',
        User_Agent="Jakarta Commons-HttpClient/3.1",
        Host="attest.example.org",
    )
    # It reads host_name and trust_lvl, and these levels only.
    assert levels(answer) == [("bad.example.org", "untrusted"), ("good.example.org", "trusted")]
    assert {item["trust_lvl"].upper() for item in answer.json["hosts"]} <= {
        "UNTRUSTED", "TRUSTED", "UNKNOWN", "TIMEOUT", "UNINITIALIZED",
    }  # fmt: skip


def test_ovirt_4_3_activates_one_host(place, hosts):
    answer = poll(place, b'{"hosts":["good.example.org"]}')
    assert levels(answer) == [("good.example.org", "trusted")]


def test_the_last_filter_of_nova(place, hosts):
    """A count in the body, x-auth-blob for a credential; it wants an object with three keys."""
    token = create_token(place.store, "nova", SERVICE)
    names = ["good.example.org", "bad.example.org", "nobody"]
    answer = poll(
        place, {"count": len(names), "hosts": names}, STRANGER, OAT_1_5, x_auth_blob=token
    )  # fmt: skip
    assert isinstance(answer.json, dict)
    assert levels(answer) == list(zip(names, ["trusted", "untrusted", "unknown"], strict=True))
    for item in answer.json["hosts"]:
        assert item.keys() == {"host_name", "trust_lvl", "vtime"}
        # An older one makes it ask about all its hosts again, for each host it looks at.
        assert 0 <= place.clock() / 1000 - vtime_of(item) < 60


def test_oat_pollhosts_of_commandtool(place, hosts):
    """The body is what the user typed."""
    answer = poll(place, b'{"hosts": ["good.example.org"]}')
    vtime = answer.json["hosts"][0]["vtime"]
    assert VTIME.fullmatch(vtime)
    assert answer.text == (
        '{"hosts":[{"host_name":"good.example.org","trust_lvl":"trusted",'
        f'"vtime":"{vtime}"}}]}}'
    )
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("path", [OAT_1_5, OAT_2, WLM])
def test_it_is_under_every_root(place, hosts, path):
    answer = poll(place, {"count": 1, "PCRmask": "FFFF", "hosts": ["silent"]}, path=path)
    assert levels(answer) == [("silent", "unknown")]


def test_fields_of_other_releases_do_not_matter(place, hosts):
    body = {
        "hosts": ["good.example.org"], "count": 7, "pcrmask": "0", "timeThreshold": 1, "x": None,
    }  # fmt: skip
    assert levels(poll(place, body)) == [("good.example.org", "trusted")]


# -- what they are answered -------------------------------------------------------------------


def test_order_and_spelling_are_those_of_the_request(place, hosts):
    names = [
        "nobody", "good", "GOOD.example.org", "good.example.org", "good", "", " good ", "\u00e9",
    ]  # fmt: skip
    told = ["unknown", "trusted", "unknown", "trusted", "trusted", *["unknown"] * 3]
    assert levels(poll(place, {"hosts": names})) == list(zip(names, told, strict=True))


def test_no_host_and_a_single_one(place, hosts):
    assert poll(place, {"hosts": []}).text == '{"hosts":[]}'
    assert levels(poll(place, {"hosts": "silent"})) == [("silent", "unknown")]


def test_a_short_name_and_a_full_one_are_the_same_host_if_no_other_can_be_meant(place, operator):
    good = operator.approved_host("node-1")
    full = operator.approved_host("node-2.example.org")
    for host in (good, full):
        host.attest()
    operator.trust(good)
    assert levels(poll(place, {"hosts": ["node-1.example.org", "node-2", "node-2.other.org"]})) == [
        ("node-1.example.org", "trusted"),
        ("node-2", "trusted"),
        ("node-2.other.org", "unknown"),
    ]
    operator.approved_host("node-1.other.org")
    operator.approved_host("node-2.other.org")
    assert levels(
        poll(place, {"hosts": ["node-1.example.org", "node-1", "node-2", "node-2.other.org"]})
    ) == [
        ("node-1.example.org", "unknown"),
        ("node-1", "trusted"),
        ("node-2", "unknown"),
        ("node-2.other.org", "unknown"),
    ]


def test_an_address_has_no_short_name(place, operator):
    host = operator.approved_host("192")
    host.attest()
    operator.trust(host)
    assert levels(poll(place, {"hosts": ["192.0.2.77", "192"]})) == [
        ("192.0.2.77", "unknown"),
        ("192", "trusted"),
    ]


def test_a_name_in_two_regions_is_nobody_but_to_a_token_of_one(place, operator):
    there = operator.approved_host("node-1", region="there")
    there.attest()
    operator.trust(there)
    assert levels(poll(place, {"hosts": ["node-1"]})) == [("node-1", "trusted")]
    operator.approved_host("node-1", region="here")
    assert levels(poll(place, {"hosts": ["node-1"]})) == [("node-1", "unknown")]
    for region, level in (("here", "unknown"), ("there", "trusted"), ("elsewhere", "unknown")):
        token = create_token(place.store, region, SERVICE, region=region)
        answer = poll(place, {"hosts": ["node-1"]}, STRANGER, x_auth_blob=token)
        assert levels(answer) == [("node-1", level)]


def test_a_host_that_only_waits_is_unknown(place, operator):
    operator.call("POST", "/v1/hosts", {"host": "announced", "ek_fingerprint": "ab" * 32})
    assert levels(poll(place, {"hosts": ["announced"]})) == [("announced", "unknown")]


def test_a_change_shows_at_once(place, operator, hosts):
    good, _ = hosts
    asked = {"hosts": ["good.example.org"]}
    assert levels(poll(place, asked)) == [("good.example.org", "trusted")]
    good.boot("machine-a-loader")
    good.attest()
    assert levels(poll(place, asked)) == [("good.example.org", "untrusted")]
    operator.call("DELETE", "/v1/hosts/good.example.org")
    assert levels(poll(place, asked)) == [("good.example.org", "unknown")]


def test_no_client_holds_on_to_a_verdict_past_its_end(place, hosts):
    """A minute from vtime on is what the old filter does."""
    asked = {"hosts": ["good.example.org", "nobody"]}
    ends = place.clock() / 1000 + place.settings.verdict_lifetime
    for seconds in (0, 200, 50, 30, 19):
        place.clock.pass_by(seconds)
        now = place.clock() / 1000
        good, nobody = poll(place, asked).json["hosts"]
        assert good["trust_lvl"] == "trusted"
        assert vtime_of(nobody) == pytest.approx(now, abs=0.002)
        assert vtime_of(good) == pytest.approx(min(now, ends - 60), abs=0.002)
        assert now - vtime_of(good) < 60
    place.clock.pass_by(2)
    assert levels(poll(place, asked))[0] == ("good.example.org", "unknown")


# -- who may ask, and what is no question -----------------------------------------------------


def test_it_is_off_unless_it_is_turned_on(operator):
    for route in OAT_ROUTES:
        answer = operator.call(route.method, route.path)
        assert answer.status_code == 404


def configured(path, **options):
    path.write_text("[oat_compat]\n" + "".join(f"{key} = {options[key]}\n" for key in options))
    conf = cfg.ConfigOpts()
    backend_conf.register_opts(conf)
    conf([], default_config_files=[str(path)], default_config_dirs=[])
    return Settings.from_conf(conf).oat_compat


def test_what_the_configuration_says(tmp_path):
    path = tmp_path / "oat.conf"
    assert configured(path, pollhosts_from=OVIRT) is None
    compat = configured(path, enabled=True, pollhosts_from=f"{OVIRT} , 2001:db8::/64")
    assert [str(network) for network in compat.pollhosts_from] == [f"{OVIRT}/32", "2001:db8::/64"]
    assert (compat.readers_from, compat.allow_writes, compat.writers_from) == ((), False, ())
    for name in ("pollhosts_from", "readers_from", "writers_from"):
        with pytest.raises(StartError, match=rf"\[oat_compat\] {name}: .*nonsense") as caught:
            configured(path, enabled=True, **{name: "nonsense"})
        assert caught.value.code == "configuration"


def test_other_ports(tmp_path):
    path = tmp_path / "oat.conf"
    compat = configured(path, enabled=True)
    assert (compat.tls_ports, compat.http_port, compat.http_bind_host) == ((), None, "127.0.0.1")
    compat = configured(path, enabled=True, tls_ports="8181, 8444", http_port=8080)
    assert (compat.tls_ports, compat.http_port) == ((8181, 8444), 8080)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tls_ports": "8181,8181"}, "tls_ports .* twice: 8443, 8181, 8181"),
        ({"tls_ports": "8443"}, "tls_ports .* twice"),
        ({"tls_ports": "8181", "http_port": 8181}, "http_port name a port twice"),
        ({"tls_ports": "0"}, "tls_ports"),
        ({"tls_ports": "x"}, "tls_ports"),
        ({"http_port": 65536}, "http_port"),
    ],
)
def test_other_ports_that_cannot_be(tmp_path, options, words):
    with pytest.raises(StartError, match=words) as caught:
        configured(tmp_path / "oat.conf", enabled=True, **options)
    assert caught.value.code == "configuration"
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("host", "good"), [("127.0.0.1", True), ("::1", True), ("::", False)])
def test_C1_without_credentials_no_plain_http_for_others(place_maker, host, good):
    def checked():
        compat = OatCompat(http_port=8080, http_bind_host=host)
        place_maker(auth_strategy="noauth", oat_compat=compat).settings._check()

    if good:
        checked()
    else:
        with pytest.raises(StartError, match="http_bind_host, not ::"):
            checked()



@pytest.mark.parametrize("blob", [None, "wrong", "x" * 5000])
def test_C1_strangers_learn_nothing(place, hosts, blob):
    headers = {} if blob is None else {"x_auth_blob": blob}
    answer = poll(place, {"hosts": ["good.example.org"]}, STRANGER, **headers)
    assert answer.status_code == 401
    assert answer.json.keys() == {"error_code", "error_message"}
    assert answer.json["error_code"] == (
        "CREDENTIAL_MISSING" if blob is None else "CREDENTIAL_WRONG"
    )


def test_C1_an_address_is_not_what_a_stranger_says(place, hosts):
    answer = poll(place, {"hosts": ["good.example.org"]}, STRANGER, X_Forwarded_For=OVIRT)
    assert answer.status_code == 401


def test_C1_the_address_of_a_client_opens_nothing_else(place, hosts):
    for path in ("/v1/verdicts", "/v1/hosts"):
        assert place.call("GET", path, remote_addr=OVIRT).status_code == 401


def test_a_blob_that_is_none_of_ours_does_not_shut_out_a_client_by_address(place, hosts):
    """Operators leave what OpenAttestation did not look at where it was."""
    answer = poll(place, {"hosts": ["silent"]}, x_auth_blob="i-am-openstack")
    assert levels(answer) == [("silent", "unknown")]


def test_a_credential_of_v1_will_do(place, hosts):
    token = create_token(place.store, "program", SERVICE)
    answer = poll(place, {"hosts": ["silent"]}, STRANGER, Authorization=f"Bearer {token}")
    assert levels(answer) == [("silent", "unknown")]


def test_an_address_of_ipv4_in_the_clothes_of_ipv6(place, hosts):
    assert levels(poll(place, {"hosts": ["silent"]}, f"::ffff:{OVIRT}")) == [("silent", "unknown")]


@pytest.mark.parametrize(
    "body", [b"{}", b'{"hosts":null}', b'{"hosts":[1]}', b"{", b"[]", b'{"hosts":["\xff"]}', b""]
)
def test_C2_bodies_that_are_no_question(place, body):
    answer = poll(place, body)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/json"
    assert answer.json["error_code"] == "SYSTEM_ERROR"
    assert answer.json["error_message"].startswith("System error: ")


def test_other_methods_and_paths(place):
    for method, path, status, code in (
        ("GET", OAT_2, 405, "METHOD_NOT_ALLOWED"),
        ("POST", "/AttestationService/resources/PostHosts", 404, "ROUTE_UNKNOWN"),
    ):
        answer = place.call(method, path, remote_addr=OVIRT)
        assert (answer.status_code, answer.json["error_code"]) == (status, code)
