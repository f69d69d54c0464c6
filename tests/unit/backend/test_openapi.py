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
"""The description of the interface says what the route table says."""

import re
from pathlib import Path

import msgspec
import pytest

from oat_trusted_filter.backend.api import openapi
from oat_trusted_filter.backend.api.problems import STATUS
from oat_trusted_filter.backend.api.route import Route
from oat_trusted_filter.backend.api.routes import ROUTES

REFERENCE = Path(__file__).resolve().parents[3] / "doc/source/reference/api.rst"


@pytest.fixture(scope="module")
def described():
    return openapi.describe(ROUTES)


def operations(described):
    return {
        (method.upper(), path): operation
        for path, methods in described["paths"].items()
        for method, operation in methods.items()
    }


def test_it_is_served_to_everybody(place):
    served = place.get("/v1/openapi.json")
    assert served["openapi"] == "3.1.0"
    assert served == msgspec.json.decode(msgspec.json.encode(openapi.describe(ROUTES)))


def test_every_route_is_described(described):
    found = operations(described)
    assert found.keys() == {(route.method, route.path) for route in ROUTES}
    for route in ROUTES:
        operation = found[route.method, route.path]
        assert operation["summary"].endswith(".")
        assert (operation["security"] == []) == (route.role is None)
        assert str(route.status) in operation["responses"]
        assert ("requestBody" in operation) == (route.body is not None)


def test_names_are_unique():
    assert len({route.name for route in ROUTES}) == len(ROUTES)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_every_code_stands_at_its_status(described, route):
    responses = operations(described)[route.method, route.path]["responses"]
    for code in openapi.codes(route):
        assert code in responses[str(STATUS[code])]["description"]


def test_every_reference_leads_somewhere(described):
    text = msgspec.json.encode(described).decode()
    names = set(re.findall(r"#/components/schemas/(\w+)", text))
    assert names <= described["components"]["schemas"].keys()


def test_patterns_are_those_of_json_schema(described):
    text = msgspec.json.encode(described).decode()
    assert r"\\A" not in text
    assert r"\\Z" not in text


def test_a_row_may_say_no_more_than_it_has_to():
    row = Route("GET", "/v1/x", None, lambda service, req, resp: None)
    responses = operations(openapi.describe([row]))["GET", "/v1/x"]["responses"]
    assert "content" not in responses["200"]


def test_a_query_is_refused_that_nobody_knows(place):
    for query in ("regoin=a", "region=a&region=b", "region=a%00", "region=-"):
        answer = place.call("GET", f"/v1/hosts?{query}")
        assert (answer.status_code, answer.json["code"]) == (400, "field-invalid"), query
    assert place.get("/v1/hosts?region=") == {"hosts": []}


def test_the_reference_names_every_route_and_every_code():
    text = REFERENCE.read_text()
    found = {
        (method, re.sub(r"\{\w+\}", "{}", path))
        for method, path in re.findall(r"^([A-Z]+) +``([^`]+)``", text, re.MULTILINE)
    }
    assert found >= {(route.method, re.sub(r"\{\w+\}", "{}", route.path)) for route in ROUTES}
    assert [code for code in STATUS if f"``{code}``" not in text] == []
