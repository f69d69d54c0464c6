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
"""oat-manage check: what it says about an installation, and that it changes nothing."""

import datetime
import shutil
import time

import pytest

from oat_trusted_filter.backend.manage import authority
from oat_trusted_filter.backend.store import hosts, tables, verdicts
from oat_trusted_filter.backend.store.engine import Store
from tests.lab.makers import authority as authority_of_a_maker
from tests.lab.makers import revocation_list
from tests.unit.backend.test_manage import backend, contents, make, ready

__all__ = ["backend", "make", "ready"]


def lines_of(ran):
    return [line for line in ran.stdout.splitlines() if line.startswith(("OK", "FAIL"))]


def faults(ran):
    return [line for line in lines_of(ran) if line.startswith("FAIL")]


def test_an_installation_without_a_fault(ready):
    before = contents(ready)
    ran = ready.manage("check")
    assert ran.returncode == 0, ran.stdout
    assert faults(ran) == []
    subjects = {line[6:21].strip() for line in lines_of(ran)}
    assert {
        "configuration", "service", "state folder", "secret", "database", "clock", "TLS",
        "TLS authority", "TPM libraries", "TPM makers",
    } == subjects  # fmt: skip
    assert contents(ready) == before


def test_nothing_has_been_made_yet(backend):
    ran = backend.manage("check")
    assert ran.returncode == 1
    assert ran.stderr.startswith("oat-manage: ")
    assert "FAIL  database" in ran.stdout
    assert "oat-manage" in ran.stdout
    assert not backend.state_dir.exists() or not any(backend.state_dir.iterdir())


@pytest.mark.parametrize(
    "name", ["challenge.key", "signing.key", "server.key", "ca.key", "admin-openrc"]
)
def test_C6_a_secret_others_can_read(ready, name):
    (ready.state_dir / name).chmod(0o644)
    ran = ready.manage("check")
    assert ran.returncode == 1
    (fault,) = faults(ran)
    assert f"{name} can be read by others (mode 0644)" in fault
    assert "chmod 600" in fault


def test_a_state_folder_others_can_enter(ready):
    ready.state_dir.chmod(0o755)
    (fault,) = faults(ready.manage("check"))
    assert "state folder" in fault
    assert "chmod 750" in fault


@pytest.mark.parametrize("name", ["challenge.key", "signing.key"])
def test_a_key_is_missing(ready, name):
    (ready.state_dir / name).unlink()
    ran = ready.manage("check")
    assert ran.returncode == 1
    assert any(f"{name}: No such file" in fault for fault in faults(ran))


def test_a_certificate_that_is_not_that_of_the_key(ready, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    authority.ensure(other, ["localhost"], datetime.datetime.now(datetime.UTC))
    shutil.copy(other / "server.pem", ready.state_dir / "server.pem")
    (fault,) = faults(ready.manage("check"))
    assert fault.startswith("FAIL  TLS ")


def test_a_certificate_of_an_authority_nobody_knows(ready, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    authority.ensure(other, ["localhost"], datetime.datetime.now(datetime.UTC))
    shutil.copy(other / "ca.pem", ready.state_dir / "ca.pem")
    (fault,) = faults(ready.manage("check"))
    assert "is not signed by the authority" in fault


def test_a_certificate_that_has_expired(ready):
    long_ago = datetime.datetime.now(datetime.UTC) - 2 * authority.LIFETIME
    for path in ready.state_dir.glob("*.pem"):
        path.unlink()
    for path in ("ca.key", "server.key"):
        (ready.state_dir / path).unlink()
    authority.ensure(ready.state_dir, ["localhost"], long_ago)
    found = faults(ready.manage("check"))
    assert [fault for fault in found if "server.pem" in fault and "has expired on" in fault]
    assert [fault for fault in found if "ca.pem" in fault and "has expired on" in fault]


def test_a_database_of_another_release(ready):
    store = Store(f"sqlite:///{ready.state_dir / 'oat.sqlite'}")
    store.write(lambda connection: connection.execute(tables.state.delete()))
    store.close()
    (fault,) = faults(ready.manage("check"))
    assert "database" in fault
    assert "db sync" in fault


def test_E7_the_clock_is_behind_the_verdicts(ready):
    store = Store(f"sqlite:///{ready.state_dir / 'oat.sqlite'}")
    ahead = int((time.time() + 3600) * 1000)

    def appraise_in_the_future(connection):
        host = hosts.register(connection, "", "compute-1", "ab" * 32, ahead)
        verdicts.create(connection, host.id)
        connection.execute(tables.verdicts.update().values(appraised_at=ahead))

    store.write(appraise_in_the_future)
    store.close()
    (fault,) = faults(ready.manage("check"))
    assert "clock" in fault
    assert "s behind the last verdict in the database" in fault


def test_makers_of_tpms_that_cannot_be_read(make, tmp_path):
    folder = tmp_path / "ek-ca"
    folder.mkdir()
    backend = make({("attestation", "ek_ca_dir"): folder})
    backend.init()
    (fault,) = faults(backend.manage("check"))
    assert "ek-ca is empty" in fault
    (folder / "vendor.pem").write_text("no certificate")
    (fault,) = faults(backend.manage("check"))
    assert "is not a certificate" in fault


def test_revocation_lists_that_have_to_be_replaced(ready, tmp_path):
    folder = tmp_path / "ek-crl"
    folder.mkdir()
    ready.options["attestation", "ek_crl_dir"] = str(folder)
    ready.write_config()
    now = datetime.datetime.now(datetime.UTC)
    maker = authority_of_a_maker("maker")
    day = datetime.timedelta(days=1)
    (folder / "good.crl").write_bytes(revocation_list(maker, start=now - day, end=now + day))
    assert faults(ready.manage("check")) == []
    (folder / "late.crl").write_bytes(revocation_list(maker, start=now - 2 * day, end=now - day))
    (fault,) = faults(ready.manage("check"))
    assert f"{folder / 'late.crl'} is out of date" in fault
    (folder / "late.crl").write_bytes(b"nonsense")
    (fault,) = faults(ready.manage("check"))
    assert f"{folder / 'late.crl'} is not a revocation list" in fault
