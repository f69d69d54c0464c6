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
"""Recipes of a guide, followed as they are written."""

import io
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from oat_trusted_filter.cli.app import OatApp

_UNDERLINE = re.compile(r"=+")
_BLOCK = re.compile(r"\.\. code-block:: (\w+)")
_CAPTION = re.compile(r" +:caption: (\S+)")
_COMMAND = re.compile(r"\$ (.*)")


class Block(NamedTuple):
    """A literal block of a guide."""

    language: str
    file: str
    """Where it goes, if it is a file."""
    lines: tuple[str, ...]


def recipes(guide: Path) -> dict[str, list[Block]]:
    """The blocks of each section, by its title; the first section has the title of the guide."""
    found: dict[str, list[Block]] = {}
    blocks: list[Block] = []
    lines = guide.read_text().splitlines()
    for number, line in enumerate(lines):
        if number and _UNDERLINE.fullmatch(line) and lines[number - 1].strip("= "):
            blocks = found.setdefault(lines[number - 1].strip(), [])
        elif (start := _BLOCK.fullmatch(line)) is not None:
            blocks.append(_block(start[1], lines[number + 1 :]))
    return found


def _block(language: str, lines: list[str]) -> Block:
    caption = _CAPTION.fullmatch(lines[0])
    body = []
    for line in lines[1:]:
        if line and not line.startswith(" "):
            break
        body.append(line[3:])
    return Block(language, caption[1] if caption else "", tuple(body))


class Reader:
    """Somebody who does what a recipe says, one block of commands after the other.

    :param blocks: of the recipe.
    :param folder: where the files go.
    """

    def __init__(self, blocks: list[Block], folder: Path) -> None:
        self._blocks = iter(blocks)
        self._folder = folder

    def follow(self, **words: str) -> str:
        """Write the files that come next, type the commands behind them; what they print.

        :param words: what stands in capitals in the guide and is another thing for each reader.
        """
        for block in self._blocks:
            if block.file:
                (self._folder / block.file).write_text("\n".join(block.lines))
            else:
                return "".join(self._run(block, words))
        raise AssertionError("the recipe has no more commands")

    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return next(self._blocks, None) is None

    @staticmethod
    def _run(block: Block, words: dict[str, str]) -> Iterator[str]:
        for line in filter(None, block.lines):
            command = _COMMAND.fullmatch(line)
            assert command is not None, line
            text = command[1]
            for word, value in words.items():
                text = text.replace(word, value)
            program, *argv = shlex.split(text)
            assert program == "oat", line
            yield run_oat(*argv)


def run_oat(*argv: str) -> str:
    """Run ``oat`` in this process; it has to succeed."""
    out, err = io.StringIO(), io.StringIO()
    status = OatApp(stdin=io.StringIO(), stdout=out, stderr=err).run(list(argv))
    assert status == 0, f"oat {shlex.join(argv)}: {err.getvalue()}"
    return " ".join(out.getvalue().replace("|", " ").split())
