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
"""The description of the interface (OpenAPI 3.1), made of the route table and its records."""

import http
import importlib.metadata
import re
from collections.abc import Iterable
from typing import Any

import msgspec

from oat_trusted_filter.backend.api.problems import CONTENT_TYPE, STATUS, ProblemDocument
from oat_trusted_filter.backend.api.route import Route

_JSON = "application/json"
_REFERENCES = "#/components/schemas/{name}"
#: What every route may answer with, and those that take a credential, and those with a body.
_ALWAYS = ("request-invalid", "field-invalid", "database-unavailable", "internal-error")
_GUARDED = (
    "credential-missing", "credential-wrong", "role-insufficient", "region-insufficient",
    "too-many-attempts", "too-many-requests", "keystone-unavailable",
)  # fmt: skip
_WITH_BODY = (
    "body-missing", "body-invalid", "body-too-slow", "body-length-missing", "body-too-large",
    "content-type", "content-encoding",
)  # fmt: skip
_SCHEMES = {
    "token": {"type": "http", "scheme": "bearer", "description": "A token of oat-manage."},
    "password": {"type": "http", "scheme": "basic", "description": "A person."},
    "keystone": {"type": "apiKey", "in": "header", "name": "X-Auth-Token"},
}


def describe(routes: Iterable[Route]) -> dict[str, Any]:
    """The description as plain data."""
    table = tuple(routes)
    described = [kind for route in table for kind in (route.body, route.reply) if kind is not None]
    kinds = tuple(dict.fromkeys([*described, ProblemDocument]))
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REFERENCES)
    schema_of = dict(zip(kinds, map(_portable, schemas), strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in table:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "oat-trusted-filter attestation backend",
            "version": importlib.metadata.version("oat-trusted-filter"),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {"schemas": _portable(components), "securitySchemes": _SCHEMES},
    }


def codes(route: Route) -> tuple[str, ...]:
    """All codes of the registry a route may refuse with."""
    guarded = _GUARDED if route.role is not None else ()
    with_body = _WITH_BODY if route.body is not None else ()
    limited = () if route.limit is None else ("too-many-requests",)
    return (*route.problems, *_ALWAYS, *guarded, *with_body, *limited)


def _operation(route: Route, schema_of: dict[Any, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "tags": [route.noun],
        "security": [] if route.role is None else [{name: []} for name in _SCHEMES],
        "responses": _responses(route, schema_of),
    }
    if route.role is not None:
        operation["description"] = f"Takes the role {route.role} or one that includes it."
    parameters = [*_path_parameters(route.path), *_query_parameters(route)]
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        content = {_JSON: {"schema": schema_of[route.body]}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _responses(route: Route, schema_of: dict[Any, Any]) -> dict[str, Any]:
    good: dict[str, Any] = {"description": http.HTTPStatus(route.status).phrase}
    if route.reply is not None:
        good["content"] = {_JSON: {"schema": schema_of[route.reply]}}
    responses = {str(route.status): good}
    problem = {CONTENT_TYPE: {"schema": schema_of[ProblemDocument]}}
    by_status: dict[int, list[str]] = {status: [] for status in route.passed_on}
    for code in codes(route):
        by_status.setdefault(STATUS[code], []).append(code)
    for status, known in sorted(by_status.items()):
        text = http.HTTPStatus(status).phrase
        if known:
            text = f"{text}: {', '.join(known)}"
        responses[str(status)] = {"description": text, "content": problem}
    return responses


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in re.findall(r"\{(\w+)\}", path)
    ]


def _query_parameters(route: Route) -> list[dict[str, Any]]:
    if route.query is None:
        return []
    schema, components = msgspec.json.schema_components([route.query], ref_template=_REFERENCES)
    fields = components[route.query.__name__]["properties"]
    return [
        {"name": name, "in": "query", "schema": _portable(_given(field))}
        for name, field in fields.items()
    ]


def _given(field: dict[str, Any]) -> dict[str, Any]:
    """A field of a query as it is when it is there: nobody can send null."""
    kinds = [kind for kind in field.get("anyOf", []) if kind != {"type": "null"}]
    if len(kinds) == 1:
        return dict(kinds[0])
    return {name: value for name, value in field.items() if name != "default" or value is not None}


def _portable(schema: Any) -> Any:
    """The same with patterns as JSON Schema has them, where Python's anchors are not known."""
    if isinstance(schema, dict):
        return {
            name: _anchored(value)
            if name == "pattern" and isinstance(value, str)
            else _portable(value)
            for name, value in schema.items()
        }
    if isinstance(schema, list):
        return [_portable(item) for item in schema]
    return schema


def _anchored(pattern: str) -> str:
    return pattern.replace(r"\A", "^").replace(r"\Z", "$")
