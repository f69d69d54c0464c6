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
"""Hosts that attest and enrol while workers of the service are killed, and what these were told.

Whoever gets no answer does as an agent does, and tries again. In addition evidence is sent again
that may have been taken already, and some that was taken for sure.
"""

import base64
import json
import os
import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from tests.lab.backend import alive
from tests.lab.load import BAD, GOOD, Wire, context_of
from tests.lab.paper_tpm import PaperTpm
from tests.lab.wait import wait_for
from tests.unit.backend.attesting import IMPLEMENTED, b64

#: Seconds for a request with all its attempts, and for a worker to take the place of another.
PATIENCE = 60.0
LEVELS = {GOOD: "trusted", BAD: "untrusted"}
_LONGEST_PAUSE = 0.05


@dataclass
class Heard:
    """What was acknowledged."""

    verdicts: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    """Host -> moment and level of each."""
    enrolled: dict[str, str] = field(default_factory=dict)
    """Host -> fingerprint of its endorsement key."""
    approved: set[str] = field(default_factory=set)
    spent: int = 0
    """Challenges that were answered a second time, and refused."""
    lost: int = 0
    """Requests nobody answered."""


class Storm:
    """The storm around a service.

    :param hosts: those that are approved and known by both boots.
    :param enrolling: how many TPMs enrol under ever new names.
    """

    def __init__(self, backend, hosts, enrolling):
        self.backend = backend
        self.hosts = hosts
        self.tpms = [PaperTpm() for _ in range(enrolling)]
        self.heard = Heard()
        self.kills = 0
        self._stop = threading.Event()
        self._context = context_of(backend)
        self._lock = threading.Lock()
        self._answered = 0

    def rage(self, rounds):
        """Kill so many workers at random points; everybody ends what he has begun."""
        with ThreadPoolExecutor(len(self.hosts) + len(self.tpms)) as pool:
            doing = [pool.submit(self._attest, host) for host in self.hosts]
            doing += [pool.submit(self._enrol, *pair) for pair in enumerate(self.tpms)]
            try:
                last = None
                for number in range(rounds):
                    last = self._kill(last, doing)
                    if number % 50 == 49:
                        print(f"{number + 1} workers killed, {self._answered} requests answered")
            finally:
                self._stop.set()
            for one in doing:
                one.result(2 * PATIENCE)

    def _kill(self, last, doing):
        """Kill a worker in the middle of its work; the worker that has taken its place.

        :param last: the worker that came last: if that dies young the service takes it for a sign
            that no worker can live.
        """
        before, wanted = self._answered, random.randint(1, 8)

        def at_work():
            for one in doing:
                if one.done():
                    one.result()
            return self._answered >= before + wanted

        wait_for(at_work, PATIENCE, "answers", poll_seconds=0.002)
        time.sleep(random.uniform(0, _LONGEST_PAUSE))  # any point of what is under way
        workers = self.backend.worker_pids()
        victim = random.choice([pid for pid in workers if pid != last])
        os.kill(victim, signal.SIGKILL)
        self.kills += 1

        def replaced():
            assert self.backend.running, self._complaints()
            return [pid for pid in self.backend.worker_pids() if pid not in workers and alive(pid)]

        return wait_for(replaced, PATIENCE, "another worker")[0]

    def _complaints(self):
        """The end of what the service has written, without what is as it should be."""
        lines = self.backend.log.splitlines()
        return "\n".join([line for line in lines if " INFO " not in line][-30:])

    # -- who takes part -----------------------------------------------------------------------

    def _attest(self, host):
        told = self.heard.verdicts.setdefault(host.name, [])
        with _Line(self) as line:
            while not self._stop.is_set():
                host.boot(BAD if host.image.name == GOOD else GOOD)
                while (answer := self._round(line, host)) is None:
                    pass
                told.append(answer)

    def _round(self, line, host):
        """Moment and level that were acknowledged; None: the answer was lost, and it was taken."""
        challenge = json.loads(line.ask("POST", "/v1/challenges", host.challenge())[1])
        body = host.evidence(challenge["challenge"])
        status, answer = line.ask("POST", "/v1/evidence", body)
        document = json.loads(answer)
        if status != 200:
            assert line.lost, f"refused at the first attempt: {document}"
            assert document["code"] == "challenge-spent", document
            return None
        assert document["level"] == LEVELS[host.image.name], document
        again, answer = line.ask("POST", "/v1/evidence", body)
        assert (again, json.loads(answer)["code"]) == (403, "challenge-spent")
        self._count(spent=1)
        return document["appraised_at"], document["level"]

    def _enrol(self, number, tpm):
        operator = {"Authorization": f"Bearer {self.backend.admin_token}"}
        with _Line(self) as line:
            count = 0
            while not self._stop.is_set():
                name = f"new-{number}-{count}"
                body = {
                    "host": name,
                    "ek_public": b64(tpm.ek_public),
                    "ak_public": b64(tpm.ak.public),
                    "banks": IMPLEMENTED,
                }
                while not self._activate(line, tpm, body):
                    pass
                self.heard.enrolled[name] = tpm.fingerprint
                count += 1
                if count % 2:
                    continue
                path, chosen = f"/v1/hosts/{name}/approve", {"ek_fingerprint": tpm.fingerprint}
                status, answer = line.ask("POST", path, _json(chosen), **operator)
                assert status == 200, answer
                self.heard.approved.add(name)
                tpm = PaperTpm()  # one stands for one name

    def _activate(self, line, tpm, body):
        """Whether an enrolment came to its end; otherwise its answer was lost and it was taken."""
        status, answer = line.ask("POST", "/v1/enrolments", _json(body))
        assert status == 201, answer
        begun = json.loads(answer)
        sealed = (base64.b64decode(begun[name]) for name in ("credential_blob", "encrypted_secret"))
        secret = {"secret": b64(tpm.activate(*sealed))}
        status, answer = line.ask("PUT", f"/v1/enrolments/{begun['id']}", _json(secret))
        if status != 200:
            assert line.lost, answer
            assert json.loads(answer)["code"] == "enrolment-unknown", answer
            return False
        return True

    def _count(self, answered=0, lost=0, spent=0):
        with self._lock:
            self._answered += answered
            self.heard.lost += lost
            self.heard.spent += spent


class _Line:
    """Connections of one client, one after the other."""

    def __init__(self, storm):
        self._storm = storm
        self._wire = None
        self.lost = False

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self._close()

    def ask(self, method, path, body, **headers):
        """Status and body of the answer, sent as often as it takes; ``lost`` if more than once."""
        storm, self.lost = self._storm, False
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                if self._wire is None:
                    self._wire = Wire(storm.backend, storm._context)
                status, _, answer = self._wire.call(method, path, body, **headers)
            except OSError:
                self._close()
                self.lost = True
                storm._count(lost=1)
                assert time.monotonic() < deadline, "nobody answers any more"
                time.sleep(random.uniform(0, _LONGEST_PAUSE))
                continue
            storm._count(answered=1)
            return status, answer

    def _close(self):
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close()


def _json(document):
    return json.dumps(document).encode()
