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
"""IMA logs between the database and the appraisal.

Of each log a state of constant size is kept, and all files it has shown: so other rules can be
applied without asking every host for its log again, and lists can be taken from hosts. The files
take some 110 bytes each, packed 60. A host that shows more than fits is no worse off, but after a
change of the rules it has to send its log again from the start.
"""

import zlib
from collections.abc import Iterable
from typing import Any

import msgspec
from sqlalchemy import Connection

from oat_trusted_filter.backend.appraisal.allow_list import AllowList
from oat_trusted_filter.backend.appraisal.ima import judge_again
from oat_trusted_filter.backend.appraisal.records import ImaResult, ImaState, SeenFile
from oat_trusted_filter.backend.store import ima as store
from oat_trusted_filter.backend.store.ima import ImaChange, StoredIma

#: Bytes of files that are kept of a host, before they are packed: some 70,000 files.
MOST_KEPT = 8 * 1024 * 1024

#: Nothing is known of the log any more.
FORGET = ImaChange(None)

_STATE = msgspec.json.Decoder(ImaState)
_FILES = msgspec.json.Decoder(SeenFile)


def state_by(
    connection: Connection, host_id: int, stored: StoredIma | None, allowed: AllowList
) -> ImaState | None:
    """What is known of a log by the rules of now; None if it has to be read from its start."""
    if stored is None:
        return None
    state = _STATE.decode(stored.document)
    if state.rules == allowed.name:
        return state
    if stored.kept is None:
        return None
    return judge_again(state, unpacked(store.files(connection, host_id)), allowed)


def change_by(result: ImaResult, stored: StoredIma | None) -> ImaChange | None:
    """What a round changes of what is stored; None if nothing."""
    if result.state is None:
        return None if stored is None else FORGET
    document = msgspec.json.encode(result.state).decode()
    if stored is not None and document == stored.document and not result.fresh:
        return None
    lines = b"".join(msgspec.json.encode(file) + b"\n" for file in result.files)
    before = 0 if result.fresh or stored is None else stored.kept
    kept = None if before is None else before + len(lines)
    if kept is not None and kept > MOST_KEPT:
        kept = None
    return ImaChange(document, kept, zlib.compress(lines) if lines else b"", result.fresh)


def files_shown(connection: Connection, host_id: int) -> Iterable[SeenFile] | None:
    """All files a host has used; None if its log is not known to the end or they were too many."""
    stored = store.load(connection, host_id)
    if stored is None or stored.kept is None or not _STATE.decode(stored.document).complete:
        return None
    return unpacked(store.files(connection, host_id))


def unpacked(packed: bytes) -> Iterable[SeenFile]:
    """The files that are kept of a host: one compressed stream behind the other."""
    while packed:
        stream = zlib.decompressobj()
        lines = stream.decompress(packed)
        packed = stream.unused_data
        yield from map(_FILES.decode, lines.splitlines())


def shown(stored: StoredIma | None) -> dict[str, Any] | None:
    """What is known of a log, for people; None if nothing is."""
    if stored is None:
        return None
    state = _STATE.decode(stored.document)
    return {
        "complete": state.complete,
        "entries": state.entries,
        "bytes": state.offset,
        "files": state.files,
        "files_kept": stored.kept is not None,
        "unknown": state.unknown_count,
        "violations": state.violations,
        "kexec": state.kexec,
    }
