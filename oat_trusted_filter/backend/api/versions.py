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
"""``/`` and ``/v1/``: which interface this is, as clients of OpenStack discover it."""

from typing import Any

import falcon

from oat_trusted_filter.backend.api.exchange import answer
from oat_trusted_filter.backend.api.service import Service


def index(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """The versions of the interface."""
    answer(resp, {"versions": [_version(req)]})


def show(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """This version of the interface."""
    answer(resp, {"version": _version(req)})


def _version(req: falcon.Request) -> dict[str, Any]:
    return {
        "id": "v1.0",
        "status": "CURRENT",
        "links": [
            {"rel": "self", "href": f"{req.prefix}/v1/"},
            {"rel": "describedby", "href": f"{req.prefix}/v1/openapi.json"},
        ],
    }
