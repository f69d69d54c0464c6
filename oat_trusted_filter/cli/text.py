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
"""Text for a terminal.

Boot logs, host names and messages come from machines that may be hostile, so nothing of theirs
reaches a terminal before control characters and characters that turn the writing direction are
made visible.
"""

import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

#: Columns after which sentences in a table go on in the next line.
WIDTH = 100


def printable(text: str) -> str:
    """The text with every character that is not printable written as an escape."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text
    )


def plain(value: Any) -> str:
    """Any value of a reply in one line."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return printable(", ".join(f"{key}={plain(item)}" for key, item in value.items()))
    if isinstance(value, list | tuple):
        return printable(", ".join(plain(item) for item in value))
    return printable(str(value))


def wrapped(sentence: str, first: str = "", rest: str = "") -> str:
    """The sentence in lines of at most :data:`WIDTH` columns; digests stay whole.

    :param first: put before the first line.
    :param rest: put before the others.
    """
    return "\n".join(
        textwrap.wrap(
            printable(sentence),
            WIDTH,
            initial_indent=first,
            subsequent_indent=rest,
            break_long_words=False,
            break_on_hyphens=False,
        )
    )


def numbered(sentences: Iterable[tuple[str, str]]) -> str:
    """A numbered list of sentences, each with what to do about it (or nothing) below."""
    lines = []
    for number, (sentence, advice) in enumerate(sentences, 1):
        lines.append(wrapped(sentence, f"{number}. ", "   "))
        if advice:
            lines.append(wrapped(advice, "   -> ", "      "))
    return "\n".join(lines)
