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
"""``/metrics``: figures for Prometheus."""

import falcon

from oat_trusted_filter.backend.api.service import Service
from oat_trusted_filter.backend.store import figures

_TEXT = "text/plain; version=0.0.4; charset=utf-8"


def show(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """Hosts by verdict, how long requests take, refusals by code, and what ends when."""
    now = service.clock()
    service.snapshots.settle(now)
    with service.store.read() as connection:
        found = figures.read(connection)
    settings = service.settings
    files = dict.fromkeys((settings.tls_certificate, settings.state_dir / "ca.pem"))
    resp.content_type = _TEXT
    resp.set_header("Cache-Control", "no-store")
    resp.data = service.measures.written(found, files, now)
