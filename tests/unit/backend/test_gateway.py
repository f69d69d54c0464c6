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
import subprocess
import sys

import pytest

from oat_trusted_filter.backend.api.gateway import WHOLE_BODY

PROGRAM = """
import asyncio, socket, sys
from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server
from oat_trusted_filter.backend.api.gateway import Gateway

def application(environ, start_response):
    start_response("200 OK", [])
    return [environ["wsgi.input"].read()[:10]]

async def ask(port, announced, sent):
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            break
        except OSError:
            await asyncio.sleep(0.01)
    head = f"POST / HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\nContent-Length: {announced}"
    writer.write(f"{head}\\r\\n\\r\\n".encode() + bytes(48 for _ in range(sent)))
    answer = await reader.read()
    writer.close()
    return answer.decode()

async def main(announced):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    gateway = Gateway(application, body_seconds=0.3)
    server = Server(
        gateway, address="127.0.0.1", port=port, interface=Interfaces.RSGI, http=HTTPModes.http1,
        log_enabled=False,
    )
    serving = asyncio.create_task(server.serve())
    for sent in (announced, 10, announced):
        answer = await asyncio.wait_for(ask(port, announced, sent), 20)
        code = answer.partition('"code":"')[2].partition('"')[0]
        print(answer.split()[1], code or answer.rpartition("\\n")[2])
    server.stop()
    await serving

asyncio.run(main(int(sys.argv[1])))
"""


@pytest.mark.parametrize("announced", [100, WHOLE_BODY, WHOLE_BODY + 1, 300_000])
def test_C3_a_body_that_does_not_come_to_its_end_is_given_up(announced):
    """In a process of its own, for such a server takes the log of the process for its own."""
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(announced)],
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert ran.stderr == ""
    assert ran.stdout.splitlines() == ["200 0000000000", "408 body-too-slow", "200 0000000000"]
