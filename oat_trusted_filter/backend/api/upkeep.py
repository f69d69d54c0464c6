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
"""What goes on beside the requests: exporting the audit trail, purging the history.

One thread of one worker of each machine does it; whoever holds the lock of a file. Nothing waits
for it, so a receiver that is slow or down costs nothing but its own delay. What was exported is
noted in the state folder, and goes out again if it is not sure that it arrived.

Noted there as well is the head of the trail as it was some time ago, signed. A database that ends
before it was put back from a backup.
"""

import fcntl
import functools
import json
import os
import socket
import threading
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from oslo_log import log as logging
from sqlalchemy import Connection

from oat_trusted_filter.backend.api.audit import current_head, row_document
from oat_trusted_filter.backend.api.service import Service
from oat_trusted_filter.backend.manage.files import SECRET, read_file, write_file
from oat_trusted_filter.backend.settings import Settings, StartError
from oat_trusted_filter.backend.signing import SignatureRefused, Signing
from oat_trusted_filter.backend.store import audit, changes, reports
from oat_trusted_filter.backend.store.engine import Store
from oat_trusted_filter.trail import HEAD_TYPE, Head, Row

LOG = logging.getLogger(__name__)

#: Rows that go out at one time.
BATCH = 500
#: Seconds a receiver has for a batch.
RECEIVER_SECONDS = 10.0
#: Seconds after which a head is sure to be on the disk of the database, even after a power cut.
SETTLED_SECONDS = 120.0
#: The action of the row that says that an operator has put a backup back.
RESTORE = "database.restore"
#: What is said of a database that :func:`rolled_back` speaks of.
ROLLED_BACK = (
    "the database ends before what it had recorded: it was put back from a backup, and approvals, "
    "policies and reference sets withdrawn since may be in force again; look at oat-manage db "
    "restored"
)
_PURGE_SECONDS = 3600.0
_DAY_MS = 86_400_000
_AUDIT_FILE = 0o640
# Facility authpriv, severity informational.
_PRIORITY = 10 * 8 + 6

Deliver = Callable[[Sequence[Row], str], None]


def state_file(settings: Settings) -> Path:
    """Where it is noted how far the trail was exported, and where it had ended."""
    return settings.state_dir / "audit.state"


def remembered_head(settings: Settings, signing: Signing) -> Head | None:
    """Where the trail had ended for sure; None: nothing is known.

    :raises StartError: ``state-dir-unwritable``.
    """
    token = _read_state(settings).get("head")
    if token is None:
        return None
    try:
        said = signing.verify(token, HEAD_TYPE)
        return Head(int(said["sequence"]), str(said["digest"]))
    except (SignatureRefused, KeyError, ValueError):
        return None


def remember_head(settings: Settings, token: str) -> None:
    """Note where the trail ends.

    :raises StartError: ``state-dir-unwritable``.
    """
    _write_state(settings, {**_read_state(settings), "head": token})


def _read_state(settings: Settings) -> dict[str, Any]:
    try:
        state = json.loads(read_file(state_file(settings)) or b"{}")
    except ValueError:
        return {}
    return state if isinstance(state, dict) else {}


def _write_state(settings: Settings, state: Mapping[str, Any]) -> None:
    write_file(state_file(settings), json.dumps(state).encode(), SECRET)


def rolled_back(settings: Settings, signing: Signing, connection: Connection) -> Head | None:
    """Where the trail had ended once, if it does not lead there any more and nobody has said why.

    :raises StartError: ``state-dir-unwritable``.
    """
    known = remembered_head(settings, signing)
    if known is None or known.sequence == 0:
        return None
    row = next(iter(audit.matching(connection, known.sequence - 1, 1, newest_first=False)), None)
    if row is not None and row.sequence > known.sequence:
        return None  # purged since
    if row is not None and row.digest == known.digest:
        return None
    for said in audit.matching(connection, 0, 1000, newest_first=True, action=RESTORE):
        if json.loads(said.details).get("lost_from", 0) >= known.sequence:
            return None
    return known


def check_not_rolled_back(settings: Settings, store: Store) -> None:
    """See that nobody serves from a backup unawares.

    :raises StartError: ``database-rolled-back``.
    """
    with store.read() as connection:
        lost = rolled_back(settings, Signing(settings.signing_key), connection)
    if lost is not None:
        raise StartError("database-rolled-back", ROLLED_BACK)


def receivers(settings: Settings) -> dict[str, Deliver]:
    """Where the trail goes, by a name under which it is noted."""
    found: dict[str, Deliver] = {}
    if settings.audit_file is not None:
        path = settings.audit_file
        found[f"file {path}"] = lambda rows, head: _to_file(path, rows, head)
    if settings.audit_syslog:
        where = settings.audit_syslog
        found[f"syslog {where}"] = lambda rows, head: _to_syslog(where, rows, head)
    if settings.audit_webhook:
        url = settings.audit_webhook
        found[f"webhook {url}"] = lambda rows, head: _to_webhook(url, rows, head)
    return found


