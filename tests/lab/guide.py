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
"""The commands of a guide, as whoever reads it would type them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_DIRECTIVE = re.compile(r"(?P<indent> *)\.\. code-block:: (?P<language>\w+)$")
_FILE = re.compile(r"``(?P<path>/[^`]+\.conf)``")


@dataclass(frozen=True, slots=True)
class Block:
    """A block of a guide."""

    where: str
    """File and line, for messages."""
    language: str
    lines: tuple[str, ...]
    file: str | None
    """For a configuration file: the last one that was named before."""

    @property
    def script(self) -> str:
        """What to type, without the prompts."""
        return "".join(f"{re.sub(r'^[#$] ', '', line)}\n" for line in self.lines)


def blocks(path: Path) -> Iterator[Block]:
    """The console blocks and configuration files of a guide in reStructuredText, in their order."""
    lines = path.read_text().splitlines()
    file = None
    number = 0
    while number < len(lines):
        for named in _FILE.finditer(lines[number]):
            file = named["path"]
        directive = _DIRECTIVE.match(lines[number])
        number += 1
        if directive is None or directive["language"] not in ("console", "ini"):
            continue
        where, outside = f"{path.name}:{number}", len(directive["indent"])
        content: list[str] = []
        while number < len(lines) and (
            not lines[number].strip() or _indent(lines[number]) > outside
        ):
            content.append(lines[number])
            number += 1
        inside = min(_indent(line) for line in content if line.strip())
        text = "\n".join(line[inside:] for line in content).strip("\n")
        yield Block(where, directive["language"], tuple(text.split("\n")), file)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
