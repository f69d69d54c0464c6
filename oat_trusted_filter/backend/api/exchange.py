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
"""Reading a request and writing an answer."""

import json
import re
from collections.abc import Mapping
from typing import Any, TypeVar

import falcon
import msgspec

from oat_trusted_filter.backend.api.problems import Problem

T = TypeVar("T")

KIB = 1024
MIB = 1024 * KIB
#: Body of an ordinary request, in bytes.
SMALL_BODY = 256 * KIB
#: Evidence with the largest boot log there is (8 MiB, in base64), and reference sets.
LARGE_BODY = 12 * MIB

_JSON = "application/json"
_ENTITY_TAG = re.compile(r'"([0-9]{1,18})"')


def read_body(req: falcon.Request, limit: int = SMALL_BODY) -> bytes:
    """The body of a request that has to have one, in JSON.

    :raises Problem: ``content-type``, ``content-encoding``, ``body-too-large``, ``body-missing``.
    """
    if (req.content_type or "").partition(";")[0].strip().lower() != _JSON:
        raise Problem("content-type", f"the body has to be {_JSON}")
    if (req.get_header("Content-Encoding") or "identity").lower() != "identity":
        raise Problem("content-encoding", "the body must not be compressed")
    if (req.content_length or 0) > limit:
        raise Problem("body-too-large", f"the body is larger than {limit} bytes")
    body: bytes = req.bounded_stream.read(limit + 1)
    if len(body) > limit:
        raise Problem("body-too-large", f"the body is larger than {limit} bytes")
    if not body:
        raise Problem("body-missing", "the request has no body")
    return body


def decoded(body: bytes, kind: type[T]) -> T:
    """A body as a record of its schema.

    :raises Problem: ``body-invalid`` if it is not JSON, ``field-invalid`` if it does not fit.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise Problem("field-invalid", str(error)) from error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Problem("body-invalid", f"the body is not JSON: {error}") from error


def decoded_strictly(body: bytes, kind: type[T]) -> T:
    """The same, and no object of it may have two fields of one name.

    For what people write: of two such fields the second would silently count.

    :raises Problem: as :func:`decoded`.
    """
    record = decoded(body, kind)
    try:
        json.loads(body, object_pairs_hook=_without_twins)
    except (ValueError, RecursionError) as error:
        raise Problem("body-invalid", f"the body is not JSON: {error}") from error
    return record


def entity_tag(generation: int) -> str:
    """The ``ETag`` of a document."""
    return f'"{generation}"'


def expected_generation(req: falcon.Request) -> int | None:
    """The generation an edit is made from, by its ``If-Match``; None: whatever it is.

    :raises Problem: ``field-invalid``.
    """
    text = req.get_header("If-Match")
    if text is None or text.strip() == "*":
        return None
    found = _ENTITY_TAG.fullmatch(text.strip())
    if found is None:
        raise Problem("field-invalid", "If-Match is not an ETag of this service")
    return int(found.group(1))


def _without_twins(pairs: list[tuple[str, Any]]) -> None:
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"a field {twice[:60]!r} is there twice")


def answer(
    resp: falcon.Response,
    body: Any,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> None:
    """Answer with JSON.

    :param body: something msgspec can write, or bytes that are JSON already.
    """
    resp.status = status
    resp.content_type = _JSON
    # Everything here is about this moment or for one caller only.
    resp.set_header("Cache-Control", "no-store")
    for name, value in (headers or {}).items():
        resp.set_header(name, value)
    resp.data = body if isinstance(body, bytes) else msgspec.json.encode(body)