@dataclass
class Upkeep:
    """The work, pass by pass.

    ``targets`` is where the trail goes; ``clock`` tells milliseconds since 1970.
    """

    settings: Settings
    store: Store
    signing: Signing
    clock: Callable[[], int]
    targets: Mapping[str, Deliver]
    _heads: deque[tuple[int, str]] = field(default_factory=deque)
    _purged_at: int | None = None
    _told: bool = False

    def run_pass(self) -> None:
        """Do what is due; what fails is logged and tried again in the next pass."""
        for work in (self._note_head, self._export, self._purge):
            try:
                work()
            except Exception as error:
                LOG.warning("%s failed: %s", work.__name__.strip("_"), error)

    def _note_head(self) -> None:
        now = self.clock()
        with self.store.read() as connection:
            if rolled_back(self.settings, self.signing, connection) is not None:
                self._tell_rolled_back()
                return
            _, token = current_head(connection, self.signing, now)
        self._told = False
        self._heads.append((now, token))
        settled = None
        while self._heads and self._heads[0][0] <= now - SETTLED_SECONDS * 1000:
            settled = self._heads.popleft()[1]
        if settled is not None:
            remember_head(self.settings, settled)

    def _tell_rolled_back(self) -> None:
        """Say it once, and let no relying party take the count for the one it has seen."""
        self._heads.clear()
        if not self._told:
            LOG.error(
                "database-rolled-back: the database was put back from a backup while it was in "
                "use; stop the service and look at oat-manage db restored"
            )
            self.store.write(lambda connection: changes.new_epoch(connection, str(uuid.uuid4())))
            self._told = True

    def _export(self) -> None:
        for name, deliver in self.targets.items():
            try:
                while self._export_batch(name, deliver):
                    pass
            except Exception as error:
                LOG.warning("the audit trail does not get to %s: %s", name.split()[0], error)

    def _export_batch(self, name: str, deliver: Deliver) -> bool:
        """Export some rows; whether there may be more."""
        state = _read_state(self.settings)
        done = state.get("exported", {}).get(name, 0)
        with self.store.read() as connection:
            head, token = current_head(connection, self.signing, self.clock())
            # If the database was put back, what it tells anew goes out as well.
            rows = audit.matching(connection, min(done, head.sequence), BATCH, newest_first=False)
        if not rows:
            return False
        deliver(rows, token)
        exported = {**state.get("exported", {}), name: rows[-1].sequence}
        _write_state(self.settings, {**_read_state(self.settings), "exported": exported})
        return len(rows) == BATCH

    def _purge(self) -> None:
        now = self.clock()
        if self._purged_at is not None and now - self._purged_at < _PURGE_SECONDS * 1000:
            return
        self._purged_at = now
        purge_history(self.store, self.settings, now)


def purge_history(store: Store, settings: Settings, now: int) -> int:
    """Delete the reports that are older or more than the options say; how many."""
    before = now - round(settings.history_days * _DAY_MS)
    gone = 0
    with store.read() as connection:
        bindings = reports.with_too_many(connection, before=before, most=settings.history_reports)
    for host_id in bindings:
        # One at a time: nobody has to wait for long.
        work = functools.partial(
            reports.purge_binding, host_id=host_id, before=before, most=settings.history_reports
        )
        gone += store.write(work)
    if gone:
        store.write(reports.drop_unused)
    return gone


def start(service: Service) -> threading.Thread:
    """Do it in a thread of this process from now on, whenever no other worker does."""
    upkeep = Upkeep(
        service.settings,
        service.store,
        service.signing,
        service.clock,
        receivers(service.settings),
    )
    thread = threading.Thread(target=_run, args=(upkeep,), name="upkeep", daemon=True)
    thread.start()
    return thread


def _run(upkeep: Upkeep) -> None:
    pause = threading.Event()
    lock = upkeep.settings.state_dir / "audit.lock"
    while True:
        try:
            with lock.open("w") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                while True:
                    upkeep.run_pass()
                    pause.wait(upkeep.settings.audit_interval)
        except (OSError, StartError) as error:
            LOG.warning("no upkeep: %s", error)
            pause.wait(upkeep.settings.audit_interval)


def lines(rows: Sequence[Row], head: str) -> list[str]:
    """Rows and a signed head as they are exported, one JSON object a line."""
    written = [{"row": row_document(row)} for row in rows] + [{"head": head}]
    return [json.dumps(line, separators=(",", ":"), ensure_ascii=False) for line in written]


def _to_file(path: Path, rows: Sequence[Row], head: str) -> None:
    # Made for whoever may read logs, whatever the umask is.
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, _AUDIT_FILE)
    with os.fdopen(descriptor, "a", encoding="utf-8") as file:
        file.write("".join(f"{line}\n" for line in lines(rows, head)))


def _to_syslog(where: str, rows: Sequence[Row], head: str) -> None:
    """RFC 3164, to a socket of this machine or by UDP, which does not tell what arrives."""
    local = where.startswith("/")
    host, _, port = where.rpartition(":")
    address = where if local else (host.strip("[]"), int(port))
    family = socket.AF_UNIX if local else socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sender:
        sender.settimeout(RECEIVER_SECONDS)
        sender.connect(address)
        for line in lines(rows, head):
            sender.send(f"<{_PRIORITY}>oat-audit: {line}".encode())


def _to_webhook(url: str, rows: Sequence[Row], head: str) -> None:
    body = {"rows": [row_document(row) for row in rows], "head": head}
    try:
        answer = requests.post(url, json=body, timeout=RECEIVER_SECONDS, allow_redirects=False)
    except requests.RequestException as error:
        # Its text holds the path and the query, and they may be secret.
        raise OSError(type(error).__name__) from None
    if not 200 <= answer.status_code < 300:
        raise OSError(f"it answered {answer.status_code}")
