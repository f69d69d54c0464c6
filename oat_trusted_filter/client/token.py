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
"""Tokens in files."""

from pathlib import Path

from oat_trusted_filter.client.errors import ClientError

_LONGEST_TOKEN = 4096


def read_token(path: str) -> str:
    """The token in a file, without the blanks around it.

    :raises ClientError: ``token-file-missing`` or ``token-file-empty``.
    """
    try:
        with Path(path).open(encoding="ascii") as file:
            token = file.read(_LONGEST_TOKEN).strip()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is not plain text"
        raise ClientError(
            "token-file-missing", f"the token file {path} cannot be read: {why}"
        ) from error
    if not token:
        raise ClientError("token-file-empty", f"the token file {path} is empty")
    return token
