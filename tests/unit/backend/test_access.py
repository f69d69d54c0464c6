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
"""Credentials beside passwords, and the rules operators may write."""

import base64
import datetime
import ipaddress
import re
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from keystoneauth1.fixture import V3Token
from keystonemiddleware.fixture import AuthTokenFixture
from oslo_config import cfg

from oat_trusted_filter.backend.api.access import Access
from oat_trusted_filter.backend.api.problems import Problem
from oat_trusted_filter.backend.api.routes import ROUTES
from oat_trusted_filter.backend.manage import credentials as credentials_of_people
from oat_trusted_filter.backend.manage.credentials import (
    create_token,
    revoke_token,
    rotate_token,
)
from oat_trusted_filter.backend.settings import StartError
from oat_trusted_filter.backend.store import credentials
from oat_trusted_filter.backend.store.credentials import ADMIN, READER, SERVICE, Holder
from oat_trusted_filter.conf import backend as backend_conf

ROUTE = {route.name: route for route in ROUTES}
NETWORKS = (ipaddress.ip_network("127.0.0.0/8"),)


@pytest.fixture
def guarded(place_maker):
    """A service that asks for credentials, with the time of day."""
    place = place_maker(auth_strategy="http_basic")
    place.clock.now = int(datetime.datetime.now(datetime.UTC).timestamp() * 1000)
    return place


def status(place, token, path="/v1/hosts"):
    return place.call("GET", path, headers={"Authorization": f"Bearer {token}"}).status_code


# -- tokens -----------------------------------------------------------------------------------


def test_only_the_digest_of_a_token_is_stored(guarded):
    token = create_token(guarded.store, "x", READER)
    with guarded.store.read() as connection:
        known = credentials.token(connection, "x")
    assert token not in str(known)
    assert known.digest == credentials.token_digest(token)


def test_two_tokens_are_valid_while_one_replaces_the_other(guarded):
    first = create_token(guarded.store, "x", READER)
    second = rotate_token(guarded.store, "x", overlap=100.0)
    assert [status(guarded, token) for token in (first, second)] == [200, 200]
    guarded.clock.pass_by(101)
    assert [status(guarded, token) for token in (first, second)] == [401, 200]


def test_a_third_token_ends_the_first(guarded):
    first = create_token(guarded.store, "x", READER)
    second = rotate_token(guarded.store, "x", overlap=100.0)
    third = rotate_token(guarded.store, "x", overlap=100.0)
    assert [status(guarded, token) for token in (first, second, third)] == [401, 200, 200]


@pytest.mark.every_database
def test_two_rotations_at_once_lose_no_token(guarded, monkeypatch):
    create_token(guarded.store, "x", READER)
    made = credentials_of_people._new_token

    def in_between():
        monkeypatch.undo()
        others.append(rotate_token(guarded.store, "x", overlap=100.0))
        return made()

    others = []
    monkeypatch.setattr(credentials_of_people, "_new_token", in_between)
    token = rotate_token(guarded.store, "x", overlap=100.0)
    assert [status(guarded, item) for item in (*others, token)] == [200, 200]


def test_tokens_end(guarded):
    token = create_token(guarded.store, "x", READER, days=1)
    assert status(guarded, token) == 200
    new = rotate_token(guarded.store, "x", overlap=10 * 86_400.0, days=7)
    guarded.clock.pass_by(86_401)
    assert [status(guarded, item) for item in (token, new)] == [401, 200]
    guarded.clock.pass_by(7 * 86_400)
    assert status(guarded, new) == 401


def test_a_revoked_token_is_gone_with_the_one_before(guarded):
    first = create_token(guarded.store, "x", READER)
    second = rotate_token(guarded.store, "x", overlap=100.0)
    revoke_token(guarded.store, "x")
    assert [status(guarded, token) for token in (first, second)] == [401, 401]
    for work in (revoke_token, lambda store, name: rotate_token(store, name, overlap=1.0)):
        with pytest.raises(StartError) as caught:
            work(guarded.store, "x")
        assert caught.value.code == "credential-unknown"


# -- regions ----------------------------------------------------------------------------------


