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
"""Making and replacing the key that signs."""

from pathlib import Path

from oat_trusted_filter.backend.manage.files import SECRET, write_file
from oat_trusted_filter.backend.signing import Keys, read_keys, rotated


def rotate(path: Path) -> str:
    """Let a new key sign; the public parts of those before are kept.

    :param path: the file of the keys; made if there is none.
    :returns: the thumbprint of the new key.
    :raises StartError: ``signing-key-invalid``, ``signing-key-missing`` (it cannot be read) or
        ``state-dir-unwritable``.
    """
    data = rotated(read_keys(path) if path.exists() else None)
    write_file(path, data, SECRET)
    return Keys.parse(data).current
