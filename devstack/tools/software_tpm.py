#!/usr/bin/env python3
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
"""A software TPM for a devstack host that has none: powered on, and booted.

It runs until SIGTERM. A TPM alone proves nothing about a boot, so a recorded boot is replayed into
it: afterwards its PCRs are those of that machine, and the boot log of the recording explains them.
What can be attested that way is the recording and not this host, which is enough to try out
everything else.
"""

import argparse
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.lab.boots import Boot, ReplayError, replay
from tests.lab.swtpm import SoftwareTpm, SoftwareTpmError

_LOOK_SECONDS = 1.0


def main() -> int:
    """Run it; returns the exit status: 0 stopped by a signal, 1 it did not start or ended."""
    parser = argparse.ArgumentParser(description="A software TPM that has booted.")
    parser.add_argument("--state-dir", type=Path, required=True, help="what the TPM keeps")
    parser.add_argument(
        "--ca-dir", type=Path, required=True, help="the authority that certifies the TPM"
    )
    parser.add_argument("--boot", required=True, help="name of a recorded boot")
    parser.add_argument(
        "--booted", type=Path, required=True, help="file to write the TCTI to when all is done"
    )
    arguments = parser.parse_args()
    stop = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    arguments.booted.unlink(missing_ok=True)
    try:
        with SoftwareTpm(arguments.state_dir, arguments.ca_dir) as tpm:
            replay(Boot(arguments.boot), tpm.tcti)
            _announce(arguments.booted, tpm.tcti)
            while tpm.running and not stop.wait(_LOOK_SECONDS):
                pass
    except (SoftwareTpmError, ReplayError, OSError) as error:
        sys.stderr.write(f"{parser.prog}: {error}\n")
        return 1
    finally:
        arguments.booted.unlink(missing_ok=True)
    if not stop.is_set():
        sys.stderr.write(f"{parser.prog}: swtpm ended by itself\n")
        return 1
    return 0


def _announce(path: Path, tcti: str) -> None:
    """Whoever sees the file sees all of it."""
    temporary = path.with_name(f"{path.name}.new")
    temporary.write_text(f"{tcti}\n")
    os.replace(temporary, path)


if __name__ == "__main__":
    sys.exit(main())
