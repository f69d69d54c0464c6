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
"""What a row of the route table says."""

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

#: No credential needed: versions, and agents, whose TPM signs what they send.
PUBLIC = None


class Route(NamedTuple):
    """A method of a path: who may call it, what it takes and what comes of it.

    What is said beside the first four fields describes the interface (``/v1/openapi.json``), and is
    checked by the tests; ``query`` is also enforced.
    """

    method: str
    path: str
    role: str | None
    handler: Callable[..., Any]
    body: Any = None
    """Record of the JSON body; None: there is none."""
    reply: Any = None
    """Record of the JSON answer; None: it has no body, or is not described."""
    status: int = 200
    """Of an answer that is no error."""
    query: type[msgspec.Struct] | None = None
    """Record of the query, put into ``req.context.query``; None: the handler reads it itself."""
    problems: tuple[str, ...] = ()
    """Codes it may refuse with, beside those every route has."""
    passed_on: tuple[int, ...] = ()
    """Statuses under which it passes on codes of the parts below."""
    limit: str | None = None
    """Which limit for each address counts its requests; None: none."""
    regional: bool = False
    """Whether credentials for one region may use it: it shows and changes nothing of others."""

    @property
    def noun(self) -> str:
        """The module of the handler."""
        return self.handler.__module__.rpartition(".")[2]

    @property
    def name(self) -> str:
        """``noun:verb``, unique in the table."""
        return f"{self.noun}:{self.handler.__name__}"

    @property
    def summary(self) -> str:
        """The first paragraph of the handler's docstring, as one line."""
        return " ".join((self.handler.__doc__ or "").partition("\n\n")[0].split())
