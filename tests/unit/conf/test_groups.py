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
"""Options of programs that run in one process, as in tests, stay apart."""

import pytest
from oslo_config import cfg

from oat_trusted_filter.conf import agent, backend, enforcer, trusted_computing


@pytest.mark.parametrize(
    ("module", "group", "option", "value"),
    [
        (agent, "agent", "endpoint", "https://other.example.org"),
        (backend, "attestation", "state_dir", "/somewhere/else"),
        (enforcer, "enforcer", "endpoint", "https://other.example.org"),
        (trusted_computing, "trusted_computing", "endpoint", "https://other.example.org"),
    ],
)
def test_what_is_set_for_one_does_not_count_for_the_next(module, group, option, value):
    found = []
    for override in (value, None):
        conf = cfg.ConfigOpts()
        module.register_opts(conf)
        conf([])
        if override is not None:
            conf.set_override(option, override, group=group)
        found.append(conf[group][option])
    assert found[0] == value
    assert found[1] != value