def test_a_credential_for_one_region_shows_nothing_of_others(guarded):
    guarded.approved_host("node-1", region="here")
    guarded.approved_host("node-1", region="there")
    guarded.approved_host("node-2", region="there")
    header = {"Authorization": f"Bearer {create_token(guarded.store, 'x', ADMIN, region='here')}"}
    for path, noun in (("/v1/hosts", "hosts"), ("/v1/verdicts", "hosts")):
        found = guarded.get(path, headers=header)[noun]
        assert [(host["region"], host["host"]) for host in found] == [("here", "node-1")]
        answer = guarded.call("GET", f"{path}?region=there", headers=header)
        assert (answer.status_code, answer.json["code"]) == (403, "region-insufficient")
    assert guarded.get("/v1/hosts/node-1", headers=header)["region"] == "here"
    other = guarded.get(
        "/v1/hosts/node-2",
        headers={"Authorization": f"Bearer {create_token(guarded.store, 'all', ADMIN)}"},
    )
    for path in ("/v1/hosts/node-2", f"/v1/hosts/{other['id']}"):
        assert guarded.call("GET", path, headers=header).json["code"] == "host-unknown"
        assert guarded.call("DELETE", path, headers=header).json["code"] == "host-unknown"
    body = {"host": "node-3", "ek_fingerprint": "5" * 64, "region": "there"}
    answer = guarded.call("POST", "/v1/hosts", body, headers=header)
    assert (answer.status_code, answer.json["code"]) == (403, "region-insufficient")
    answer = guarded.call("POST", "/v1/hosts", {**body, "region": "here"}, headers=header)
    assert answer.status_code == 201


def test_an_enforcer_and_a_verifier_of_one_region(guarded):
    guarded.approved_host("node-1", region="here").attest()
    guarded.approved_host("node-2", region="there").attest()
    token = create_token(guarded.store, "x", SERVICE, region="here")
    header = {"Authorization": f"Bearer {token}"}
    report = {"leader": True, "counts": {}}
    for region, outcome in (("here", 200), ("there", 403), ("", 403)):
        body = {**report, "region": region}
        answer = guarded.call("PUT", "/v1/enforcers/e-1", body, headers=header)
        assert answer.status_code == outcome, answer.text
    assert guarded.call("GET", "/v1/hosts/node-1/verdict.jwt", headers=header).status_code == 200
    answer = guarded.call("GET", "/v1/hosts/node-2/verdict.jwt", headers=header)
    assert answer.json["code"] == "host-unknown"


def test_changes_and_deletions_are_told_by_region(place):
    place.approved_host("node-1", region="here")
    place.approved_host("node-2", region="there")
    first = place.get("/v1/verdicts?region=here")
    assert place.call("DELETE", "/v1/hosts/node-2").status_code == 204
    since = f"{first['epoch']}:{first['cursor']}"
    assert place.get(f"/v1/verdicts?since={since}&region=here")["deleted"] == []
    deleted = place.get(f"/v1/verdicts?since={since}&region=there")["deleted"]
    assert deleted == [{"region": "there", "host": "node-2"}]


# -- rules ------------------------------------------------------------------------------------


def configured(folder, text=None, name="policy.yaml", more=""):
    conf = cfg.ConfigOpts()
    backend_conf.register_opts(conf)
    if text is not None:
        (folder / name).write_text(text)
    (folder / "oat.conf").write_text(f"[oslo_policy]\npolicy_file = {folder / name}\n{more}")
    conf([], default_config_files=[str(folder / "oat.conf")])
    return conf


def test_an_operator_may_write_rules_of_his_own(place_maker, tmp_path):
    conf = configured(tmp_path, '"oat:hosts:index": "role:auditor"\n"oat:policies:index": "!"\n')
    access = Access(ROUTES, conf)
    access.check(Holder("ann", frozenset({"auditor"})), ROUTE["hosts:index"])
    refused = ((ADMIN, "policies:index"), (READER, "hosts:index"), ("auditor", "hosts:show"))
    for role, name in refused:
        with pytest.raises(Problem) as caught:
            access.check(Holder("ann", frozenset({role})), ROUTE[name])
        assert caught.value.code == "role-insufficient"


