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
"""The mini cloud of these tests: the one that is up, or one of their own."""

import signal
from collections.abc import Iterator
from types import FrameType

import pytest

from tests.minicloud.world import World
from tools.cloud.cloud import FOLDER
from tools.cloud.control import running_or_new
from tools.cloud.release import LAYER
from tools.cloud.service import processes


@pytest.fixture(scope="session")
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """The cloud as the tests use it; in the end nothing of it is left, however the tests end."""
    if not (LAYER / "set-up.stamp").exists():
        pytest.skip("the mini cloud is not installed; tools/minicloud test does it")

    def on_signal(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, on_signal)
    owned = False
    try:
        with running_or_new(request.config.getoption("--minicloud-nova")) as cloud:
            owned = not hasattr(cloud, "_callmethod")
            yield World(cloud)
    finally:
        signal.signal(signal.SIGTERM, before)
    if owned:
        assert processes(FOLDER / "run") == []
