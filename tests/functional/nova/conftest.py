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
"""Clouds in front of a scripted backend."""

import contextlib

import pytest

from tests.lab.nova import COMPUTES, NovaCloud
from tests.lab.scripted_backend import ScriptedBackend

GOOD = ("compute-1", "compute-3")
BAD = ("compute-2", "compute-4")


class Scene:
    """A cloud, the backend its filter asks, and a flavor of each kind."""

    def __init__(self, cloud, backend):
        self.cloud = cloud
        self.backend = backend
        self.plain = cloud.create_flavor(trusted=False)
        self.trusted = cloud.create_flavor(trusted=True)

    def say(self, level, *names, reason=""):
        """A new verdict on some hosts."""
        self.backend.say(level, *names, reason=reason)

    def only_trusted(self, *names):
        """These hosts are trusted and the others are not."""
        self.say("trusted", *names)
        self.say("untrusted", *(set(COMPUTES) - set(names)), reason="pcr-mismatch")

    @contextlib.contextmanager
    def new_log(self):
        """The lines the filter logs within the block."""
        lines = []
        before = len(self.cloud.filter_log)
        yield lines
        lines += self.cloud.filter_log[before:]


@contextlib.contextmanager
def scene(folder, *, hosts=COMPUTES, scheduler=None, **options):
    """Set one up; every pass asks the backend unless ``refresh_interval`` says otherwise."""
    with ScriptedBackend(folder) as backend:
        token = folder / "token"
        token.write_text(backend.token)
        options = {
            "endpoint": backend.endpoint,
            "attestation_server_ca_file": backend.cacert,
            "token_file": str(token),
            "refresh_interval": 0.0,
            "deadline": 5.0,
            **options,
        }
        with NovaCloud(options, hosts=hosts, scheduler_options=scheduler) as cloud:
            yield Scene(cloud, backend)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One for all tests of a module, for bringing it up takes seconds."""
    with scene(tmp_path_factory.mktemp("nova")) as found:
        yield found


@pytest.fixture
def nova(shared):
    """That one, with two hosts trusted; what a test makes is gone after it."""
    shared.only_trusted(*GOOD)
    yield shared
    shared.cloud.delete_all()
