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
"""Ports beside that of the service, in a worker without the rest of it."""

import subprocess
import sys

PROGRAM = """
import asyncio, socket, sys
from oat_trusted_filter.backend.api import listeners
from oat_trusted_filter.backend.api.gateway import Gateway
from oat_trusted_filter.backend.api.listeners import Doors, Listener

listeners._PAUSE_SECONDS = 0.05

def application(environ, start_response):
    start_response("200 OK", [])
    return [b"served"]

class Log:
    def error(self, text, *values):
        said.append(text % values)

async def ask(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n")
    answer = await reader.read()
    writer.close()
    return answer

async def use(port, taken):
    while len(said) < 2:
        await asyncio.sleep(0.01)
    taken.close()
    while True:
        try:
            return await ask(port)
        except OSError:
            await asyncio.sleep(0.01)

said, listeners.LOG = [], Log()
taken = socket.socket()
taken.bind(("127.0.0.1", 0))
taken.listen()
port = taken.getsockname()[1]
gateway = Gateway(application)
doors = Doors(
    gateway, [(Listener("127.0.0.1", port, False), gateway.beside(application))],
    certificate=None, key=None, restore_log=lambda: None,
)
loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
doors.__rsgi_init__(loop)
answer = loop.run_until_complete(asyncio.wait_for(use(port, taken), 20))
print(answer.rpartition(b"\\n")[2].decode())
doors.__rsgi_del__(loop)
print(len(asyncio.all_tasks(loop)))
print(said[0].replace(str(port), "PORT"))
"""


def test_a_port_that_is_taken_is_tried_again_until_it_is_free():
    """In a process of its own, for such a server takes the log of the process for its own."""
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM], check=False, capture_output=True, text=True, timeout=60
    )
    assert ran.stderr == ""
    assert ran.stdout.splitlines() == [
        "served",
        "0",
        "nobody is served at http://127.0.0.1:PORT: Address already in use (os error 98); "
        "trying again",
    ]
