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
"""oat-manage, command by command."""

import functools
import io
import logging
import os
import shlex
import stat
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from oat_trusted_filter.backend.manage.program import run
from oat_trusted_filter.backend.store import credentials
from oat_trusted_filter.backend.store.engine import Store
from tests.lab.backend import Backend
from tests.lab.nobody import run_as_nobody

EVERYWHERE = "0.0.0.0"  # noqa: S104

SECRETS = (
    "admin-openrc", "ca.key", "challenge.key", "oat.sqlite", "scheduler.token", "server.key",
    "signing.key",
)  # fmt: skip
PUBLIC = ("ca.pem", "server.pem")


class InProcess(Backend):
    """A backend whose oat-manage runs in this process, which is ten times faster."""

    def __init__(self, folder, capsys, options=None):
        super().__init__(folder, options)
        self._capsys = capsys
        self.write_config()

    def manage(self, *words, stdin=""):
        """As that of the lab."""
        argv = ["--config-file", str(self.config_file), *words]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.stdin", io.StringIO(stdin))
            self._capsys.readouterr()
            try:
                status = run(argv)
            except SystemExit as stop:
                status = stop.code or 0
        said = self._capsys.readouterr()
        return subprocess.CompletedProcess(argv, status, said.out, said.err)


@pytest.fixture
def make(tmp_path, capsys, monkeypatch):
    """Makes configurations."""
    # The program sets up the log of this process.
    monkeypatch.setattr(logging.root, "handlers", list(logging.root.handlers))
    monkeypatch.setattr(logging.root, "level", logging.root.level)
    return functools.partial(InProcess, tmp_path, capsys)


@pytest.fixture
def backend(make):
    """A configuration, nothing else."""
    return make()


@pytest.fixture
def ready(backend):
    """What both commands have made."""
    backend.init()
    return backend


def contents(backend):
    return {
        path.name: path.read_bytes()
        for path in backend.state_dir.iterdir()
        if not path.name.startswith("oat.sqlite")
    }


def one_line(ran, status, *words):
    assert ran.returncode == status
    assert ran.stdout == ""
    (line,) = ran.stderr.splitlines()
    assert line.startswith("oat-manage: ")
    for word in words:
        assert word in line


def test_what_is_made_and_who_may_read_it(ready):
    assert set(contents(ready)) | {"oat.sqlite"} == {*SECRETS, *PUBLIC}
    for name in SECRETS:
        assert stat.S_IMODE((ready.state_dir / name).stat().st_mode) == 0o600, name
    for name in PUBLIC:
        assert stat.S_IMODE((ready.state_dir / name).stat().st_mode) == 0o644, name
    assert stat.S_IMODE(ready.state_dir.stat().st_mode) & 0o007 == 0


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_C6_permissions_do_not_depend_on_the_umask(backend, umask):
    old = os.umask(umask)
    try:
        if umask != 0o777:
            backend.init()
        else:
            os.umask(0o022)
            backend.init()
            (backend.state_dir / "challenge.key").unlink()
            os.umask(umask)
            assert backend.manage("init").returncode == 0
    finally:
        os.umask(old)
    for name in SECRETS:
        assert stat.S_IMODE((backend.state_dir / name).stat().st_mode) == 0o600, name


def test_repeating_keeps_what_is_there(ready):
    before = contents(ready)
    for words in (("db", "sync"), ("init",), ("init",)):
        ran = ready.manage(*words)
        assert ran.returncode == 0, ran.stderr
    assert contents(ready) == before


def test_what_is_missing_is_made_again_and_the_rest_stays(ready):
    before = contents(ready)
    for name in ("challenge.key", "server.pem", "scheduler.token"):
        (ready.state_dir / name).unlink()
    ran = ready.manage("init")
    assert ran.returncode == 0
    after = contents(ready)
    assert set(after) == set(before)
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"challenge.key", "server.pem", "server.key", "scheduler.token"}


def test_tokens_of_files_are_valid_again_after_the_database_was_lost(ready):
    token = ready.admin_token
    (ready.state_dir / "oat.sqlite").unlink()
    ready.init()
    assert ready.admin_token == token
    store = Store(f"sqlite:///{ready.state_dir}/oat.sqlite")
    with store.read() as connection:
        assert credentials.holder_of(connection, token, 0).name == "admin"
    store.close()


