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
"""Options of the test suite."""

import signal

import pytest

from tests.lab.databases import MariaDb, PostgreSql

#: Some seconds; a thousand take a quarter of an hour.
STORM_ROUNDS = 30


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--record``, without which nothing boots a machine, and what else can be chosen."""
    parser.addoption(
        "--record",
        action="store_true",
        help="also run the tests that record boots anew in QEMU (minutes, needs its packages)",
    )
    parser.addoption(
        "--minicloud-nova",
        choices=("34", "26"),
        help="Nova of the mini cloud; by default that of a cloud that is up, or else 34",
    )
    parser.addoption(
        "--storm-rounds",
        type=int,
        default=STORM_ROUNDS,
        help="how many workers of the service are killed in the storm of enrolments and evidence",
    )


def pytest_configure() -> None:
    """Let programs end with SIGINT that tests start: in the background a shell has it ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip the tests marked ``record`` unless they were asked for."""
    if config.getoption("--record"):
        return
    skip = pytest.mark.skip(reason="boots machines in QEMU; run with --record")
    for item in items:
        if item.get_closest_marker("record"):
            item.add_marker(skip)


@pytest.fixture(scope="session")
def mariadb():
    """A MariaDB server."""
    server = MariaDb()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="session")
def postgresql():
    """A PostgreSQL server."""
    server = PostgreSql()
    try:
        server.start()
        yield server
    finally:
        server.remove()
