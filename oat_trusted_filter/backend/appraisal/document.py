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

#: Labels of a host.
MOST_LABELS = 64
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class DocumentError(ValueError):
    """A document is not what it should be.

    :param code: stable, for programs.
    :param message: one sentence for people, naming the field.
    :param field: where in the document, as ``requirements[0].pcrs``; empty: the whole of it.
    """

    def __init__(self, code: str, message: str, field: str) -> None:
        super().__init__(message)
        self.code = code
        self.field = field


def check_keys(
    document: Any, where: str, needed: set[str], allowed: set[str], *, whole: bool = False
) -> None:
    """Check that this is an object with these fields and no others.

    :param where: which field it is.
    :param whole: it is the whole document, and ``where`` what it ought to be.
    :raises DocumentError: ``document-field``.
    """
    field = "" if whole else where
    if not isinstance(document, dict):
        raise DocumentError("document-field", f"{where} is not an object with named fields", field)
    for name in sorted(needed - document.keys()):
        raise DocumentError("document-field", f"{where} has no field {name}", field)
    for name in sorted(str(key) for key in document.keys() - needed - allowed):
        raise DocumentError(
            "document-field",
            f"{where} has a field {name!r}, which is not known",
            f"{field}.{name}" if field else name,
        )


def check_name(value: Any, where: str) -> str:
    """A name of a set, a kind or a policy.

    :raises DocumentError: ``document-name``.
    """
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise DocumentError(
            "document-name",
            f"{where} is not a name: 1 to 63 ASCII letters, digits, dots, hyphens and "
            "underscores, the first a letter or digit",
            where,
        )
    return value


def check_labels(value: Any, where: str) -> dict[str, str]:
    """Labels of hosts: names and values, both as :func:`check_name` has them.

    :raises DocumentError: ``document-field`` or ``document-name``.
    """
    if not isinstance(value, dict) or len(value) > MOST_LABELS:
        raise DocumentError(
            "document-field", f"{where} is not an object of up to {MOST_LABELS} labels", where
        )
    return {
        check_name(name, where): check_name(text, f"{where}.{name}")
        for name, text in sorted(value.items(), key=str)
    }


def pcr_number(value: Any, where: str) -> int:
    """A PCR that quotes hold, as a number or a decimal string.

    :raises DocumentError: ``document-pcr``.
    """
    if isinstance(value, str) and value.isascii() and value.isdigit() and str(int(value)) == value:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value not in QUOTED_PCRS:
        raise DocumentError(
            "document-pcr", f"{where}: {value!r} is not a PCR that can be required", where
        )
    return value
