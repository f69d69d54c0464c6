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
"""``PollHosts``: whether hosts are trusted, as OpenAttestation answers it.

It is answered from the verdicts there are, and never waits for a host.
"""

from typing import Annotated

import falcon
import msgspec

from oat_trusted_filter.backend.api.exchange import MIB, answer, decoded, read_body
from oat_trusted_filter.backend.api.fields import moment
from oat_trusted_filter.backend.api.service import Service
from oat_trusted_filter.backend.settings import OatCompat
from oat_trusted_filter.backend.store import snapshot

#: Bytes of a request.
_LARGEST = 4 * MIB
_MOST_HOSTS = 100_000
UNKNOWN = "unknown"


class PollBody(msgspec.Struct):
    """What is asked; how often (``count``) and about which PCRs (``pcrmask``) does not matter."""

    hosts: Annotated[list[str], msgspec.Meta(max_length=_MOST_HOSTS)] | str


class PolledHost(msgspec.Struct):
    """A host on the wire."""

    host_name: str
    trust_lvl: str
    vtime: str
    """UTC, ``2016-02-29T22:29:26.365+0000``."""


class PollReply(msgspec.Struct):
    """The answer: one entry for each name asked about, in the same order and spelling."""

    hosts: list[PolledHost]


def poll(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """Whether hosts are trusted (PollHosts of OpenAttestation)."""
    body = decoded(read_body(req, _LARGEST), PollBody)
    asked = [body.hosts] if isinstance(body.hosts, str) else body.hosts
    now = service.clock()
    names = service.names.current(service.snapshots.settle(now))
    ends = _ending(service, now)
    region, time = req.context.holder.region, _vtime(now)
    hosts = []
    for name in asked:
        known = names.find(name, region)
        if known is None:
            hosts.append(PolledHost(name, UNKNOWN, time))
        else:
            vtime = ends.get((known.region, known.host), time)
            hosts.append(PolledHost(name, known.level, vtime))
    answer(resp, PollReply(hosts))


def _ending(service: Service, now: int) -> dict[tuple[str, str], str]:
    """``vtime`` of the hosts whose verdict ends before clients would forget it."""
    compat = service.settings.oat_compat or OatCompat()
    window = int(compat.client_cache * 1000)
    with service.store.read() as connection:
        return {
            (item.region, item.host): _vtime(item.deadline - window)
            for item in snapshot.lapsing(connection, now + window)
            if not item.tags_only
        }


def _vtime(milliseconds: int) -> str:
    return f"{(moment(milliseconds) or '').removesuffix('Z')}+0000"
