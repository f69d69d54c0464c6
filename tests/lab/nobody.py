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

import ctypes
import os
import struct
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence

_NOBODY = 65534
# <linux/prctl.h> and <linux/capability.h>
_PR_SET_KEEPCAPS = 8
_CAPABILITY_VERSION_3 = 0x20080522
_CAP_DAC_READ_SEARCH = 2


def _become_nobody() -> None:
    """Become a user who may read everything and write nothing.

    Reading stays allowed, for interpreter, modules and the test's own files are often in folders of
    root that nobody else may enter.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    os.setgroups([])
    os.setgid(_NOBODY)
    libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setuid(_NOBODY)
    may = 1 << _CAP_DAC_READ_SEARCH
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    # Twice effective, permitted and inheritable: the lower and the upper 32 capabilities.
    if libc.capset(header, struct.pack("=6I", may, may, 0, 0, 0, 0)) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def run_as_nobody(
    run: Callable[[Sequence[str]], int], argv: Sequence[str]
) -> subprocess.CompletedProcess[str]:
    """Run ``run(argv)`` in a child of this process that has become the user nobody.

    :returns: its status, nothing as output, and what it wrote to standard error.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 99
        try:
            os.close(reading)
            sys.stderr = os.fdopen(writing, "w")
            _become_nobody()
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
