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
"""Who may call what, and what the service makes of requests that are not for it."""

import base64
import re
import threading

import falcon.testing
import pytest

from oat_trusted_filter.backend import passwords
from oat_trusted_filter.backend.api.access import rule_name
from oat_trusted_filter.backend.api.application import make_application
from oat_trusted_filter.backend.api.problems import STATUS
from oat_trusted_filter.backend.api.routes import ROUTES, Route
from oat_trusted_filter.backend.manage.credentials import create_token, create_user
from oat_trusted_filter.backend.store.credentials import ADMIN, READER, ROLES, SERVICE
from tests.lab.wait import wait_for

OPERATORS = [route for route in ROUTES if route.role is not None]


def title(route):
    return f"{route.method} {route.path}"


@pytest.fixture(autouse=True)
def cheap_passwords(monkeypatch):
    """Checking one takes a fifth of a second on purpose."""
    monkeypatch.setattr(passwords, "_ITERATIONS", 10)


@pytest.fixture
def guarded(place_maker):
    """A service that asks for credentials, and a token of each role."""
    place = place_maker(auth_strategy="http_basic")
    place.tokens = {role: create_token(place.store, role, role) for role in ROLES}
    return place


def call(place, route, authorization=None):
    headers = {} if authorization is None else {"Authorization": authorization}
    path = re.sub(r"\{\w+\}", "1", route.path)
    return place.call(route.method, path, headers=headers, remote_addr="127.0.0.1")


def basic(name, password):
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def test_every_route_of_an_operator_says_so():
    public = {title(route) for route in ROUTES if route.role is None}
    assert public == {
        "GET /",
        "GET /v1/",
        "GET /healthz",
        "GET /healthcheck",
        "GET /.well-known/jwks.json",
        "GET /v1/openapi.json",
        "GET /v1/authorities",
        "POST /v1/enrolments",
        "PUT /v1/enrolments/{number}",
        "POST /v1/challenges",
        "POST /v1/evidence",
    }
    changing = [route for route in OPERATORS if route.method != "GET"]
    assert {title(route) for route in changing if route.role != ADMIN} == {
        "PUT /v1/enforcers/{name}",
    }


@pytest.mark.parametrize("route", OPERATORS, ids=title)
def test_C1_without_a_credential(guarded, route):
    answer = call(guarded, route)
    assert (answer.status_code, answer.json["code"]) == (401, "credential-missing")
    assert "Bearer" in answer.headers["www-authenticate"]
    assert "Basic" in answer.headers["www-authenticate"]


@pytest.mark.parametrize(
    "authorization",
    [
        "Bearer wrong", "Bearer ", "Bearer", "bearer x, Bearer y", "Token abc", "Basic", "Basic !!",
        "Basic YWRtaW4=", basic("admin", "wrong"), basic("", ""), basic("ad\0min", "x"),
        "Bearer " + "x" * 5000, "\t",
        "Bearer é", basic("node-1", "challenge"), "Basic " + "x" * 5000,
    ],
)  # fmt: skip
def test_C1_with_a_wrong_credential(guarded, authorization):
    for route in OPERATORS:
        answer = call(guarded, route, authorization.encode().decode("latin-1"))
        assert answer.status_code == 401, title(route)
        assert answer.json["code"] in ("credential-wrong", "credential-missing")


@pytest.mark.parametrize("role", ROLES)
def test_C1_with_a_role(guarded, role):
    for route in OPERATORS:
        answer = call(guarded, route, f"Bearer {guarded.tokens[role]}")
        if ROLES.index(role) < ROLES.index(route.role):
            assert (answer.status_code, answer.json["code"]) == (403, "role-insufficient")
            assert rule_name(route) in answer.json["detail"]
        else:
            assert answer.status_code not in (401, 403), title(route)


def test_C1_with_a_credential_for_one_region(guarded):
    token = create_token(guarded.store, "regional", ADMIN, region="here")
    for route in OPERATORS:
        answer = call(guarded, route, f"Bearer {token}")
        if route.regional:
            assert answer.status_code not in (401, 403), title(route)
        else:
            assert (answer.status_code, answer.json["code"]) == (403, "region-insufficient")


def test_C1_what_an_agent_has_is_no_credential(guarded):
    """A challenge opens no operator's route."""
    challenge = guarded.call("POST", "/v1/challenges", {"host": "node-1"}).json["challenge"]
    for route in OPERATORS:
        assert call(guarded, route, f"Bearer {challenge}").status_code == 401


def test_roles_stand_for_what_they_say(guarded):
    for path, role in (("/v1/verdicts", SERVICE), ("/v1/hosts", READER)):
        headers = {"Authorization": f"Bearer {guarded.tokens[role]}"}
        assert guarded.client.simulate_get(path, headers=headers).status_code == 200


def test_a_token_that_was_replaced_is_no_longer_valid(guarded):
    route = OPERATORS[0]
    new = create_token(guarded.store, ADMIN, ADMIN, replace=True)
    assert call(guarded, route, f"Bearer {guarded.tokens[ADMIN]}").status_code == 401
    assert call(guarded, route, f"Bearer {new}").status_code == 200


