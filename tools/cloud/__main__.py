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
"""What ``tools/minicloud`` runs once everything is installed."""

import argparse
import signal
import subprocess
import sys
from typing import Any

from tests.lab.backend import BackendError
from tests.lab.swtpm import SoftwareTpmError
from tests.lab.wait import WaitTimeout
from tools.cloud import control
from tools.cloud.cloud import FOLDER
from tools.cloud.release import REPOSITORY
from tools.cloud.service import CloudError
from tools.demonstration.hosts import OatError


def main() -> int:
    """Run a command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="tools/minicloud")
    parser.add_argument("command", choices=("up", "test", "down", "serve"))
    parser.add_argument("--nova", choices=("34", "26"))
    arguments, rest = parser.parse_known_args()
    _stop_in_order()
    try:
        match arguments.command:
            case "up":
                control.up(arguments.nova or "34")
                print(f"The cloud is up; its logs are in {FOLDER / 'run' / 'log'}.")
            case "serve":
                control.serve(arguments.nova or "34")
            case "test":
                return _test(arguments.nova, rest)
            case "down":
                control.down()
    except (BackendError, CloudError, OatError, OSError, SoftwareTpmError, WaitTimeout) as error:
        print(f"tools/minicloud: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _test(release: str | None, rest: list[str]) -> int:
    """Run the tests, in their own process as ever."""
    command = [sys.executable, "-m", "pytest", "tests/minicloud", *rest]
    command += ["--minicloud-nova", release] if release else []
    return subprocess.run(command, cwd=REPOSITORY, check=False).returncode


def _stop_in_order() -> None:
    def on_signal(number: int, frame: Any) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGHUP, on_signal)


if __name__ == "__main__":
    sys.exit(main())
