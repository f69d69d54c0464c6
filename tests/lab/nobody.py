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
"""Running a program's function as a user who may write nowhere."""

import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

_NOBODY = 65534


def open_way(path: Path) -> None:
    """Let others enter the folders above a path, which tests keep to themselves."""
    for folder in path.parents:
        if folder.stat().st_uid == os.getuid() and len(folder.parts) > 2:
            folder.chmod(folder.stat().st_mode | 0o055)


def run_as_nobody(
    run: Callable[[Sequence[str]], int], argv: Sequence[str]
) -> subprocess.CompletedProcess[str]:
    """Run ``run(argv)`` in a child of this process that has become the user nobody.

    A new interpreter might be in a folder that nobody may not enter. So may modules: what ``run``
    imports late has to be imported before.

    :returns: its status, nothing as output, and what it wrote to standard error.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 99
        try:
            os.close(reading)
            sys.stderr = os.fdopen(writing, "w")
            os.setgroups([])
            os.setgid(_NOBODY)
            os.setuid(_NOBODY)
            status = run(argv)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    _, status = os.waitpid(pid, 0)
    return subprocess.CompletedProcess(list(argv), os.waitstatus_to_exitcode(status), "", said)
