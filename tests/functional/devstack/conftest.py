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
"""Nodes with stand-ins for devstack's functions, and with its own where there is a checkout."""

import os
from pathlib import Path

import pytest

from tests.functional.devstack.node import Node

#: A checkout of devstack, or nothing.
CHECKOUT = os.environ.get("DEVSTACK_DIR")


@pytest.fixture
def checkout():
    """The checkout of devstack that the environment names."""
    if not CHECKOUT:
        pytest.skip("DEVSTACK_DIR does not name a checkout of devstack")
    return Path(CHECKOUT)


@pytest.fixture(params=["stand-ins", "devstack"] if CHECKOUT else ["stand-ins"])
def make_node(request, tmp_path):
    """Makes one node; see Node for the arguments."""
    devstack = CHECKOUT if request.param == "devstack" else None

    def make(**settings):
        return Node(tmp_path / "node", devstack=devstack, **settings)

    return make
