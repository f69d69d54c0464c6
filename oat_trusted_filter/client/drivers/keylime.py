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
"""The driver ``keylime``: the verifier of Keylime 7.

``GET /v2.N/agents/?bulk=true`` tells how each agent fares. Keylime knows agents by an id and not
hosts by the name of their hypervisor: as a rule they are the same (``uuid = hostname`` for the
agent), and where they are not, ``keylime_agents_file`` says which is which.

An agent that attests is trusted for ``attestation_auth_timeout`` seconds from its last success, by
the clock of the verifier. One whose quote was refused is untrusted. Everything else is unknown,
above all an agent the verifier does not reach: that is no sign of tampering.
"""

import json
import time
from collections.abc import Collection, Iterator, Mapping
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Self

from oslo_config import cfg

from oat_trusted_filter.client.drivers.connected import LeaselessDriver
from oat_trusted_filter.client.drivers.oat import Connection
from oat_trusted_filter.client.errors import BadReply, ClientError
from oat_trusted_filter.client.http import AttestationClient
from oat_trusted_filter.client.verdicts import (
    TRUSTED,
    UNKNOWN,
    UNTRUSTED,
    Lapse,
    VerdictRecord,
    VerdictReply,
)

_MAJOR = "2."
_PASS = "PASS"  # noqa: S105  a state, not a password
_FAIL = "FAIL"
#: States of Keylime (keylime.common.states). A quote that is not as it should be leads to the
#: second one, an agent that does not answer to FAILED, which is neither.
_ATTESTING = frozenset({3, 4, 5, 6})  # GET_QUOTE, PROVIDE_V, and both again
_INVALID_QUOTE = 9


class KeylimeDriver(LeaselessDriver):
    """Asks about all agents at once.

    The lifetime is that of an agent's last success.

    :param hosts: hypervisor host name by the id of the agent; None: they are the same.
    """

    def __init__(
        self,
        client: AttestationClient,
        *,
        hosts: Mapping[str, str] | None = None,
        **common: Any,
    ) -> None:
        super().__init__(client, **common)
        self._hosts = hosts
        self._version: str | None = None

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts) -> Self:
        """As ``[trusted_computing]`` says.

        :raises ClientError: ``keylime-agents-file``, besides those of the connection.
        """
        connection = Connection.from_conf(conf)
        group = conf.trusted_computing
        path = group.keylime_agents_file
        return cls(
            connection.make_client(),
            lifetime=float(group.attestation_auth_timeout),
            region=group.region,
            hosts=_read_hosts(path) if path else None,
            warnings=connection.warnings,
        )

    def get_verdicts(
        self,
        since: str | None,
        etag: str | None,
        *,
        names: Collection[str] = (),
        timeout: float,
    ) -> VerdictReply:
        """One request, and one more for a new connection."""
        if self._version is None:
            began_at = time.monotonic()
            self._version = self._newest_version(timeout)
            timeout = max(began_at + timeout - time.monotonic(), 0.001)
        sent_at = time.monotonic()
        _, headers, body = self._client.request(
            "GET", f"/v{self._version}/agents/?bulk=true", timeout=timeout
        )
        agents = _results(body)
        now = _now(headers)
        hosts, lapsing = [], []
        for record, left in self._verdicts(agents, now):
            hosts.append(record)
            if record.level == TRUSTED:
                lapsing.append(Lapse(self._region, record.host, left))
        return self._reply("keylime", sent_at, hosts, lapsing)

    def _newest_version(self, timeout: float) -> str:
        _, _, body = self._client.request("GET", "/version", timeout=timeout)
        offered = _results(body).get("supported_versions")
        if isinstance(offered, list):
            minors = [
                int(version.removeprefix(_MAJOR))
                for version in offered
                if isinstance(version, str)
                and version.startswith(_MAJOR)
                and version.removeprefix(_MAJOR).isdecimal()
            ]
            if minors:
                return f"{_MAJOR}{max(minors)}"
        raise BadReply("reply-invalid", "the verifier offers no version 2 of the API of Keylime")

    def _verdicts(
        self, agents: Mapping[str, Any], now: float
    ) -> Iterator[tuple[VerdictRecord, float]]:
        """Verdicts on hosts, and the seconds they are good for."""
        for agent, status in agents.items():
            host = agent if self._hosts is None else self._hosts.get(agent)
            if host is None or not isinstance(status, Mapping):
                continue
            level, reason, left = _judge(status, now, self._lifetime)
            yield VerdictRecord(self._region, host, level, reason), left


def _judge(status: Mapping[str, Any], now: float, lifetime: float) -> tuple[str, str, float]:
    """Level, reason, and the seconds a trusted one is good for."""
    state, attested = status.get("operational_state"), status.get("last_successful_attestation")
    # Agents that push have no state, and only newer verifiers sum it up in a word.
    word = status.get("attestation_status")
    if state == _INVALID_QUOTE or (state is None and word == _FAIL):
        return UNTRUSTED, "keylime-invalid-quote", 0.0
    if state not in _ATTESTING and not (state is None and word == _PASS):
        return UNKNOWN, "keylime-not-attesting", 0.0
    if isinstance(attested, bool) or not isinstance(attested, int) or attested <= 0:
        return UNKNOWN, "keylime-not-attested", 0.0
    left = lifetime - max(now - attested, 0.0)
    if left <= 0:
        return UNKNOWN, "keylime-silent", 0.0
    return TRUSTED, "", left


def _results(body: Any) -> Mapping[str, Any]:
    results = body.get("results") if isinstance(body, Mapping) else None
    if not isinstance(results, Mapping):
        raise BadReply("reply-invalid", "the reply has no results as those of Keylime have")
    return results


def _now(headers: Mapping[str, str]) -> float:
    """The moment of the answer by the clock of the verifier."""
    text = next((value for name, value in headers.items() if name.lower() == "date"), "")
    try:
        return parsedate_to_datetime(text).timestamp()
    except ValueError as error:
        raise BadReply("reply-invalid", "the reply of the verifier has no date") from error


def _read_hosts(path: str) -> dict[str, str]:
    try:
        hosts = json.loads(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is not JSON"
        raise ClientError("keylime-agents-file", f"{path} cannot be read: {why}") from error
    if not isinstance(hosts, dict) or not all(isinstance(host, str) for host in hosts.values()):
        raise ClientError("keylime-agents-file", f"{path} is no JSON object of host names")
    return hosts
