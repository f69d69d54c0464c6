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
"""Nova on native threads, whatever was imported before.

Nova chooses between native threads and eventlet for the whole process, as its first import, and
refuses native threads where eventlet is merely loaded. In a run of many tests it is, as oslo
libraries load it if it is installed.
"""

import os
import sys


def choose_native_threads() -> None:
    """Make the choice; without effect if it is made.

    To be called before more of Nova is imported, and before oslo.service, which chooses by itself
    as it is imported. Eventlet cannot be imported any more in this process then.
    """
    os.environ.setdefault("OS_NOVA_DISABLE_EVENTLET_PATCHING", "true")
    if "nova.monkey_patch" in sys.modules:
        return
    # Loaded, but nothing is patched by that: out of Nova's sight it does no harm.
    for name in list(sys.modules):
        if name.partition(".")[0] == "eventlet":
            del sys.modules[name]
    from nova import monkey_patch

    # Before Nova 31 the import alone decides.
    if hasattr(monkey_patch, "patch"):
        monkey_patch.patch()
