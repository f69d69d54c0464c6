#!/usr/bin/python3
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
"""Stand-in for systemctl on a machine without systemd as its first process.

It starts what ``ExecStart`` of a unit says as the user of the unit, and waits until that says it is
ready; the rest of a unit is the business of systemd.
"""

import configparser
import os
import socket
import subprocess
import sys
from pathlib import Path

UNITS = Path("/etc/systemd/system")
LOGS = Path("/var/log/systemctl-stand-in")
SECONDS = 60


def start(name: str) -> None:
    """Start a service and wait until it is ready."""
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[method-assign,assignment]
    unit.read(UNITS / f"{name}.service")
    service = unit["Service"]
    LOGS.mkdir(exist_ok=True)
    notify = f"/tmp/notify-{name}-{os.getpid()}"  # noqa: S108
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(notify)
        os.chmod(notify, 0o666)  # noqa: S103
        channel.settimeout(SECONDS)
        log = (LOGS / f"{name}.log").open("wb")
        subprocess.Popen(
            ["runuser", "-u", service["User"], "--", *service["ExecStart"].split()],
            env={**os.environ, "NOTIFY_SOCKET": notify},
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        if service["Type"] == "notify":
            try:
                while b"READY=1" not in channel.recv(4096):
                    pass
            except TimeoutError:
                sys.exit(f"{name} is not ready:\n{(LOGS / f'{name}.log').read_text()}")
    os.unlink(notify)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["enable", "--now", name]:
            start(name)
        case _:
            sys.exit(f"the stand-in for systemctl does not know {sys.argv[1:]}")
