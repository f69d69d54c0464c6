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
"""Every request has a name by which it is found in the logs, here and where it came from."""

import re
import uuid

import falcon
from oslo_context.context import RequestContext

HEADER = "X-OpenStack-Request-ID"
_FORM = re.compile(r"req-[0-9a-fA-F-]{36}")


class RequestIds:
    """Names each request, as oslo.middleware does: a name that comes with it is the global one.

    Both stand in every line of the log that is written on behalf of the request.
    """

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Before the handler."""
        came = req.get_header(HEADER) or ""
        context = RequestContext(
            request_id=new_request_id(),
            global_request_id=came if _FORM.fullmatch(came) else None,
        )
        req.context.request_id = context.request_id
        resp.set_header(HEADER, context.request_id)


def new_request_id() -> str:
    """``req-`` and a random UUID."""
    return f"req-{uuid.uuid4()}"