@pytest.mark.parametrize("text", ['"oat:hosts:index": "!"', "{", None])
def test_a_file_of_rules_that_changes_counts_after_a_reload(tmp_path, text):
    conf = configured(tmp_path, '"oat:hosts:index": "role:auditor"\n', "mine.yaml")
    access, auditor = Access(ROUTES, conf), Holder("ann", frozenset({"auditor"}))
    if text is None:
        (tmp_path / "mine.yaml").unlink()
    else:
        (tmp_path / "mine.yaml").write_text(text)
    access.check(auditor, ROUTE["hosts:index"])
    if text == '"oat:hosts:index": "!"':
        with pytest.raises(Problem):
            Access(ROUTES, conf).check(auditor, ROUTE["hosts:index"])
    else:
        with pytest.raises(StartError):
            Access(ROUTES, conf)


@pytest.mark.parametrize("text", ["- a", '"oat:hosts:index": "rule:nowhere"', "{", None])
def test_a_file_of_rules_that_is_none(tmp_path, text):
    with pytest.raises(StartError) as caught:
        Access(ROUTES, configured(tmp_path, text, "mine.yaml"))
    assert caught.value.code == "policy-file-invalid"
    assert "mine.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


# -- client certificates ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate():
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "nova-1")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("nova-1.example.org"), x509.UniformResourceIdentifier("spiffe://a/b")]
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )


def as_rfc_9440(certificate):
    der = certificate.public_bytes(serialization.Encoding.DER)
    return f":{base64.b64encode(der).decode()}:"


def as_nginx(certificate):
    return quote(certificate.public_bytes(serialization.Encoding.PEM).decode())


@pytest.mark.parametrize("written", [as_rfc_9440, as_nginx])
@pytest.mark.parametrize("name", ["DNS:nova-1.example.org", "URI:spiffe://a/b", "CN=nova-1"])
def test_a_certificate_the_proxy_has_checked(place_maker, certificate, written, name):
    place = place_maker(
        auth_strategy="http_basic", client_certificates={name: SERVICE}, proxies=NETWORKS
    )
    headers = {"Client-Cert": written(certificate)}
    assert (
        place.call("GET", "/v1/verdicts", headers=headers, remote_addr="127.0.0.1").status_code
        == 200
    )
    assert (
        place.call("GET", "/v1/hosts", headers=headers, remote_addr="127.0.0.1").json["code"]
        == "role-insufficient"
    )
    elsewhere = place.call("GET", "/v1/verdicts", headers=headers, remote_addr="192.0.2.9")
    assert elsewhere.json["code"] == "credential-missing"


@pytest.mark.parametrize(
    ("value", "code"),
    [(":AAAA:", "wrong"), ("x", "wrong"), (":!:", "wrong"), ("%00", "wrong"), ("", "missing")],
)
def test_a_certificate_that_is_none(place_maker, value, code):
    place = place_maker(
        auth_strategy="http_basic", client_certificates={"CN=a": ADMIN}, proxies=NETWORKS
    )
    answer = place.call("GET", "/v1/hosts", headers={"Client-Cert": value}, remote_addr="127.0.0.1")
    assert (answer.status_code, answer.json["code"]) == (401, f"credential-{code}")


def test_a_certificate_nobody_has_named(place_maker, certificate):
    place = place_maker(
        auth_strategy="http_basic", client_certificates={"CN=other": ADMIN}, proxies=NETWORKS
    )
    answer = place.call(
        "GET",
        "/v1/hosts",
        headers={"Client-Cert": as_rfc_9440(certificate)},
        remote_addr="127.0.0.1",
    )
    assert answer.json["code"] == "credential-missing"


# -- keystone, with the stand-in keystonemiddleware ships for tests of services -----------------


KEYSTONE = """
[keystone_authtoken]
auth_type = password
auth_url = https://keystone.example.org:5000
username = oat
password = secret
user_domain_id = default
"""


def test_C1_without_options_for_keystone_nothing_is_served(place_maker):
    with pytest.raises(StartError) as caught:
        place_maker(auth_strategy="keystone", conf=None)
    assert caught.value.code == "keystone-unusable"


@pytest.mark.parametrize("more", ["", KEYSTONE.replace("password\n", "carrier-pigeon\n", 1)])
def test_keystone_has_to_be_named(place_maker, tmp_path, more):
    with pytest.raises(StartError) as caught:
        place_maker(auth_strategy="keystone", conf=configured(tmp_path, "{}", more=more))
    assert caught.value.code == "keystone-unusable"
    assert "secret" not in str(caught.value)


