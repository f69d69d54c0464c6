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
"""``/v1/enforcers``: which enforcers there are, and whether they still work.

An enforcer tells every 30 seconds that it lives. One that says nothing for three times as long is
``silent``.
"""

from typing import Annotated

import falcon
import msgspec

from oat_trusted_filter.backend.api import queries
from oat_trusted_filter.backend.api.exchange import answer, decoded, read_body
from oat_trusted_filter.backend.api.fields import Region, checked_host, moment
from oat_trusted_filter.backend.api.queries import region_for
from oat_trusted_filter.backend.api.service import Service
from oat_trusted_filter.backend.store import enforcers

_Word = Annotated[str, msgspec.Meta(pattern=r"\A[a-z][a-z_-]{0,31}\Z")]
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
_Counts = Annotated[dict[_Word, _Count], msgspec.Meta(max_length=32)]


class ReportBody(msgspec.Struct):
    """How an enforcer fares."""

    leader: bool
    counts: _Counts
    region: Region = ""


def report(service: Service, req: falcon.Request, resp: falcon.Response, name: str) -> None:
    """An enforcer says that it lives, whether it acts, and what it did since its start."""
    body = decoded(read_body(req), ReportBody)
    region_for(req, body.region)
    said = enforcers.Enforcer(
        body.region,
        checked_host(name),
        body.leader,
        msgspec.json.encode(body.counts).decode(),
        service.clock(),
    )
    service.store.write(lambda connection: enforcers.report(connection, said))
    answer(resp, _shown(said, said.reported_at))


def index(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """All enforcers and their last reports."""
    with service.store.read() as connection:
        known = {f"{one.region}/{one.name}": one for one in enforcers.everything(connection)}
    page, links = queries.page_of(req, req.context.query, known)
    now = service.clock()
    answer(resp, {"enforcers": [_shown(known[marker], now) for marker in page], **links})


def _shown(one: enforcers.Enforcer, now: int) -> dict[str, object]:
    return {
        "region": one.region,
        "name": one.name,
        "leader": one.leader,
        "silent": one.silent(now),
        "reported_at": moment(one.reported_at),
        "counts": msgspec.Raw(one.counts.encode()),
    }
