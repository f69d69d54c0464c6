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
"""What can go wrong in a command, and the exit status each kind of failure has."""

from collections.abc import Mapping
from typing import Any

#: The command did what it says.
EXIT_OK = 0
#: The backend refused, or there is no such thing.
EXIT_REFUSED = 1
#: The command line, the environment or a file given cannot be used as it is.
EXIT_USAGE = 2
#: The backend was not reached, cannot serve now, or what answered does not speak its language.
EXIT_UNREACHABLE = 3


class CommandError(Exception):
    """A command failed; the text is one line for people.

    ``code`` is stable and kebab-case; for a refusal it is the code of the backend.
    """

    status = EXIT_REFUSED

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Refused(CommandError):
    """The backend understood and said no; its code stands in front of its words.

    :param field: which field of a document it does not take, as ``requirements[0].pcrs``; empty:
        the whole of it; None: it is not about one.
    :param body: all it said.
    """

    def __init__(
        self,
        code: str,
        message: str,
        field: str | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(code, message)
        self.field = field
        self.body = body or {}

    def __str__(self) -> str:
        return f"{self.code}: {super().__str__()}"


class RefusedDocument(CommandError):
    """The backend does not take what a file says; the text begins with file and line."""


class UsageError(CommandError):
    """Something the operator gave cannot be used. Code ``usage``."""

    status = EXIT_USAGE

    def __init__(self, message: str) -> None:
        super().__init__("usage", message)


class Unreachable(CommandError):
    """No backend answered as it should. Codes ``backend-unreachable`` and ``bad-reply``, or that
    of a backend that cannot serve at this moment.
    """

    status = EXIT_UNREACHABLE
