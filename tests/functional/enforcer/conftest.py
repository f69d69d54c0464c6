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
"""Fixtures: placement once a module, emptied for each test."""

import pytest

from tests.functional.enforcer.bench import Backend, Bench
from tests.functional.enforcer.placement_lab import Front, RealPlacement


@pytest.fixture(scope="session")
def placement_service(tmp_path_factory):
    with RealPlacement(tmp_path_factory.mktemp("placement")) as placement:
        yield placement


@pytest.fixture
def placement(placement_service):
    placement_service.wipe()
    return placement_service


@pytest.fixture
def front(placement):
    with Front(placement) as front:
        yield front


@pytest.fixture
def backend(tmp_path):
    with Backend(tmp_path) as backend:
        yield backend


@pytest.fixture
def bench(placement, front, backend):
    bench = Bench(placement, front, backend)
    bench.start()
    yield bench
    bench.stop()
