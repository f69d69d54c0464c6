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
"""``oat-manage init``: everything the service needs beside its database, and the first credentials.

Whatever is there already stays as it is, so the command may be repeated at any time.
"""

import datetime
import ipaddress
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from oat_trusted_filter.backend import challenge_key
from oat_trusted_filter.backend.manage import authority, credentials, signing_key
from oat_trusted_filter.backend.manage.files import SECRET, make_folder, read_file, write_file
from oat_trusted_filter.backend.settings import Settings, StartError
from oat_trusted_filter.backend.store.credentials import ADMIN, SERVICE
from oat_trusted_filter.backend.store.engine import Store

ADMIN_FILE = "admin-openrc"
SCHEDULER_FILE = "scheduler.token"
_TOKEN = re.compile(r"^export OAT_TOKEN=(\S+)$", re.MULTILINE)


def initialise(settings: Settings, store: Store, names: Sequence[str]) -> list[Path]:
    """Make what is missing.

    :param names: host names and addresses by which clients reach the backend.
    :returns: the files that were written.
    :raises StartError: a file cannot be written, or is there and cannot be used.
    """
    folder = settings.state_dir
    make_folder(folder)
    written = authority.ensure(folder, names, datetime.datetime.now(datetime.UTC))
    if read_file(settings.challenge_key) is None:
        write_file(settings.challenge_key, challenge_key.rotated((), 0, 0), SECRET)
        written.append(settings.challenge_key)
    if read_file(settings.signing_key) is None:
        signing_key.rotate(settings.signing_key)
        written.append(settings.signing_key)
    written += _scheduler_token(folder, store)
    written += _admin_file(settings, store, names)
    return written


def _scheduler_token(folder: Path, store: Store) -> list[Path]:
    path = folder / SCHEDULER_FILE
    known = _token_in(path)
    if known is not None:
        credentials.keep_token(store, "scheduler", SERVICE, known)
        return []
    token = credentials.create_token(store, "scheduler", SERVICE, replace=True)
    write_file(path, f"{token}\n".encode(), SECRET)
    return [path]


def _admin_file(settings: Settings, store: Store, names: Sequence[str]) -> list[Path]:
    path = settings.state_dir / ADMIN_FILE
    text = (read_file(path) or b"").decode(errors="replace")
    known = _TOKEN.search(text)
    if known is not None:
        credentials.keep_token(store, "admin", ADMIN, known.group(1))
        return []
    token = credentials.create_token(store, "admin", ADMIN, replace=True)
    lines = (
        f"export OAT_ENDPOINT={shlex.quote(_endpoint(settings, names))}",
        f"export OAT_TOKEN={token}",
        f"export OAT_CACERT={shlex.quote(str(settings.state_dir / 'ca.pem'))}",
    )
    write_file(path, "".join(f"{line}\n" for line in lines).encode(), SECRET)
    return [path]


def _token_in(path: Path) -> str | None:
    text = (read_file(path) or b"").decode(errors="replace").strip()
    if not text:
        return None
    if not text.isascii() or not text.isprintable() or " " in text:
        raise StartError("configuration", f"{path} holds no token; remove it and run init again")
    return text


def _endpoint(settings: Settings, names: Sequence[str]) -> str:
    host = names[0] if names else settings.bind_host
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return f"https://{host}:{settings.port}"
    if address.is_unspecified:
        return f"https://127.0.0.1:{settings.port}"
    shown = f"[{address}]" if address.version == 6 else str(address)
    return f"https://{shown}:{settings.port}"
