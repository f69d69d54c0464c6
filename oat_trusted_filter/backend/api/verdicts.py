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
"""``/v1/verdicts``: what relying parties act upon.

Every answer may be used for the time of its lease, counted from the moment the request was sent. A
verdict that ends before that is listed with its own seconds, and as long as there is one, nobody is
told that nothing has changed.
"""

import falcon

from oat_trusted_filter.backend.api.exchange import answer
from oat_trusted_filter.backend.api.service import Service
from oat_trusted_filter.backend.api.snapshots import Since


def index(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """All verdicts, or what has changed since the caller asked last."""
    since = _since(req.context.query.since)
    now = service.clock()
    outlook = service.snapshots.settle(now)
    etag = f'"{outlook.epoch}:{outlook.cursor}"'
    headers = {"ETag": etag, "OAT-Lease": f"{service.snapshots.lease:g}"}
    unchanged = etag in _etags(req.get_header("If-None-Match"))
    if unchanged and not service.snapshots.lapses_in_lease(outlook, now):
        resp.status = 304
        resp.set_header("Cache-Control", "no-store")
        resp.set_headers(headers)
        return
    body = service.snapshots.answer(outlook, since, now, req.context.query.region)
    answer(resp, body, headers=headers)


def _since(text: str | None) -> Since | None:
    if text is None:
        return None
    epoch, _, cursor = text.partition(":")
    return Since(epoch, int(cursor))


def _etags(header: str | None) -> list[str]:
    return [tag.strip().removeprefix("W/") for tag in (header or "").split(",")]
