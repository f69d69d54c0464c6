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
"""The main process asks its workers nothing before all of them are forked."""

import socket
import threading

from oat_trusted_filter.backend.api.readiness import announce_when_serving


def test_nobody_is_asked_before_all_workers_are_forked():
    """A lock of OpenSSL that a thread holds while a worker is forked stays locked in it."""
    asked, forked = threading.Event(), threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def is_forked():
            asked.set()
            return forked.is_set()

        announce_when_serving(*server.getsockname(), is_forked)
        assert asked.wait(10)
        server.setblocking(False)
        with_nobody = None
        try:
            server.accept()
        except BlockingIOError as error:
            with_nobody = error
        assert with_nobody is not None
        forked.set()
        server.settimeout(10)
        server.accept()[0].close()
