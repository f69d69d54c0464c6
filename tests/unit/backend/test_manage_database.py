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
"""oat-manage db version, check, purge and restored, and oat-status upgrade check."""

import contextlib
import json
import shutil
import sqlite3

import pytest
from sqlalchemy import text

from oat_trusted_filter.backend.api import upkeep
from oat_trusted_filter.backend.api.service import make_service
from oat_trusted_filter.backend.api.upkeep import Upkeep, check_not_rolled_back
from oat_trusted_filter.backend.manage import upgrade
from oat_trusted_filter.backend.program import parse_configuration
from oat_trusted_filter.backend.settings import Settings, StartError
from oat_trusted_filter.backend.store import changes, hosts
from oat_trusted_filter.backend.store.engine import Store
from tests.unit.backend.conftest import START, Clock, candidate_of
from tests.unit.backend.test_audit import AsHost
from tests.unit.backend.test_manage import backend, make, one_line, ready  # noqa: F401

OPERATOR = "ann"


class Site:
    """An installation: files, database, and what goes on beside the requests."""

    def __init__(self, ready):  # noqa: F811
        self.backend = ready
        self.clock = Clock()
        self.file = ready.folder / "audit.jsonl"
        ready.options["audit", "file"] = str(self.file)
        ready.write_config()
        conf = parse_configuration(["--config-file", str(ready.config_file)], "x", description="")
        self.settings = Settings.from_conf(conf)
        self.database = ready.state_dir / "oat.sqlite"
        self.store = Store(self.settings.database)

    def act(self, name, action="host.delete"):
        """Approve a host, or delete it."""

        def work(connection):
            if action == "host.approve":
                host = hosts.approve(
                    connection, hosts.enrol(connection, candidate_of(AsHost(name)), START)
                )
            else:
                (host,) = hosts.named(connection, None, name)
                hosts.remove(connection, host)
            hosts.audit_act(connection, OPERATOR, action, host)

        self.store.write(work)

    def upkeep(self):
        """Export, and let what was recorded settle."""
        service = make_service(self.settings, self.store, self.clock)
        work = Upkeep(
            self.settings, self.store, service.signing, self.clock,
            upkeep.receivers(self.settings),
        )  # fmt: skip
        work.run_pass()
        self.clock.pass_by(upkeep.SETTLED_SECONDS)
        work.run_pass()

    def back_up(self):
        """Copy the database as SQLite wants it."""
        copy = self.backend.folder / "backup.sqlite"
        copy.unlink(missing_ok=True)
        self.store.write(lambda c: None)
        with self.store.read() as connection:
            connection.execute(text(f"VACUUM INTO '{copy}'"))
        return copy

    def restore(self, copy):
        self.store.close()
        for path in self.backend.state_dir.glob("oat.sqlite*"):
            path.unlink()
        shutil.copy(copy, self.database)
        self.store = Store(self.settings.database)

    def change(self, statement):
        """What somebody does behind the back of the service."""
        with contextlib.closing(sqlite3.connect(self.database)) as connection:
            connection.execute(statement)
            connection.commit()

    def check(self):
        return self.backend.manage("db", "check")


@pytest.fixture
def site(ready):  # noqa: F811
    made = Site(ready)
    yield made
    made.store.close()


def test_version(ready):  # noqa: F811
    ran = ready.manage("db", "version")
    found, wanted = ran.stdout.strip().split(", this release has ")
    assert found == wanted


