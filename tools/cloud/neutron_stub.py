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
"""In place of neutron: a network service without networks, as much as Nova asks of it for servers
that have none. The only part of the cloud that is not what it says.

    python neutron_stub.py PORT
"""

import json
import sys
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIServer, make_server

_ADDRESS = "127.0.0.1"
_SECURITY_GROUP = "5ec0c8a4-1d1c-4f5b-9d5e-3f6f0a1c52f4"


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Every collection is empty, but the one default security group."""
    path = environ["PATH_INFO"].rstrip("/")
    name = path.rpartition("/")[2].replace("-", "_")
    body: dict[str, Any]
    if path in ("", "/v2.0"):
        url = f"http://{environ['HTTP_HOST']}/v2.0"
        version = {"id": "v2.0", "status": "CURRENT", "links": [{"rel": "self", "href": url}]}
        body = {"versions": [version]}
    elif name == "security_groups":
        body = {name: [{"id": _SECURITY_GROUP, "name": "default", "project_id": "any"}]}
    else:
        body = {name: []}
    answer = json.dumps(body).encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))]
    start_response("200 OK", headers)
    return [answer]


if __name__ == "__main__":
    make_server(_ADDRESS, int(sys.argv[1]), application, server_class=_Server).serve_forever()
