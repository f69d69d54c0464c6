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
"""Database, message queue and cache: instances of their own, nothing of the system is used."""

import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from tools.cloud.service import ADDRESS, Service, free_ports, run

_RABBITMQ = "/usr/lib/rabbitmq/bin/rabbitmq-server"


class Infrastructure:
    """MariaDB, RabbitMQ and memcached below the folder of a cloud.

    :param databases: names of the databases to make.
    """

    def __init__(self, folder: Path, databases: Sequence[str]) -> None:
        self._folder = folder
        self._databases = databases
        self._password = secrets.token_hex(16)
        self.database_port, self.queue_port, self.cache_port, *rest = free_ports(5)
        self._epmd_port, self._distribution_port = rest
        self._database = self._mariadb()
        self._epmd, self._queue = self._rabbitmq()
        self._cache = self._memcached()
        self.services = [self._cache, self._epmd, self._queue, self._database]

    def database_url(self, name: str) -> str:
        """How SQLAlchemy reaches one of the databases."""
        login = f"openstack:{self._password}@{ADDRESS}:{self.database_port}"
        return f"mysql+pymysql://{login}/{name}?charset=utf8"

    @property
    def queue_url(self) -> str:
        """How oslo.messaging reaches the queue."""
        return f"rabbit://openstack:{self._password}@{ADDRESS}:{self.queue_port}/"

    @property
    def cache_server(self) -> str:
        """Address of memcached."""
        return f"{ADDRESS}:{self.cache_port}"

    def start(self) -> None:
        """Start all three; the queue still needs a moment, see :meth:`wait_for_queue`.

        :raises CloudError: one failed.
        """
        self._cache.start()
        self._epmd.start()
        self._epmd.wait_for_port(self._epmd_port)
        self._queue.start()
        data = self._folder / "mariadb"
        data.mkdir()
        run(
            self._folder,
            "mariadb-install-db",
            ["mariadb-install-db", "--no-defaults", f"--datadir={data}", "--skip-test-db",
             "--auth-root-authentication-method=normal", *_as_root("--user=root")],
        )  # fmt: skip
        self._database.start()
        self._database.wait_for_port(self.database_port)

    def wait_for_queue(self) -> None:
        """Wait until the queue takes connections.

        :raises CloudError: it does not.
        """
        self._queue.wait_for_port(self.queue_port)

    def _mariadb(self) -> Service:
        first = self._folder / "mariadb.sql"
        first.touch(0o600)
        statements = [f"CREATE DATABASE {name} CHARACTER SET utf8" for name in self._databases]
        user = f"openstack@'{ADDRESS}'"
        statements += [
            f"CREATE USER {user} IDENTIFIED BY '{self._password}'",
            f"GRANT ALL ON *.* TO {user}",
        ]
        first.write_text("".join(f"{statement};\n" for statement in statements))
        return Service(
            self._folder,
            "mariadb",
            ["mariadbd", "--no-defaults", f"--datadir={self._folder / 'mariadb'}",
             f"--init-file={first}", f"--bind-address={ADDRESS}", f"--port={self.database_port}",
             # Relative to the data folder, for the path of a socket must be short.
             "--socket=mariadb.sock", "--skip-name-resolve", "--max-connections=500",
             # Nothing of this has to survive a power cut.
             "--innodb-flush-log-at-trx-commit=0", "--innodb-flush-method=nosync",
             "--skip-log-bin", *_as_root("--user=root")],
        )  # fmt: skip

    def _rabbitmq(self) -> tuple[Service, Service]:
        """Erlang's name server, which the queue would otherwise leave behind, and the queue."""
        home = self._folder / "rabbitmq"
        home.mkdir()
        settings = home / "rabbitmq.conf"
        settings.touch(0o600)
        settings.write_text(f"default_user = openstack\ndefault_pass = {self._password}\n")
        epmd = Service(
            self._folder, "epmd", ["epmd", "-port", str(self._epmd_port), "-address", ADDRESS]
        )
        queue = Service(
            self._folder,
            "rabbitmq",
            [_RABBITMQ],
            {
                "HOME": str(home),
                "ERL_EPMD_ADDRESS": ADDRESS,
                "ERL_EPMD_PORT": str(self._epmd_port),
                "RABBITMQ_CONFIG_FILE": str(settings),
                "RABBITMQ_DIST_PORT": str(self._distribution_port),
                "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
                "RABBITMQ_LOGS": "-",
                "RABBITMQ_LOG_BASE": str(home),
                "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
                "RABBITMQ_NODENAME": "minicloud@localhost",
                "RABBITMQ_NODE_IP_ADDRESS": ADDRESS,
                "RABBITMQ_NODE_PORT": str(self.queue_port),
                "RABBITMQ_PID_FILE": str(home / "pid"),
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS":
                    "-kernel inet_dist_use_interface {127,0,0,1}",
            },
        )  # fmt: skip
        return epmd, queue

    def _memcached(self) -> Service:
        return Service(
            self._folder,
            "memcached",
            ["memcached", "-l", ADDRESS, "-p", str(self.cache_port), "-m", "64",
             *_as_root("-u", "root")],
        )  # fmt: skip


def _as_root(*words: str) -> Sequence[str]:
    """These words if we are root, for then a server asks to be told that it may stay so."""
    return words if os.geteuid() == 0 else ()
