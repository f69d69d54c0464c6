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
"""The driver ``pollhosts``: servers of the OpenAttestation era.

``POST {root}/PollHosts`` with the names of hosts, answered by a level for each of them. Such a
server gives neither leases nor deadlines, so the driver's own count: an answer may be used for
``attestation_auth_timeout`` seconds from the moment it was asked for. A level that the server says
is older than the answer (``vtime``) has that much less; both moments are by the server's own clock,
so clocks that differ do no harm. Without both of them the age is not known, and so is the host.
"""

import datetime
import email.utils
import time
from collections.abc import Collection, Iterator, Mapping
from typing import Any, ClassVar, Self

from oslo_config import cfg

from oat_trusted_filter.client.drivers.connected import LeaselessDriver
from oat_trusted_filter.client.drivers.oat import Connection
from oat_trusted_filter.client.errors import BackendUnreachable, BadReply
from oat_trusted_filter.client.http import AttestationClient
from oat_trusted_filter.client.verdicts import (
    LEVELS,
    TRUSTED,
    UNKNOWN,
    Lapse,
    VerdictRecord,
    VerdictReply,
)

#: Where OpenAttestation 1.5 had its services, the default of the filter that was part of Nova.
DEFAULT_ROOT = "/OpenAttestationWebServices/V1.0"
#: Hosts in one request: such servers ask all hosts of a request before they answer.
CHUNK = 1000
#: Seconds by which ``vtime`` may be ahead of the answer, for other parts of a server write it.
_AHEAD = 60.0


class PollHostsDriver(LeaselessDriver):
    """Asks about all hosts the filter knows of, some at a time.

    :param root: path before ``/PollHosts``.
    """

    by_name: ClassVar[bool] = True

    def __init__(
        self,
        client: AttestationClient,
        *,
        root: str = DEFAULT_ROOT,
        **common: Any,
    ) -> None:
        super().__init__(client, **common)
        self._path = f"{root.rstrip('/')}/PollHosts"

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts) -> Self:
        """As ``[trusted_computing]`` says."""
        connection = Connection.from_conf(conf)
        group = conf.trusted_computing
        return cls(
            connection.make_client(),
            root=group.attestation_api_url or DEFAULT_ROOT,
            lifetime=float(group.attestation_auth_timeout),
            region=group.region,
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
        """A request for each thousand hosts; ``timeout`` holds for all of them together."""
        sent_at = time.monotonic()
        hosts: list[VerdictRecord] = []
        lapsing: list[Lapse] = []
        for chunk in _chunks(sorted(names)):
            left = sent_at + timeout - time.monotonic()
            if left <= 0:
                raise BackendUnreachable(
                    "backend-timeout", f"{len(hosts)} of {len(names)} hosts in {timeout:g} s"
                )
            before = time.monotonic() - sent_at
            for record, age in self._poll(chunk, left):
                hosts.append(record)
                remaining = before + self._lifetime - age
                if record.level == TRUSTED and remaining < self._lifetime:
                    lapsing.append(Lapse(self._region, record.host, max(remaining, 0.0)))
        return self._reply("pollhosts", sent_at, hosts, lapsing)

    def _poll(self, names: list[str], timeout: float) -> Iterator[tuple[VerdictRecord, float]]:
        """Verdicts on these hosts and their age in seconds."""
        _, headers, body = self._client.request(
            "POST", self._path, {"count": len(names), "hosts": names}, timeout=timeout
        )
        if not isinstance(body, Mapping) or not isinstance(body.get("hosts"), list):
            raise BadReply("reply-invalid", "the reply to PollHosts has no list of hosts")
        asked = set(names)
        found = [_read(item) for item in body["hosts"]]
        now = _date(headers)
        for name, level, when in found:
            if name not in asked:
                continue
            if level not in LEVELS:
                # Servers of 1.x also say "timeout" and "pending".
                yield VerdictRecord(self._region, name, UNKNOWN, f"pollhosts-{level}"), 0.0
            elif when is None or now is None:
                yield VerdictRecord(self._region, name, UNKNOWN, "pollhosts-vtime"), 0.0
            else:
                age = (now - when).total_seconds()
                if age < -_AHEAD:
                    # Local time, say: how old it is nobody knows.
                    yield VerdictRecord(self._region, name, UNKNOWN, "pollhosts-vtime"), 0.0
                else:
                    yield (
                        VerdictRecord(self._region, name, level, f"pollhosts-{level}"),
                        max(age, 0.0),
                    )


def _chunks(names: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(names), CHUNK):
        yield names[start : start + CHUNK]


def _read(item: Any) -> tuple[str, str, datetime.datetime | None]:
    if isinstance(item, Mapping):
        name, level = item.get("host_name"), item.get("trust_lvl")
        if isinstance(name, str) and isinstance(level, str):
            return name, level, _moment(item.get("vtime"))
    raise BadReply("reply-invalid", f"the reply to PollHosts has a host {item!r}"[:300])


def _moment(text: Any) -> datetime.datetime | None:
    """``vtime``: ISO 8601, or as C writes it (``Thu Sep 13 02:37:22 2012``); None: neither."""
    if not isinstance(text, str):
        return None
    for read in (datetime.datetime.fromisoformat, _from_c):
        try:
            moment = read(text)
        except ValueError:
            continue
        return moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)
    return None


def _from_c(text: str) -> datetime.datetime:
    return datetime.datetime.strptime(text, "%a %b %d %H:%M:%S %Y").replace(tzinfo=datetime.UTC)


def _date(headers: Mapping[str, str]) -> datetime.datetime | None:
    """The moment of the answer by the clock of the server."""
    text = next((value for name, value in headers.items() if name.lower() == "date"), "")
    try:
        return email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