def test_nothing_secret_is_printed(backend):
    said = ""
    for words in (("db", "sync"), ("init",), ("init",)):
        ran = backend.manage(*words)
        said += ran.stdout + ran.stderr
    for hidden in (backend.admin_token, backend.scheduler_token):
        assert hidden not in said
    assert (backend.state_dir / "challenge.key").read_text().strip() not in said
    assert str(backend.state_dir / "admin-openrc") in said


def test_certificates(ready):
    ca, server = (
        x509.load_pem_x509_certificate((ready.state_dir / name).read_bytes()) for name in PUBLIC
    )
    server.verify_directly_issued_by(ca)
    assert isinstance(ca.public_key(), ec.EllipticCurvePublicKey)
    basic = ca.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, 0)
    lifetime = ca.not_valid_after_utc - ca.not_valid_before_utc
    assert 3650 <= lifetime.days <= 3660
    purpose = server.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purpose) == [x509.ExtendedKeyUsageOID.SERVER_AUTH]
    assert names_in(server) == {"localhost", "127.0.0.1", "::1"}


def names_in(certificate):
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {
        *names.get_values_for_type(x509.DNSName),
        *map(str, names.get_values_for_type(x509.IPAddress)),
    }


def test_names_of_the_server_add_up(ready):
    load = lambda: x509.load_pem_x509_certificate((ready.state_dir / "server.pem").read_bytes())  # noqa: E731
    ca = ready.cacert.read_bytes()
    ran = ready.manage("init", "--host", "Attest.example.org", "--host", "192.0.2.7")
    assert ran.returncode == 0, ran.stderr
    loopback = {"localhost", "127.0.0.1", "::1"}
    assert names_in(load()) == loopback | {"attest.example.org", "192.0.2.7"}
    ready.manage("init", "--host", "2001:db8::1")
    assert names_in(load()) == loopback | {"attest.example.org", "192.0.2.7", "2001:db8::1"}
    before = contents(ready)
    ready.manage("init", "--host", "192.0.2.7")
    assert contents(ready) == before
    assert ready.cacert.read_bytes() == ca


def test_a_certificate_of_somebody_else_is_left_alone(ready):
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=ours",
            "-keyout", str(ready.state_dir / "server.key"),
            "-out", str(ready.state_dir / "server.pem"),
        ],
        check=True,
        capture_output=True,
    )  # fmt: skip
    before = contents(ready)
    ran = ready.manage("init", "--host", "attest.example.org")
    assert ran.returncode == 0
    assert contents(ready) == before


def test_the_file_for_operators_is_one_for_a_shell(ready):
    script = f". {ready.state_dir}/admin-openrc; echo $OAT_ENDPOINT $OAT_TOKEN $OAT_CACERT"
    ran = subprocess.run(["sh", "-c", script], check=True, capture_output=True, text=True)
    assert ran.stdout.split() == [ready.endpoint, ready.admin_token, str(ready.cacert)]


@pytest.mark.parametrize(
    ("bind_host", "names", "expected"),
    [
        (EVERYWHERE, ("attest.example.org", "10.0.0.1"), "https://attest.example.org:8443"),
        (EVERYWHERE, (), "https://127.0.0.1:8443"),
        ("192.0.2.7", (), "https://192.0.2.7:8443"),
        ("::1", (), "https://[::1]:8443"),
    ],
)
def test_the_endpoint_in_it(make, bind_host, names, expected):
    backend = make({("api", "bind_host"): bind_host, ("api", "port"): 8443})
    assert backend.manage("db", "sync").returncode == 0
    options = [word for name in names for word in ("--host", name)]
    assert backend.manage("init", *options).returncode == 0
    text = (backend.state_dir / "admin-openrc").read_text()
    assert f"OAT_ENDPOINT={shlex.quote(expected)}\n" in text


@pytest.mark.parametrize("name", ["a b", "", "-x.example.org", "a/b", "https://a", "*"])
def test_odd_names_of_the_server(ready, name):
    before = contents(ready)
    one_line(ready.manage("init", f"--host={name}"), 1, "configuration")
    assert contents(ready) == before


