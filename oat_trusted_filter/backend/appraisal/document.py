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
"""Checks that documents of operators share."""

import re
from typing import Any

from oat_trusted_filter.backend.appraisal.records import QUOTED_PCRS

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class DocumentError(ValueError):
    """A document is not what it should be.

    :param code: stable, for programs.
    :param message: one sentence for people, naming the field.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def check_keys(document: Any, where: str, needed: set[str], allowed: set[str]) -> None:
    """Check that this is an object with these fields and no others.

    :raises DocumentError: ``document-field``.
    """
    if not isinstance(document, dict):
        raise DocumentError("document-field", f"{where} is not an object with named fields")
    for name in sorted(needed - document.keys()):
        raise DocumentError("document-field", f"{where} has no field {name}")
    for name in sorted(str(key) for key in document.keys() - needed - allowed):
        raise DocumentError("document-field", f"{where} has a field {name!r}, which is not known")


def check_name(value: Any, where: str) -> str:
    """A name of a set, a kind or a policy.

    :raises DocumentError: ``document-name``.
    """
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise DocumentError(
            "document-name",
            f"{where} is not a name: 1 to 63 ASCII letters, digits, dots, hyphens and "
            "underscores, the first a letter or digit",
        )
    return value


def pcr_number(value: Any, where: str) -> int:
    """A PCR that quotes hold, as a number or a decimal string.

    :raises DocumentError: ``document-pcr``.
    """
    if isinstance(value, str) and value.isascii() and value.isdigit() and str(int(value)) == value:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value not in QUOTED_PCRS:
        raise DocumentError("document-pcr", f"{where}: {value!r} is not a PCR that can be required")
    return value
