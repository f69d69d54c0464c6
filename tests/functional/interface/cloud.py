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
"""A small cloud behind the interface: hosts in every state, and a credential of each role."""

import datetime
import hashlib
import json
import os
import shutil
import struct
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import falcon.testing
from gabbi.fixture import GabbiFixture
from oslo_config import cfg

from oat_trusted_filter.backend.api.application import make_application
from oat_trusted_filter.backend.api.service import make_service
from oat_trusted_filter.backend.challenge_key import rotated as challenge_keys
from oat_trusted_filter.backend.manage import authority
from oat_trusted_filter.backend.manage.credentials import create_token, create_user
from oat_trusted_filter.backend.settings import Settings
from oat_trusted_filter.backend.signing import rotated as signing_keys
from oat_trusted_filter.backend.store import activations, hosts, migrate
from oat_trusted_filter.backend.store.activations import Activation
from oat_trusted_filter.backend.store.credentials import ADMIN, READER, ROLES
from oat_trusted_filter.backend.store.engine import Store
from oat_trusted_filter.conf import backend as backend_conf
from oat_trusted_filter.tcg.public import TPMA_DECRYPT, TPMA_SIGN
from tests.lab.quotes import ATTRIBUTES, SigningKey, sized
from tests.unit.backend.attesting import AttestingHost, b64
from tests.unit.backend.conftest import candidate_of

_TPM_ALG_RSA, _TPM_ALG_SHA256, _TPM_ALG_AES, _TPM_ALG_CFB, _TPM_ALG_NULL = 1, 0xB, 6, 0x43, 0x10
SECRET = bytes(range(32))
TEN_MINUTES = 600_000


def endorsement_public():
    """TPM2B_PUBLIC of an endorsement key by the template of the TCG for RSA 2048."""
    numbers = SigningKey.rsa().private.public_key().public_numbers()
    area = struct.pack(
        ">HHI", _TPM_ALG_RSA, _TPM_ALG_SHA256, ATTRIBUTES & ~TPMA_SIGN | TPMA_DECRYPT
    )
    area += sized(bytes(32)) + struct.pack(">HHH", _TPM_ALG_AES, 128, _TPM_ALG_CFB)
    area += struct.pack(">HHI", _TPM_ALG_NULL, 2048, 0) + sized(numbers.n.to_bytes(256, "big"))
    return sized(area)