def test_people_log_in_with_a_password(guarded):
    route = OPERATORS[0]
    create_user(guarded.store, "ann", READER, "correct horse")
    assert call(guarded, route, basic("ann", "correct horse")).status_code == 200
    for name, password in (
        ("ann", "correct"),
        ("ann", ""),
        ("bob", "correct horse"),
        ("ann", "x" * 99),
    ):
        assert call(guarded, route, basic(name, password)).status_code == 401
    create_user(guarded.store, "ann", READER, "battery staple")
    assert call(guarded, route, basic("ann", "correct horse")).status_code == 401
    assert call(guarded, route, basic("ann", "battery staple")).status_code == 200


def test_C4_wrong_passwords_leave_threads_for_the_others(guarded):
    """While one password is checked few wait for it, and all others are refused at once."""
    create_user(guarded.store, "ann", READER, "correct horse")
    assert call(guarded, OPERATORS[0], basic("ann", "correct horse")).status_code == 200
    answers = []

    def guess(number):
        answers.append(call(guarded, OPERATORS[0], basic("ann", f"wrong {number}")))

    threads = [threading.Thread(target=guess, args=(number,)) for number in range(20)]
    with guarded.service.authenticator._passwords._turn:
        for thread in threads:
            thread.start()
        wait_for(lambda: len(answers) == 17, 10, "all but three to be refused")
        assert {answer.json["code"] for answer in answers} == {"too-many-attempts"}
        # Whoever was right a short while ago does not wait.
        assert call(guarded, OPERATORS[0], basic("ann", "correct horse")).status_code == 200
        answers.clear()
    for thread in threads:
        thread.join()
    assert [answer.status_code for answer in answers] == [401] * 3


def test_C4_an_address_has_so_many_wrong_passwords_a_minute(guarded):
    header = {"Authorization": basic("ann", "wrong")}

    def guess(address):
        answer = guarded.call("GET", "/v1/hosts", headers=header, remote_addr=address)
        return answer.status_code

    assert [guess("198.51.100.1") for _ in range(40)] == [401] * 30 + [429] * 10
    assert guess("198.51.100.2") == 401


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1", 404, "route-unknown"),
        ("GET", "/v1/hosts/", 400, "field-invalid"),
        ("GET", "/v2/hosts", 404, "route-unknown"),
        ("GET", "/v1/hosts/a/b/c", 404, "route-unknown"),
        ("GET", "/../etc/passwd", 404, "route-unknown"),
        ("DELETE", "/v1/verdicts", 405, "method-not-allowed"),
        ("PATCH", "/v1/hosts", 405, "method-not-allowed"),
        ("HEAD", "/v1/hosts", 405, "method-not-allowed"),
        ("GET", "/v1/challenges", 405, "method-not-allowed"),
    ],
)
def test_what_there_is_no_route_for(place, method, path, status, code):
    answer = place.client.simulate_request(method, path)
    assert answer.status_code == status
    if method != "HEAD":
        assert answer.json["code"] == code
        assert answer.json["request_id"] == answer.headers["x-openstack-request-id"]
    if status == 405:
        assert answer.headers["allow"]


@pytest.mark.parametrize(
    ("headers", "body", "status", "code"),
    [
        ({}, b'{"host": "a"}', 415, "content-type"),
        ({"Content-Type": "text/plain"}, b'{"host": "a"}', 415, "content-type"),
        ({"Content-Type": "application/jsonx"}, b'{"host": "a"}', 415, "content-type"),
        ({"Content-Type": "application/json"}, b"", 400, "body-missing"),
        ({"Content-Type": "application/json"}, b"{", 400, "body-invalid"),
        ({"Content-Type": "application/json"}, b"{}", 400, "field-invalid"),
        ({"Content-Type": "application/json"}, b'{"host": "' + b"a" * 300_000 + b'"}', 413,
         "body-too-large"),
        ({"Content-Type": "application/json", "Content-Encoding": "gzip"}, b"x", 415,
         "content-encoding"),
    ],
)  # fmt: skip
def test_C2_bodies_that_are_none(place, headers, body, status, code):
    answer = place.client.simulate_post("/v1/challenges", headers=headers, body=body)
    assert (answer.status_code, answer.json["code"]) == (status, code)


def test_the_type_may_name_its_characters(place):
    answer = place.client.simulate_post(
        "/v1/challenges",
        headers={"Content-Type": "application/json; charset=utf-8"},
        body=b'{"host": "a"}',
    )
    assert answer.status_code == 200


def test_a_problem_is_a_document(place):
    answer = place.client.simulate_get("/v1/hosts/nobody")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "detail": "there is no host nobody",
        "code": "host-unknown",
        "request_id": answer.headers["x-openstack-request-id"],
    }


def test_codes_have_a_status_that_is_an_error():
    assert all(400 <= status < 600 for status in STATUS.values())
    assert all(code.replace("-", "").isalnum() and code.islower() for code in STATUS)


def test_an_error_nobody_foresaw_says_nothing(place):
    def handler(service, req, resp):
        raise RuntimeError("secret")

    app = make_application(place.service, [Route("GET", "/x", None, handler)])
    answer = falcon.testing.TestClient(app).simulate_get("/x")
    assert (answer.status_code, answer.json["code"]) == (500, "internal-error")
    assert "secret" not in answer.text


def test_versions_and_health_need_no_credential(guarded):
    versions = guarded.get("/")["versions"]
    assert [(item["id"], item["status"]) for item in versions] == [("v1.0", "CURRENT")]
    assert versions[0]["links"][0]["href"].endswith("/v1/")
    assert guarded.get("/healthz") == {"status": "ok"}