def test_a_keystone_that_is_silent_is_a_problem_like_any_other(place_maker, tmp_path):
    more = KEYSTONE.replace("https://keystone.example.org:5000", "http://127.0.0.1:1")
    conf = configured(tmp_path, "{}", more=f"{more}http_request_max_retries = 0\n")
    place = place_maker(auth_strategy="keystone", conf=conf)
    answer = place.call("GET", "/v1/hosts", headers={"X-Auth-Token": "x"})
    assert (answer.status_code, answer.json["code"]) == (503, "keystone-unavailable")
    assert answer.headers["retry-after"]
    assert place.call("POST", "/v1/challenges", {"host": "node-1"}).status_code == 200


@pytest.fixture
def keystone(place_maker, tmp_path):
    conf = configured(tmp_path, "{}", more=KEYSTONE)
    with AuthTokenFixture() as fixture:
        fixture.place = place_maker(auth_strategy="keystone", conf=conf)
        yield fixture


def with_keystone(keystone, roles, path="/v1/hosts", *, method="GET", system=False, **headers):
    """The answer to a token with these roles in a project, or in the whole cloud."""
    data = V3Token(user_name="ann", project_id=None if system else "p")
    if system:
        data.set_system_scope()
    for role in roles:
        data.add_role(name=role)
    token = keystone.add_token(data)
    return keystone.place.call(method, path, headers={"X-Auth-Token": token, **headers})


@pytest.mark.parametrize(
    ("roles", "verdicts", "hosts"),
    [
        (["admin", "member", "reader"], 200, 200), (["reader"], 403, 403), (["service"], 200, 403),
        (["member"], 403, 403), ([], 403, 403), (["service", "reader"], 200, 403),
    ],
)  # fmt: skip
def test_roles_are_those_keystone_says(keystone, roles, verdicts, hosts):
    assert with_keystone(keystone, roles, "/v1/verdicts").status_code == verdicts
    assert with_keystone(keystone, roles, "/v1/hosts").status_code == hosts


def test_C1_a_tenant_of_the_cloud_reads_and_writes_nothing(keystone):
    """Keystone makes whoever is a member of a project a reader of it."""
    for route in ROUTES:
        if route.role is None:
            continue
        path = re.sub(r"\{\w+\}", "1", route.path)
        answer = with_keystone(keystone, ["member", "reader"], path, method=route.method)
        assert (answer.status_code, answer.json["code"]) == (403, "role-insufficient"), route.name


def test_a_reader_of_the_whole_cloud_sees_everything(keystone):
    assert with_keystone(keystone, ["reader"], system=True).status_code == 200
    refused = with_keystone(keystone, ["reader"], "/v1/tags", method="POST", system=True)
    assert refused.json["code"] == "role-insufficient"


def test_C1_what_is_no_token_of_keystone(keystone):
    forged = {"X-Roles": "admin", "X-Identity-Status": "Confirmed", "X-User-Id": "a"}
    for headers in ({}, forged, {"X-Service-Token": "x"}):
        answer = keystone.place.call("GET", "/v1/hosts", headers=headers)
        assert (answer.status_code, answer.json["code"]) == (401, "credential-missing")
        answer = keystone.place.call(
            "GET", "/v1/hosts", headers={"X-Auth-Token": "wrong", **headers}
        )
        assert (answer.status_code, answer.json["code"]) == (401, "credential-wrong")
    answer = with_keystone(keystone, ["member"], **forged)
    assert (answer.status_code, answer.json["code"]) == (403, "role-insufficient")
    assert answer.json["detail"].startswith("ann ")


def test_programs_may_show_tokens_of_our_own_beside_keystone(keystone):
    token = create_token(keystone.place.store, "x", SERVICE)
    assert status(keystone.place, token, "/v1/verdicts") == 200
    basic = "Basic " + base64.b64encode(b"a:b").decode()
    answer = keystone.place.call("GET", "/v1/verdicts", headers={"Authorization": basic})
    assert answer.json["code"] == "credential-wrong"
