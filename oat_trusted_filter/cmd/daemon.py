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
"""Running until somebody says stop, as agent and enforcer do."""

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType

from oslo_log import log as logging

from oat_trusted_filter.cmd import notify

LOG = logging.getLogger(__name__)


def run_until_stopped(work: Callable[[threading.Event], None], *, grace: float) -> None:
    """Do the work until SIGTERM or SIGINT, or until it ends by itself.

    systemd is told when it is about to end; that it is ready is for the work to say.

    :param work: called in a thread of its own, for a signal is not seen while a TPM command or a
        request waits; it returns soon after the event it is given is set.
    :param grace: seconds it gets for that. If it hangs for longer, the process ends where it is.
    """
    stop = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)

    def until_stopped() -> None:
        try:
            work(stop)
        finally:
            stop.set()

    worker = threading.Thread(target=until_stopped, name="work", daemon=True)
    worker.start()
    stop.wait()
    LOG.info("stopping")
    notify.stopping()
    worker.join(grace)
    if worker.is_alive():
        # An orderly exit would wait for it.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
