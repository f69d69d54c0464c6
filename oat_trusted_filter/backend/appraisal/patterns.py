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
"""Regular expressions of operators, run over what hosts send.

With backtracking, as in Python's own module, a host could choose a text that an innocent pattern
needs hours for. RE2 takes a time that grows with the length of the text alone. For that it knows
neither back-references nor looking ahead or behind. Source: https://github.com/google/re2/wiki/Syntax
"""

import functools
from collections.abc import Iterable

import re2


class PatternError(ValueError):
    """This is no regular expression, or one RE2 does not take."""


class Patterns:
    """Patterns one of which has to match a text as a whole.

    :raises PatternError: one of them is none.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        options = re2.Options()
        # What is wrong goes to whoever set the pattern, not to standard error.
        options.log_errors = False
        self._set = re2.Set.FullMatchSet(options)
        for pattern in patterns:
            try:
                # The set would not say what is wrong.
                re2.compile(pattern, options)
                self._set.Add(pattern)
            except (re2.error, UnicodeEncodeError) as error:
                raise PatternError(_why(error)) from error
        self._set.Compile()

    def match(self, text: str) -> bool:
        """Whether one of them matches the whole text."""
        return bool(self._set.Match(text))


@functools.lru_cache(maxsize=256)
def pattern_of(text: str) -> Patterns:
    """One pattern; making it anew would take longer than all else a known boot log is asked.

    :raises PatternError: it is none.
    """
    return Patterns([text])


def _why(error: Exception) -> str:
    said = error.args[0]
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
