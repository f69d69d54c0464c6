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

from oat_trusted_filter.cli.errors import UsageError

#: A document of reference values or a policy is far smaller; anything larger is another file.
MAX_DOCUMENT_CHARACTERS = 16 * 1024 * 1024

#: A line of sha256sum and the like: the digest, a blank, another one or an asterisk, the path. The
#: line begins with a backslash if there is an escape in the path.
_SUM = re.compile(r"(\\?)([0-9a-fA-F]{64}|[0-9a-fA-F]{96}|[0-9a-fA-F]{128}) [ *](.+)")
_ESCAPE = re.compile(r"\\([nr\\])")
_ESCAPED = {"n": "\n", "r": "\r", "\\": "\\"}
_ALGORITHMS = {64: "sha256", 96: "sha384", 128: "sha512"}


def read_document(name: str) -> dict[str, Any]:
    """Read a JSON or YAML document.

    :param name: the file, ``-`` for standard input.
    :raises UsageError: it cannot be read, or does not hold one object.
    """
    return _document(name, _read(name))


def read_allow_list(name: str) -> dict[str, Any]:
    """Read a list of files as sha256sum, sha384sum or sha512sum write it, or a document.

    Blanks in paths become what the kernel makes of them.

    :param name: the file, ``-`` for standard input.
    :returns: a document with the field ``files``.
    :raises UsageError: it cannot be read, or is neither.
    """
    text = _read(name)
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


def _read(name: str) -> str:
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


def _document(name: str, text: str) -> dict[str, Any]:
    try:
        document = json.loads(text) if text.lstrip().startswith("{") else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        why = " ".join(str(error).split())
        raise UsageError(f"{name} is neither JSON nor YAML: {why}") from error
    if not isinstance(document, dict):
        raise UsageError(f"{name} holds no object with named fields")
    return document
