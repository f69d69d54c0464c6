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
"""Documents an operator keeps in files: reference values and policies."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml

from oat_trusted_filter.cli.errors import CommandError, Refused, RefusedDocument, UsageError

#: A document of reference values or a policy is far smaller; anything larger is another file.
MAX_DOCUMENT_CHARACTERS = 16 * 1024 * 1024

#: A line of sha256sum and the like: the digest, a blank, another one or an asterisk, the path. The
#: line begins with a backslash if there is an escape in the path.
_SUM = re.compile(r"(\\?)([0-9a-fA-F]{64}|[0-9a-fA-F]{96}|[0-9a-fA-F]{128}) [ *](.+)")
#: The steps of a field's place: names, and numbers in brackets.
_STEP = re.compile(r"[^.\[\]]+")
_ESCAPE = re.compile(r"\\([nr\\])")
_ESCAPED = {"n": "\n", "r": "\r", "\\": "\\"}
_ALGORITHMS = {64: "sha256", 96: "sha384", 128: "sha512"}


class Document(dict[str, Any]):
    """A document, and the file it came from."""

    def __init__(self, content: dict[str, Any], name: str, text: str) -> None:
        super().__init__(content)
        self.name = name
        self._text = text

    def refused(self, refusal: Refused) -> CommandError:
        """What a refusal means for this file: its name, and the line of the field."""
        if refusal.field is None:
            return refusal
        message = str(refusal.args[0])
        what = message.removeprefix(refusal.field).lstrip(": ")
        where = f"{self.name}:{self.line(refusal.field)}"
        if refusal.field:
            where += f": {refusal.field}"
        return RefusedDocument(refusal.code, f"{where}: {what}")

    def line(self, field: str) -> int:
        """The line a field stands in, from 1; that of what it ought to be in, if it is missing."""
        try:
            node = yaml.compose(self._text, yaml.SafeLoader)
        except yaml.YAMLError:
            # JSON that is no YAML: tabs, for instance.
            return 1
        line = 0
        for step in _STEP.findall(field):
            if isinstance(node, yaml.MappingNode):
                found = [pair for pair in node.value if pair[0].value == step]
                if not found:
                    break
                key, node = found[0]
                line = key.start_mark.line
            elif isinstance(node, yaml.SequenceNode) and step.isdigit():
                if int(step) >= len(node.value):
                    break
                node = node.value[int(step)]
                line = node.start_mark.line
            else:
                break
        return line + 1


def read_document(name: str) -> Document:
    """Read a JSON or YAML document.

    :param name: the file, ``-`` for standard input.
    :raises UsageError: it cannot be read, or does not hold one object.
    """
    return _document(name, read_text(name))


def read_allow_list(name: str) -> dict[str, Any]:
    """Read a list of files as sha256sum, sha384sum or sha512sum write it, or a document.

    Blanks in paths become what the kernel makes of them.

    :param name: the file, ``-`` for standard input.
    :returns: a document with the field ``files``.
    :raises UsageError: it cannot be read, or is neither.
    """
    text = read_text(name)
    if not _SUM.fullmatch(next((line for line in text.splitlines() if line), "")):
        return _document(name, text)
    files: dict[str, list[str]] = {}
    # Not splitlines: a path may hold what else ends a line.
    for number, line in enumerate(text.split("\n"), 1):
        found = _SUM.fullmatch(line)
        if found is not None:
            escaped, digest, path = found.groups()
            if escaped:
                path = _ESCAPE.sub(lambda match: _ESCAPED[match.group(1)], path)
            known = files.setdefault(f"{_ALGORITHMS[len(digest)]}:{digest.lower()}", [])
            known.append(path.replace(" ", "_"))
        elif line:
            raise UsageError(f"{name}: line {number} is not one of sha256sum")
    return {"files": files}


def read_text(name: str) -> str:
    """Read a file of text.

    :param name: the file, ``-`` for standard input.
    :raises UsageError: it cannot be read.
    """
    try:
        if name == "-":
            text = sys.stdin.read(MAX_DOCUMENT_CHARACTERS + 1)
        else:
            with Path(name).open(encoding="utf-8") as file:
                text = file.read(MAX_DOCUMENT_CHARACTERS + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {name}: {getattr(error, 'strerror', None) or error}") from (
            error
        )
    if len(text) > MAX_DOCUMENT_CHARACTERS:
        raise UsageError(f"{name} is larger than {MAX_DOCUMENT_CHARACTERS} characters")
    return text


def _document(name: str, text: str) -> Document:
    try:
        if text.lstrip().startswith("{"):
            document = json.loads(text, object_pairs_hook=_without_twins)
        else:
            document = yaml.load(text, _Loader)  # noqa: S506  a safe loader, see below
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = getattr(error, "lineno", None) or (mark.line + 1 if mark else None)
        why = getattr(error, "problem", None) or getattr(error, "msg", None) or error
        raise UsageError(
            f"{name}:{line or 1}: neither JSON nor YAML: {' '.join(str(why).split())}"
        ) from error
    if not isinstance(document, dict):
        raise UsageError(f"{name}:1: holds no object with named fields")
    return Document(document, name, text)


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the field {twice!r} is there twice")
    return found


class _Loader(yaml.SafeLoader):
    """Of two fields of one name the second would silently count; times stay as they are written."""

    yaml_implicit_resolvers = {  # noqa: RUF012  as the class above has it
        first: [pair for pair in pairs if pair[0] != "tag:yaml.org,2002:timestamp"]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001
        """As the class above does, but refuse twins."""
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the field {key.value!r} is there twice", key.start_mark
                )
            if isinstance(key.value, str):
                seen.add(key.value)
        return super().construct_mapping(node, deep)