def test_a_whole_database(site):
    site.act("node-1", "host.approve")
    ran = site.check()
    assert ran.returncode == 0, ran.stdout
    assert all(line.startswith("OK") for line in ran.stdout.splitlines())
    for subject in ("schema", "references", "bindings", "documents", "audit trail", "backup"):
        assert subject in ran.stdout


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("DROP INDEX ix_audit_host", "schema"),
        ("DELETE FROM hosts", "1 rows of verdicts refer to nothing in hosts"),
        ("DELETE FROM verdicts", "host node-1 is approved and has no verdict"),
        ("UPDATE hosts SET state = 'pending'", "stands for the wrong name"),
        ("UPDATE verdicts SET changed = 10000", "the count is at"),
        ("UPDATE verdicts SET boot_log_digest = 'x'", "verdicts name the boot log x"),
        ("INSERT INTO boot_logs VALUES ('x', x'79')", "the boot log x is another one"),
        ("UPDATE verdicts SET findings = 'x'", "verdicts.findings holds no JSON"),
        ("INSERT INTO policies (name, document, generation, changed_at) VALUES ('p', '{', 1, 1)",
         "cannot be read"),
        ("UPDATE audit SET actor = 'bob' WHERE sequence = 2", "row 2 is not what was written"),
        ("DELETE FROM audit WHERE sequence = 2", "rows 2 to 2 are missing"),
        ("DELETE FROM audit WHERE sequence = (SELECT max(sequence) FROM audit)", "cut-off"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(site, statement, said):
    site.act("node-1", "host.approve")
    site.change(statement)
    ran = site.check()
    assert ran.returncode == 1
    assert said in "\n".join(line for line in ran.stdout.splitlines() if line.startswith("FAIL"))
    assert "database-faulty" in ran.stderr


def test_a_backup_does_not_bring_back_unnoticed_what_was_withdrawn(site):
    site.act("node-1", "host.approve")
    site.upkeep()
    copy = site.back_up()
    site.act("node-1", "host.delete")
    site.upkeep()
    check_not_rolled_back(site.settings, site.store)
    site.restore(copy)
    with site.store.read() as connection:
        assert hosts.named(connection, None, "node-1")
        before = changes.position(connection).epoch
    # The service does not start, and says why.
    with pytest.raises(StartError) as caught:
        check_not_rolled_back(site.settings, site.store)
    assert caught.value.code == "database-rolled-back"
    assert "put back from a backup" in site.check().stdout
    # What operators did since is listed.
    ran = site.backend.manage("db", "restored")
    assert "ann host.delete node-1" in ran.stdout
    assert "ann host.approve" not in ran.stdout
    with pytest.raises(StartError):
        check_not_rolled_back(site.settings, site.store)
    ran = site.backend.manage("db", "restored", "--accept")
    assert "accepted" in ran.stdout
    check_not_rolled_back(site.settings, site.store)
    with site.store.read() as connection:
        assert changes.position(connection).epoch != before
    assert site.check().returncode == 0
    assert "knows all" in site.backend.manage("db", "restored").stdout


def test_another_api_host_learns_that_an_operator_has_accepted(site):
    site.act("node-1", "host.approve")
    copy = site.back_up()
    site.act("node-1", "host.delete")
    site.upkeep()
    state = upkeep.state_file(site.settings).read_bytes()
    site.restore(copy)
    site.backend.manage("db", "restored", "--accept")
    upkeep.state_file(site.settings).write_bytes(state)
    check_not_rolled_back(site.settings, site.store)


def test_a_database_that_went_on_from_a_backup_is_noticed(site):
    site.act("node-1", "host.approve")
    copy = site.back_up()
    site.act("node-1", "host.delete")
    site.upkeep()
    site.restore(copy)
    for number in range(3):
        site.act(f"other-{number}", "host.approve")
    with pytest.raises(StartError) as caught:
        check_not_rolled_back(site.settings, site.store)
    assert caught.value.code == "database-rolled-back"


def test_a_backup_put_back_under_a_running_service_is_told_once(site, caplog):
    site.act("node-1", "host.approve")
    copy = site.back_up()
    site.act("node-1", "host.delete")
    site.upkeep()
    site.restore(copy)
    with site.store.read() as connection:
        before = changes.position(connection).epoch
    service = make_service(site.settings, site.store, site.clock)
    work = Upkeep(site.settings, site.store, service.signing, site.clock, {})
    for _ in range(3):
        site.clock.pass_by(upkeep.SETTLED_SECONDS)
        work.run_pass()
    assert caplog.text.count("database-rolled-back") == 1
    with site.store.read() as connection:
        assert changes.position(connection).epoch != before
    # What is remembered stays, so the next start says it again.
    with pytest.raises(StartError):
        check_not_rolled_back(site.settings, site.store)


def test_a_purged_trail_is_no_backup(site):
    site.act("node-1", "host.approve")
    site.upkeep()
    ran = site.backend.manage("db", "purge", "--audit-days", "1")
    assert "deleted 0 rows" in ran.stdout
    site.change("UPDATE audit SET at = 1")
    site.backend.manage("db", "purge", "--audit-days", "1")
    check_not_rolled_back(site.settings, site.store)


def test_purge(site):
    ran = site.backend.manage("db", "purge")
    assert (ran.returncode, ran.stdout) == (0, "deleted 0 reports\n")


def test_upgrade_check(ready, capsys):  # noqa: F811
    argv = ["--config-file", str(ready.config_file), "upgrade", "check", "--json"]
    capsys.readouterr()
    assert upgrade.run(argv) == 0
    found = json.loads(capsys.readouterr().out)
    assert {check["check"]: check["result"] for check in found["checks"]} == {
        "Database schema": 0, "Signing key": 0,
    }  # fmt: skip
    (ready.state_dir / "signing.key").unlink()
    store = Store(f"sqlite:///{ready.state_dir / 'oat.sqlite'}")
    store.write(lambda c: c.execute(text("UPDATE alembic_version SET version_num = '0001'")))
    store.close()
    assert upgrade.run(argv) == 2
    said = capsys.readouterr().out
    assert "oat-manage db sync" in said
    assert "signing.key" in said
