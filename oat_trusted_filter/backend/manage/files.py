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
"""Files that appear complete or not at all, and with the right permissions from the start."""

import contextlib
import os
import secrets
from pathlib import Path

from oat_trusted_filter.backend.settings import StartError

SECRET = 0o600
PUBLIC = 0o644
FOLDER = 0o750


def make_folder(path: Path) -> None:
    """Create the folder unless it is there.

    :raises StartError: ``state-dir-unwritable``.
    """
    try:
        path.mkdir(mode=FOLDER, parents=True, exist_ok=True)
    except OSError as error:
        raise StartError(
            "state-dir-unwritable", f"the folder {path} cannot be made: {error.strerror}"
        ) from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise StartError(
            "state-dir-unwritable", f"{path} cannot be written by the user {os.getuid()}"
        )


def write_file(path: Path, data: bytes, mode: int) -> None:
    """Write a file; whoever opens it sees all of it or what was there before.

    :param mode: permissions, whatever the umask is; nobody sees wider ones in between.
    :raises StartError: ``state-dir-unwritable``.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, SECRET)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fchmod(file.fileno(), mode)
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
    except OSError as error:
        raise StartError(
            "state-dir-unwritable", f"{path} cannot be written: {error.strerror}"
        ) from error


def read_file(path: Path) -> bytes | None:
    """What a file holds; None if there is none.

    :raises StartError: ``state-dir-unwritable``, it is there and cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StartError(
            "state-dir-unwritable", f"{path} cannot be read: {error.strerror}"
        ) from error  # fmt: skip
