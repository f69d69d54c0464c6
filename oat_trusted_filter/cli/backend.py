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
"""The backend as the commands see it: paths in, records out, failures as one line each."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, Protocol
from urllib.parse import quote, urlencode

from oat_trusted_filter.cli.errors import CommandError, Refused, Unreachable, UsageError
from oat_trusted_filter.cli.text import printable
from oat_trusted_filter.client.http import BackendRefused, BackendUnreachable, BadReply, ClientError
from oat_trusted_filter.client.verdicts import VerdictReply

_HTTP_UNAUTHORIZED = 401
#: The backend, or a proxy before it, says that this is the wrong moment.
_CANNOT_SERVE = frozenset({502, 503, 504})


class Requester(Protocol):
    """The part of the client that is used here."""

    def request(
        self,
        method: str,
        path: str,
        json: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, Any, Any]:
        """Status, headers and decoded body of a reply."""

    def get_verdicts(
        self, since: str | None, etag: str | None, timeout: float | None
    ) -> VerdictReply:
        """The verdicts, or what has changed."""


def path(*segments: str, query: Mapping[str, str | None] | None = None) -> str:
    """A path below ``/v1``.

    :param segments: each becomes one segment, whatever characters it holds.
    :param query: parameters; those that are None are left out.
    :raises UsageError: a segment would lead to another resource than the one it names.
    """
    for segment in segments:
        if segment in ("", ".", ".."):
            raise UsageError(f"{segment!r} is not a name")
    text = "/v1/" + "/".join(quote(segment, safe="") for segment in segments)
    given = {key: value for key, value in (query or {}).items() if value is not None}
    return f"{text}?{urlencode(given)}" if given else text


class Backend:
    """The routes of the REST API, with failures in the words of the command line.

    :param credential: what to look at if the backend does not know who asks.
    """

    def __init__(self, client: Requester, credential: str) -> None:
        self._client = client
        self._credential = credential

    def get(self, where: str) -> Mapping[str, Any]:
        """Read a resource.

        :raises CommandError: as :meth:`send`.
        """
        return self._record("GET", where, self.send("GET", where))

    def post(self, where: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Create a resource or start an action.

        :raises CommandError: as :meth:`send`.
        """
        return self._record("POST", where, self.send("POST", where, body))

    def put(self, where: str, body: Mapping[str, Any], generation: int | None = None) -> Any:
        """Replace a resource.

        :param generation: only if it is still this one.
        :raises CommandError: as :meth:`send`.
        """
        return self.send("PUT", where, body, generation)

    def patch(
        self, where: str, body: Mapping[str, Any], generation: int | None = None
    ) -> Mapping[str, Any]:
        """Change a part of a resource.

        :param generation: only if it is still this one.
        :raises CommandError: as :meth:`send`.
        """
        return self._record("PATCH", where, self.send("PATCH", where, body, generation))

    def delete(self, where: str, generation: int | None = None) -> None:
        """Remove a resource.

        :param generation: only if it is still this one.
        :raises CommandError: as :meth:`send`.
        """
        self.send("DELETE", where, generation=generation)

    def items(self, where: str, field: str) -> list[Mapping[str, Any]]:
        """Read the list of records in one field of a resource.

        :raises CommandError: as :meth:`send`, or the reply has no such list.
        """
        found = self.get(where).get(field)
        if not isinstance(found, list) or not all(isinstance(item, Mapping) for item in found):
            raise _bad_reply("GET", where, f"no list {field!r} in it")
        return found

    def send(
        self,
        method: str,
        where: str,
        body: Mapping[str, Any] | None = None,
        generation: int | None = None,
    ) -> Any:
        """Send one request.

        :param generation: of the resource the request was made from.
        :raises Refused: the backend said no; its code and detail.
        :raises Unreachable: nobody answered, the backend cannot serve at this moment, or what
            answered does not speak its language.
        :raises UsageError: the client cannot work with what it was given, a CA file for instance.
        """
        headers = {} if generation is None else {"If-Match": f'"{generation}"'}
        with self._failures(method, where):
            _, _, decoded = self._client.request(method, where, json=body, headers=headers)
        return decoded

    def verdicts(self, since: str | None, etag: str | None, timeout: float) -> VerdictReply:
        """The verdicts as relying parties ask for them: everything, or what has changed.

        :param since: ``VerdictReply.since`` of the last reply.
        :param etag: ``VerdictReply.etag`` of the last reply.
        :param timeout: seconds in all.
        :raises CommandError: as :meth:`send`.
        """
        with self._failures("GET", path("verdicts")):
            return self._client.get_verdicts(since, etag, timeout)

    @contextlib.contextmanager
    def _failures(self, method: str, where: str) -> Iterator[None]:
        try:
            yield
        except BackendRefused as error:
            raise self._refused(error) from error
        except BackendUnreachable as error:
            raise Unreachable("backend-unreachable", printable(str(error))) from error
        except BadReply as error:
            raise _bad_reply(method, where, str(error)) from error
        except ClientError as error:
            if error.code == "keystone-failed":
                # OpenStackClient had a token before, so Keystone is away.
                raise Unreachable(error.code, printable(str(error))) from error
            raise UsageError(printable(str(error))) from error

    def _refused(self, error: BackendRefused) -> CommandError:
        detail = printable(str(error.detail or error))
        if error.status == _HTTP_UNAUTHORIZED:
            detail += f" (check {self._credential})"
        field = error.body.get("field")
        code = printable(str(error.code or f"http-{error.status}"))
        if error.status in _CANNOT_SERVE:
            return Unreachable(code, f"{code}: {detail}")
        named = printable(field) if isinstance(field, str) else None
        return Refused(code, detail, named, error.body)

    @staticmethod
    def _record(method: str, where: str, decoded: Any) -> Mapping[str, Any]:
        if not isinstance(decoded, Mapping):
            raise _bad_reply(method, where, "not a JSON object")
        return decoded


def _bad_reply(method: str, where: str, why: str) -> Unreachable:
    return Unreachable(
        "bad-reply",
        f"what answered {method} {where} is not the attestation backend: {printable(why)}",
    )
