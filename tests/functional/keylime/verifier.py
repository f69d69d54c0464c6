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
"""A verifier of Keylime, as it comes from PyPI, over mutual TLS."""

import datetime
import ipaddress
import os
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from oat_trusted_filter.client.errors import ClientError
from oat_trusted_filter.client.http import AttestationClient
from tests.lab.wait import wait_for

#: Keylime needs a binding that PyPI has no wheel of; the one of Debian is for the same Python.
GPG = Path("/usr/lib/python3/dist-packages/gpg")
_SECONDS = 90

_CONFIGURATION = """
[verifier]
version = 2.6
uuid = default
ip = 127.0.0.1
port = {port}
tls_dir = {folder}
server_key = server.key
server_key_password =
server_cert = server.pem
trusted_client_ca = ["ca.pem"]
client_key = client.key
client_key_password =
client_cert = client.pem
trusted_server_ca = ["ca.pem"]
database_url = sqlite:///{folder}/verifier.sqlite
database_pool_sz_ovfl = 5,10
auto_migrate_db = True
num_workers = 1
exponential_backoff = True
retry_interval = 2
max_retries = 5
quote_interval = 2
max_upload_size = 1048576
request_timeout = 60.0
measured_boot_policy_name = accept-all
measured_boot_imports = []
measured_boot_evaluate = once
severity_labels = ["info", "emergency"]
severity_policy = [{{"event_id": ".*", "severity_label": "emergency"}}]
ignore_tomtou_errors = False
durable_attestation_import =
[revocations]
enabled_revocation_notifications = []
"""


class KeylimeVerifier:
    """A context manager. Its agents are rows in its database; none of them is asked for a quote."""

    def __init__(self, folder):
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.endpoint = f"https://127.0.0.1:{self.port}"
        self._process = None

    @property
    def cacert(self):
        return str(self.folder / "ca.pem")

    @property
    def certificate(self):
        return str(self.folder / "client.pem"), str(self.folder / "client.key")

    def __enter__(self):
        _make_certificates(self.folder)
        (self.folder / "verifier.conf").write_text(
            _CONFIGURATION.format(folder=self.folder, port=self.port)
        )
        modules = self.folder / "modules"
        modules.mkdir()
        (modules / "gpg").symlink_to(GPG)
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", "from keylime.cmd.verifier import main; main()"],
                env={
                    **os.environ,
                    "KEYLIME_TEST": "True",
                    "KEYLIME_DIR": str(self.folder),
                    "KEYLIME_VERIFIER_CONFIG": str(self.folder / "verifier.conf"),
                    "PYTHONPATH": str(modules),
                },
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            wait_for(self._answers, _SECONDS, "the verifier of Keylime", poll_seconds=0.2)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc_info):
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, 9)
            self._process.wait()

    def client(self, **options):
        return AttestationClient(
            self.endpoint, **{"cacert": self.cacert, "certificate": self.certificate, **options}
        )

    def agent(self, name, state, attested_at=None):
        """Let an agent be in this state; another verifier is said to look after it."""
        with sqlite3.connect(self.folder / "verifier.sqlite", timeout=10) as database:
            database.execute("insert or ignore into allowlists (id, name) values (1, 'any')")
            database.execute("insert or ignore into mbpolicies (id, name) values (1, 'any')")
            database.execute("delete from verifiermain where agent_id = ?", (name,))
            database.execute(
                "insert into verifiermain (agent_id, ip, port, verifier_id, ima_policy_id,"
                " mb_policy_id, operational_state, attestation_count, last_received_quote,"
                " last_successful_attestation)"
                " values (?, '127.0.0.1', 9002, 'another', 1, 1, ?, 1, ?, ?)",
                (name, state, attested_at, attested_at),
            )
        database.close()

    def _answers(self):
        if self._process.poll() is not None:
            raise AssertionError((self.folder / "log").read_text()[-2000:])
        client = self.client(timeout=5.0)
        try:
            return client.request("GET", "/version")[0] == 200
        except ClientError:
            return False
        finally:
            client.close()


def _make_certificates(folder):
    """An authority, and certificates of the verifier and of a client by it."""
    authority, key = _certificate("ca", None, None)
    _write(folder, "ca", authority, key)
    for name in ("server", "client"):
        _write(folder, name, *_certificate(name, authority, key))


def _certificate(name, issuer, issuer_key):
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if issuer:
        names = [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(issuer_key or key, hashes.SHA256()), key


def _write(folder, name, certificate, key):
    (folder / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / f"{name}.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
