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
"""``/`` and ``/healthz``: which interface this is, and whether it works."""

import falcon

from oat_trusted_filter.backend.api.exchange import answer
from oat_trusted_filter.backend.api.service import Service
from oat_trusted_filter.backend.store import changes


def show(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """The versions of the interface."""
    version = {
        "id": "v1.0",
        "status": "CURRENT",
        "links": [{"rel": "self", "href": f"{req.prefix}/v1/"}],
    }
    answer(resp, {"versions": [version]})


def health(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """Whether the database answers; otherwise the answer is a problem."""
    with service.store.read() as connection:
        changes.position(connection)
    answer(resp, {"status": "ok"})
