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
"""A real placement service, and a front before it where a test lets requests go wrong."""

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import uuid as uuids
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_CONFIG = """\
[DEFAULT]
log_file = {folder}/placement.log
[placement_database]
connection = sqlite:///{folder}/placement.sqlite
sync_on_startup = true
sqlite_synchronous = false
[api]
auth_strategy = noauth2
"""
#: What a faulty front may do to a request, beside answering with a status.
CUT = "cut"
LOSE_REPLY = "lose the reply"


class RealPlacement:
    """Placement with SQLite in a process of its own; a context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process = None
        self.port = 0

    def __enter__(self):
        (self._folder / "placement.conf").write_text(_CONFIG.format(folder=self._folder))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.functional.enforcer.placement_app"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(self._folder / "stderr.log").open("wb"),
            env={**os.environ, "OS_PLACEMENT_CONFIG_DIR": str(self._folder)},
            text=True,
        )
        line = self._process.stdout.readline()
        assert line, (self._folder / "stderr.log").read_text()
        self.port = int(line)
        return self

    def __exit__(self, *exc_info):
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()

    def request(self, method, path, body=None):
        """Status and decoded body, as the administrator."""
        status, data = forward(self.port, method, path, body and json.dumps(body).encode())
        return status, json.loads(data) if data else None

    def add(self, name, parent=None):
        """Make a resource provider; returns its UUID."""
        uuid = str(uuids.uuid4())
        body = {"uuid": uuid, "name": name}
        if parent is not None:
            body["parent_provider_uuid"] = parent
        status, reply = self.request("POST", "/resource_providers", body)
        assert status == 200, reply
        return uuid

    def remove(self, uuid):
        """Delete a resource provider."""
        status, reply = self.request("DELETE", f"/resource_providers/{uuid}")
        assert status == 204, reply

    def providers(self):
        """UUID by name."""
        listed = self.request("GET", "/resource_providers")[1]["resource_providers"]
        return {provider["name"]: provider["uuid"] for provider in listed}

    def traits(self, uuid):
        """All traits of a provider."""
        status, reply = self.request("GET", f"/resource_providers/{uuid}/traits")
        assert status == 200, reply
        return set(reply["traits"])

    def change(self, uuid, add=(), drop=()):
        """Somebody else changes the traits of a provider, which moves its generation."""
        for trait in add:
            if trait.startswith("CUSTOM_"):
                self.request("PUT", f"/traits/{trait}")
        path = f"/resource_providers/{uuid}/traits"
        _, reply = self.request("GET", path)
        wanted = (set(reply["traits"]) | set(add)) - set(drop)
        status, reply = self.request("PUT", path, {**reply, "traits": sorted(wanted)})
        assert status == 200, reply

    def wipe(self):
        """Delete all providers, children first, and all custom traits."""
        while listed := self.request("GET", "/resource_providers")[1]["resource_providers"]:
            parents = {provider["parent_provider_uuid"] for provider in listed}
            for provider in listed:
                if provider["uuid"] not in parents:
                    self.remove(provider["uuid"])
        for trait in self.request("GET", "/traits?name=startswith:CUSTOM_")[1]["traits"]:
            assert self.request("DELETE", f"/traits/{trait}")[0] == 204


def forward(port, method, path, data=None, headers=None):
    """One request to placement; returns status and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        sent = {
            "X-Auth-Token": "admin",
            "OpenStack-API-Version": "placement 1.39",
            "Content-Type": "application/json",
            "Accept": "application/json",
            **(headers or {}),
        }
        connection.request(method, path, data, sent)
        response = connection.getresponse()
        return response.status, response.read()


class Front:
    """Stands between the enforcer and placement; a context manager.

    ``fault`` is called with method and path of each request. It says None to let it pass (possibly
    after it has done something to placement), a status to answer it with, CUT to hang up, or
    LOSE_REPLY to pass it on and answer 503 nevertheless.
    """

    def __init__(self, placement: RealPlacement) -> None:
        self.placement = placement
        self.fault = None
        self.requests = []

    def __enter__(self):
        front = self

        class Handler(_Handler):
            script = front

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

        self._server = Server(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *exc_info):
        self._server.shutdown()
        self._server.server_close()

    @property
    def writes(self):
        """The requests that change something."""
        return [request for request in self.requests if request[0] != "GET"]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # otherwise each answer waits for a delayed acknowledgement
    script = None

    def log_message(self, *args):
        pass

    def _serve(self):
        script = self.script
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        script.requests.append((self.command, self.path))
        verdict = script.fault(self.command, self.path) if script.fault else None
        if verdict == CUT:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        status, body = verdict, b"<html>the proxy says no</html>"
        if verdict in (None, LOSE_REPLY):
            headers = {
                name: self.headers[name]
                for name in ("X-Auth-Token", "OpenStack-API-Version")
                if name in self.headers
            }
            status, body = forward(script.placement.port, self.command, self.path, data, headers)
        if verdict == LOSE_REPLY:
            status, body = 503, b"the reply was lost"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if status != 204 else b"")

    do_GET = do_PUT = _serve  # noqa: N815 - names of the library
