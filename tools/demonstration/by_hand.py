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
"""What ``tools/demo --keep`` offers when the story is told: everything runs, and waits for you."""

import signal
import sys

from tests.lab.backend import Backend
from tools.demonstration.console import PROGRAMS, say, step
from tools.demonstration.hosts import Operator
from tools.demonstration.placements import Placements

_PROMPT = "demo (trusted [HOST] | plain [HOST] | quit)> "


def wait_for_quit(placements: Placements, backend: Backend, operator: Operator) -> None:
    """Start the backend again, say how to use everything, and boot servers as asked."""
    step("Everything is left running")
    backend.start()
    say("the backend runs again and the hosts attest; in another terminal, in this folder:")
    for line in (
        f"export PATH={PROGRAMS}:$PATH",
        f". {backend.state_dir / 'admin-openrc'}",
        "oat host list",
        "oat host show compute-3",
        "oat verdict list",
        "tail -f .demo/compute-1/agent.log",
    ):
        say(f"    {line}")
    say("Nova lives in this process; boot servers here:")
    if not sys.stdin.isatty():
        say("(no terminal: end it with SIGTERM or SIGINT)")
        signal.pause()
        return
    while True:
        try:
            words = input(_PROMPT).split()
        except EOFError:
            return
        match words:
            case ["quit" | "exit" | "q"]:
                return
            case ["trusted" | "plain" as flavor, *rest] if len(rest) <= 1:
                placements.boot(flavor, None, host=rest[0] if rest else None)
            case []:
                pass
            case _:
                say("trusted, plain, either with a host name behind it, or quit")
