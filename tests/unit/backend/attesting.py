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
"""A host that attests without a TPM: a recorded boot and a key that signs like one of a TPM."""

import base64
import hashlib

from oat_trusted_filter.backend.appraisal.records import QUOTED_PCRS
from oat_trusted_filter.backend.appraisal.reference import BOOT_PCRS
from oat_trusted_filter.tcg.bootlog import parse_boot_log, replay
from tests.lab.boots import Boot
from tests.lab.quotes import SigningKey, quote, select

IMPLEMENTED = ("sha1", "sha256", "sha384", "sha512")
ALLOCATED = ("sha1", "sha256", "sha384")


def b64(data):
    """Base64 as it is on the wire."""
    return base64.b64encode(data).decode()


class AttestingHost:
    """The host.

    :param place: where it attests: something with ``call(method, path, body)``.
    """

    def __init__(self, place, name, boot="machine-a", region=""):
        self.place = place
        self.name = name
        self.region = region
        self.key = SigningKey.ecc()
        self.binding = None
        self.clock = 1000
        self.reset_count = 1
        self.boot(boot)

    def boot(self, name):
        """Boot this recording."""
        recorded = Boot(name)
        self.boot_log = recorded.boot_log
        self.reset_count += 1
        self.values = {
            bank: {pcr: recorded.pcrs[bank][pcr] for pcr in QUOTED_PCRS} for bank in ALLOCATED
        }

    @property
    def identity(self):
        """Who it says it is."""
        return {"region": self.region, "host": self.name}

    def challenge(self):
        """A challenge for this host."""
        answer = self.place.call("POST", "/v1/challenges", self.identity)
        assert answer.status_code == 200, answer.text
        return answer.json["challenge"]

    def log_is(self, data):
        """Take this boot log, and the PCRs it leads to."""
        self.boot_log = data
        log = parse_boot_log(data)
        for bank in self.values:
            led = replay(log, bank)
            self.values[bank].update({pcr: led[pcr] for pcr in BOOT_PCRS})

    def evidence(self, challenge=None, *, with_log=True, key=None, selections=None, **fields):
        """Evidence on the wire.

        :param selections: what the TPM is told to quote.
        :param fields: of the signed structure.
        """
        challenge = self.challenge() if challenge is None else challenge
        self.clock += 1000
        fields = {"clock": self.clock, "reset_count": self.reset_count, **fields}
        nonce = hashlib.sha256(base64.urlsafe_b64decode(challenge)).digest()
        if selections is None:
            selections = select(IMPLEMENTED, tuple(self.values), QUOTED_PCRS)
        message, signature = quote(key or self.key, nonce, self.values, selections, **fields)
        return {
            **self.identity,
            "challenge": challenge,
            "quote": b64(message),
            "signature": b64(signature),
            "pcrs": {
                bank: {str(pcr): value.hex() for pcr, value in values.items()}
                for bank, values in self.values.items()
            },
            "boot_log": {
                "digest": hashlib.sha256(self.boot_log).hexdigest(),
                "data": b64(self.boot_log) if with_log else None,
            },
        }

    def submit(self, body=None):
        """Hand it in; the answer, whatever it is."""
        return self.place.call("POST", "/v1/evidence", body or self.evidence())

    def attest(self):
        """A round that is accepted; the level."""
        answer = self.submit()
        assert answer.status_code == 200, answer.text
        return answer.json["level"]
