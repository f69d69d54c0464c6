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
"""Real database servers, each in a folder of its own, reached by a socket in that folder.

They keep nothing for longer than a test run, so they do without waiting for disks.
"""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import OperationalError

from tests.lab.wait import wait_for

_SECONDS = 60.0
_GALERA = ("/usr/lib/galera/libgalera_smm.so", "/usr/lib64/galera/libgalera_smm.so")


class DatabaseError(Exception):
    """A server cannot be had; the text is what it complained about."""


class Server:
    """A database server; starts as a user who may do little, for PostgreSQL refuses to be root."""

    def __init__(self) -> None:
        # Sockets have short paths, so not in a folder of pytest.
        self.folder = Path(tempfile.mkdtemp(prefix="oat-db-"))
        self._user: str | None = None
        if os.geteuid() == 0:
            self._user = "nobody"
            nobody = pwd.getpwnam("nobody")
            os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, database: str) -> str:
        """The SQLAlchemy URL of a database."""
        raise NotImplementedError

    def create(self, database: str) -> str:
        """Make an empty database, in place of one of this name; its URL."""
        with self._administrator() as engine, engine.connect() as connection:
            connection.execute(text(f"DROP DATABASE IF EXISTS {database}"))
            connection.execute(text(f"CREATE DATABASE {database}"))
        return self.url(database)

    def start(self) -> None:
        """Start it and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(),
                user=self._user,
                cwd=self.folder,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_for(self._answers, _SECONDS, f"{type(self).__name__} to answer", poll_seconds=0.05)

    def stop(self) -> None:
        """Kill it; what it had committed is with the kernel. Harmless if it is off."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGKILL)
            process.wait()

    def remove(self) -> None:
        """Stop it, and forget all it kept."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _command(self) -> Sequence[str]:
        raise NotImplementedError

    def _administrator_url(self) -> str:
        raise NotImplementedError

    @contextlib.contextmanager
    def _administrator(self) -> Iterator[Engine]:
        engine = create_engine(self._administrator_url(), isolation_level="AUTOCOMMIT")
        try:
            yield engine
        finally:
            engine.dispose()

    def _answers(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise DatabaseError((self.folder / "log").read_text()[-3000:])
        try:
            with self._administrator() as engine, engine.connect() as connection:
                return connection.scalar(text("SELECT 1")) == 1
        except OperationalError:
            return False

    def _environment(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "HOME": str(self.folder), "LC_ALL": "C.UTF-8"}

    def _run(self, *command: str) -> None:
        ran = subprocess.run(
            command,
            check=False,
            user=self._user,
            cwd=self.folder,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
        )
        if ran.returncode != 0:
            raise DatabaseError(f"{command[0]}: {ran.stdout[-1000:]}{ran.stderr[-2000:]}")


class MariaDb(Server):
    """MariaDB.

    :param galera: as the only node of a Galera cluster.
    """

    def __init__(self, *, galera: bool = False) -> None:
        super().__init__()
        self._galera = _galera_options() if galera else []
        self._run(
            _program("mariadb-install-db"), "--no-defaults", f"--datadir={self.folder / 'data'}",
            "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve",
        )  # fmt: skip

    def url(self, database: str) -> str:
        """The SQLAlchemy URL of a database."""
        return (
            f"mysql+pymysql://root@localhost/{database}?unix_socket={self.folder}/s&charset=utf8mb4"
        )

    def _administrator_url(self) -> str:
        return self.url("mysql")

    def _command(self) -> Sequence[str]:
        return [
            _program("mariadbd"), "--no-defaults", f"--datadir={self.folder / 'data'}",
            f"--socket={self.folder / 's'}", f"--pid-file={self.folder / 'pid'}",
            "--skip-networking", "--innodb-flush-log-at-trx-commit=2",
            "--innodb-flush-method=nosync", "--innodb-buffer-pool-size=64M",
            "--performance-schema=OFF", "--character-set-server=utf8mb4", *self._galera,
        ]  # fmt: skip


class PostgreSql(Server):
    """PostgreSQL."""

    def __init__(self) -> None:
        super().__init__()
        self._run(
            _program("initdb"), "--auth=trust", "--username=oat", "--encoding=UTF8",
            "--locale=C.UTF-8", "--no-sync", f"--pgdata={self.folder / 'data'}",
        )  # fmt: skip

    def url(self, database: str) -> str:
        """The SQLAlchemy URL of a database."""
        return f"postgresql+psycopg://oat@/{database}?host={self.folder}"

    def _administrator_url(self) -> str:
        return self.url("postgres")

    def _command(self) -> Sequence[str]:
        return [
            _program("postgres"), "-D", str(self.folder / "data"), "-k", str(self.folder),
            "-c", "listen_addresses=", "-c", "fsync=off", "-c", "shared_buffers=32MB",
        ]  # fmt: skip


def _galera_options() -> list[str]:
    library = next((path for path in _GALERA if Path(path).exists()), None)
    if library is None:
        raise DatabaseError("the library of Galera is not installed")
    return [
        "--wsrep-on=ON", f"--wsrep-provider={library}", "--wsrep-cluster-address=gcomm://",
        "--wsrep-provider-options=gmcast.listen_addr=tcp://127.0.0.1:0",
        "--wsrep-node-address=127.0.0.1", "--binlog-format=ROW",
        "--innodb-autoinc-lock-mode=2",
    ]  # fmt: skip


def _program(name: str) -> str:
    folders = [*Path("/usr/lib/postgresql").glob("*/bin"), *Path("/usr").glob("pgsql-*/bin")]
    path = os.pathsep.join([os.environ["PATH"], "/usr/sbin", *map(str, sorted(folders))])
    found = shutil.which(name, path=path)
    if found is None:
        raise DatabaseError(f"{name} is not installed; bindep.txt names its package")
    return found