class Cloud:
    """The service in this process, and what is behind it."""

    def __init__(self, folder, **options):
        (folder / "challenge.key").write_bytes(challenge_keys((), 0, 0))
        (folder / "signing.key").write_bytes(signing_keys(None))
        authority.ensure(folder, (), datetime.datetime.now(datetime.UTC))
        conf = cfg.ConfigOpts()
        backend_conf.register_opts(conf)
        conf(["--config-dir", str(folder)])
        conf.set_override("state_dir", str(folder), "attestation")
        for (group, name), value in options.items():
            conf.set_override(name, value, group)
        self.store = Store(f"sqlite:///{folder / 'oat.sqlite'}")
        migrate.sync(self.store)
        self.service = make_service(Settings.from_conf(conf), self.store)
        self.application = make_application(self.service)
        self.client = falcon.testing.TestClient(self.application)
        self.tokens = {role: create_token(self.store, role, role) for role in ROLES}
        self.tokens["regional"] = create_token(self.store, "regional", READER, region="west")
        create_user(self.store, "ann", READER, "correct horse")

    @staticmethod
    def now():
        """Milliseconds since 1970."""
        return time.time_ns() // 1_000_000

    def call(self, method, path, body=None):
        """What hosts and the administrator ask for."""
        headers = {"Authorization": f"Bearer {self.tokens[ADMIN]}"}
        return self.client.simulate_request(method, path, json=body, headers=headers)

    def host(self, name, *, region="", approved=True, fingerprint=None):
        """A host, with its own key if nothing is said of it."""
        host = AttestingHost(self, name, region=region)
        host.fingerprint = fingerprint or hashlib.sha256(host.key.public).hexdigest()
        candidate = candidate_of(host, ek_fingerprint=host.fingerprint)

        def work(connection):
            found = hosts.enrol(connection, candidate, self.now())
            return hosts.approve(connection, found) if approved else found

        self.store.write(work)
        return host

    def populate(self):
        """Hosts in every state; what sentences need to speak of them."""
        good = self.host("trusted-1")
        good.attest()
        body = {"name": "good", "from_hosts": ["trusted-1"]}
        assert self.call("POST", "/v1/reference-sets", body).status_code == 201
        silent = self.host("silent-1")
        for name in ("double-1", "rival-1"):
            self.host(name, approved=False, fingerprint=silent.fingerprint)
        pending = self.host("pending-1", approved=False)
        waiting = self.host("trusted-1", approved=False)
        rivals = [self.host("rival-1", approved=False) for _ in range(2)]
        for region in ("east", "west"):
            self.host("twin-1", region=region)
        stranger = AttestingHost(self, "stranger-1")
        evidence = good.evidence()
        issue = self.service.challenges.issue
        expired = issue("", "trusted-1", self.now() - TEN_MINUTES)
        return {
            **{role.upper(): token for role, token in self.tokens.items()},
            "EVIDENCE_EXPIRED": good.evidence(expired),
            "EVIDENCE_OF_ANOTHER": good.evidence(issue("", "silent-1", self.now())),
            "EVIDENCE_MALFORMED": {**evidence, "challenge": "x"},
            "EVIDENCE_FORGED": good.evidence(key=SigningKey.ecc()),
            "EVIDENCE_OF_UNKNOWN_LOG": {
                **evidence, "boot_log": {"digest": "5" * 64, "data": None},
            },
            "EVIDENCE_OF_WRONG_LOG": {
                **evidence, "boot_log": {**evidence["boot_log"], "digest": "5" * 64},
            },
            "EVIDENCE_BACKWARDS": good.evidence(clock=1),
            "EVIDENCE": good.evidence(),
            "EVIDENCE_PENDING": pending.evidence(),
            "EVIDENCE_UNKNOWN": stranger.evidence(),
            "FINGERPRINT_PENDING": pending.fingerprint,
            "FINGERPRINT_NEW_BOARD": waiting.fingerprint,
            "FINGERPRINT_RIVAL": rivals[0].fingerprint,
            "FINGERPRINT_OTHER_RIVAL": rivals[1].fingerprint,
            "FINGERPRINT_TRUSTED": good.fingerprint,
            "FINGERPRINT_SILENT": silent.fingerprint,
            "ENROLMENT": {
                "host": "new-1", "ek_public": b64(endorsement_public()),
                "ak_public": b64(SigningKey.ecc().public), "banks": ["sha256"],
            },
            "ACTIVATION_GOOD": self.activation("new-2"),
            "ACTIVATION_WRONG": self.activation("new-3"),
            "SECRET": b64(SECRET),
        }  # fmt: skip

    def activation(self, name):
        """An enrolment that waits for its secret; the id."""
        candidate = candidate_of(AttestingHost(self, name))
        number = hashlib.sha256(name.encode()).hexdigest()[:48]
        record = Activation(
            id=number,
            secret_digest=hashlib.sha256(SECRET).hexdigest(),
            expires_at=self.now() + TEN_MINUTES,
            candidate=json.dumps({
                field: getattr(candidate, field) if field != "ak_public" else b64(
                    candidate.ak_public
                )
                for field in candidate.__slots__
            }),
        )  # fmt: skip
        self.store.write(lambda connection: activations.add(connection, record, self.now()))
        return number


_CURRENT: list[Cloud] = []


def application():
    """The service the sentences talk to, which is there when they do."""

    def serve(environ, start_response):
        return _CURRENT[-1].application(environ, start_response)

    return serve


class CloudFixture(GabbiFixture):
    """A cloud of its own for each file of sentences."""

    def start_fixture(self):
        self._undo = ExitStack()
        folder = Path(tempfile.mkdtemp(prefix="oat-gabbi-"))
        self._undo.callback(shutil.rmtree, folder)
        cloud = Cloud(folder)
        self._undo.callback(cloud.store.close)
        _CURRENT.append(cloud)
        self._undo.callback(_CURRENT.pop)
        for name, value in cloud.populate().items():
            text = value if isinstance(value, str) else json.dumps(value)
            os.environ[name] = text
            self._undo.callback(os.environ.pop, name, None)

    def stop_fixture(self):
        self._undo.close()
