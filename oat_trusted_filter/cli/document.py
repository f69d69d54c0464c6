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
import sys
from pathlib import Path
from typing import Any

import yaml

from oat_trusted_filter.cli.errors import UsageError

#: A document of reference values or a policy is far smaller; anything larger is another file.
MAX_DOCUMENT_CHARACTERS = 16 * 1024 * 1024


def read_document(name: str) -> dict[str, Any]:
    """Read a JSON or YAML document.

    :param name: the file, ``-`` for standard input.
    :raises UsageError: it cannot be read, or does not hold one object.
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
    try:
        document = json.loads(text) if text.lstrip().startswith("{") else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        why = " ".join(str(error).split())
        raise UsageError(f"{name} is neither JSON nor YAML: {why}") from error
    if not isinstance(document, dict):
        raise UsageError(f"{name} holds no object with named fields")
    return document