def test_init_needs_a_database(backend):
    one_line(backend.manage("init"), 1, "database-not-synced", "db sync")


def test_half_an_authority_is_not_replaced(ready):
    (ready.state_dir / "ca.key").unlink()
    one_line(ready.manage("init"), 1, "tls-file-missing", "ca.pem")


def test_tokens(ready):
    ran = ready.manage("token", "create", "dashboard", "--role", "reader")
    assert ran.returncode == 0
    (token,) = ran.stdout.split()
    assert len(token) > 40
    one_line(ready.manage("token", "create", "dashboard", "--role", "reader"), 1,
             "credential-exists")  # fmt: skip
    ran = ready.manage("token", "create", "dashboard", "--role", "admin", "--replace")
    assert ran.stdout.strip() not in ("", token)


@pytest.mark.parametrize("password", ["short", "", "x" * 1025])
def test_passwords_that_are_none(ready, password):
    ran = ready.manage("user", "create", "ann", stdin=f"{password}\n")
    one_line(ran, 1, "password-invalid")


def test_keys_that_sign(ready):
    (first,) = ready.manage("key", "list").stdout.split()
    before = (ready.state_dir / "signing.key").read_bytes()
    second = ready.manage("key", "rotate").stdout.strip()
    assert ready.manage("key", "list").stdout.split() == [second, first]
    shown = ready.manage("key", "certificate").stdout
    assert second in x509.load_pem_x509_certificate(shown.encode()).subject.rfc4514_string()
    assert shown == ready.manage("key", "certificate").stdout
    assert before not in (ready.state_dir / "signing.key").read_bytes()
    assert stat.S_IMODE((ready.state_dir / "signing.key").stat().st_mode) == 0o600
    (ready.state_dir / "signing.key").unlink()
    one_line(ready.manage("key", "list"), 1, "signing-key-missing", "init")
    ran = ready.manage("key", "rotate")
    assert ready.manage("key", "list").stdout == ran.stdout
    (ready.state_dir / "signing.key").write_text("nonsense")
    for action in ("list", "rotate"):
        one_line(ready.manage("key", action), 1, "signing-key-invalid")


def test_people(ready):
    ran = ready.manage("user", "create", "ann", "--role", "reader", stdin="correct horse\n")
    assert ran.returncode == 0
    assert "ann" in ran.stdout
    assert "correct" not in ran.stdout + ran.stderr


@pytest.mark.parametrize(
    "words",
    [
        (), ("db",), ("db", "drop"), ("token",), ("token", "create"), ("bogus",),
        ("token", "create", "x"), ("token", "create", "x", "--role", "king"),
    ],
)  # fmt: skip
def test_wrong_use(ready, words):
    ran = ready.manage(*words)
    assert ran.returncode == 2
    assert "usage" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_help_names_the_commands(ready):
    ran = ready.manage("--help")
    assert ran.returncode == 0
    for word in ("db", "init", "key", "token", "user"):
        assert word in ran.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_files_that_cannot_be_written(backend):
    backend.state_dir.mkdir()
    ran = run_as_nobody(run, ["--config-file", str(backend.config_file), "db", "sync"])
    one_line(ran, 1, "state-dir-unwritable", str(backend.state_dir))


def test_a_missing_configuration_file(backend):
    backend.config_file.unlink()
    one_line(backend.manage("db", "sync"), 1, "configuration", str(backend.config_file))


def test_odd_configuration(make):
    for options, word in (
        ({("database", "connection"): "nonsense"}, "connection"),
        ({("database", "connection"): "oracle://u:secret@h/d"}, "connection"),
        ({("attestation", "verdict_lifetime"): "soon"}, "verdict_lifetime"),
        ({("attestation", "verdict_lifetime"): "30"}, "verdict_lifetime"),
        ({("api", "port"): "0"}, "port"),
        ({("api", "auth_strategy"): "noauth", ("api", "bind_host"): EVERYWHERE}, "noauth"),
    ):
        ran = make(options).manage("db", "sync")
        one_line(ran, 1, word)
        assert "secret" not in ran.stderr
