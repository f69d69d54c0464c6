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
"""A scripted backend, a clock that can be turned forward, and the filter in front of them."""

import logging
import time

import pytest
from oslo_config import fixture as config_fixture

from tests.lab.nova_threads import choose_native_threads
from tests.lab.scripted_backend import ScriptedBackend

choose_native_threads()

import nova.conf  # noqa: E402
from nova.objects.flavor import Flavor  # noqa: E402
from nova.objects.request_spec import RequestSpec  # noqa: E402
from nova.scheduler.host_manager import HostState  # noqa: E402

from oat_trusted_filter.client.drivers.oat import OatDriver  # noqa: E402
from oat_trusted_filter.client.http import AttestationClient  # noqa: E402
from oat_trusted_filter.conf import trusted_computing  # noqa: E402
from oat_trusted_filter.scheduler.source import VerdictSource  # noqa: E402
from oat_trusted_filter.scheduler.trusted_filter import TrustedFilter  # noqa: E402

DEADLINE = 0.5
"""Of sources, in seconds."""
REFRESH = 5.0
"""Their refresh interval."""
SERVER = "7bd5ac2e-3f27-4bd4-8f2c-2f2a4ac8f0a1"


@pytest.fixture
def backend(tmp_path):
    with ScriptedBackend(tmp_path) as scripted:
        yield scripted


@pytest.fixture
def clock(monkeypatch):
    """The monotonic clock of the process; ``advance`` turns it forward."""

    class Clock:
        ahead = 0.0
        _real = staticmethod(time.monotonic)

        def __call__(self):
            return self._real() + self.ahead

        def advance(self, seconds):
            self.ahead += seconds

    found = Clock()
    monkeypatch.setattr(time, "monotonic", found)
    return found


@pytest.fixture
def make_source(backend, clock):
    """Make a source of verdicts; times as in production but for the deadline."""

    def make(**options):
        def driver():
            return OatDriver(
                AttestationClient(backend.endpoint, token=backend.token, cacert=backend.cacert)
            )

        options = {
            "make_driver": driver,
            "region": "",
            "deadline": DEADLINE,
            "refresh_interval": REFRESH,
            "max_age": 60.0,
            "background": False,
            **options,
        }
        return VerdictSource(options.pop("make_driver"), **options)

    return make


@pytest.fixture
def source(make_source):
    return make_source()


@pytest.fixture
def token_file(backend, tmp_path):
    path = tmp_path / "scheduler.token"
    path.write_text(backend.token + "\n")
    return path


@pytest.fixture
def make_filter(backend, token_file):
    """Make the filter as nova-scheduler does, with these options in nova.conf."""
    trusted_computing.register_opts(nova.conf.CONF)
    conf = config_fixture.Config(nova.conf.CONF)
    conf.setUp()

    def make(**options):
        options = {
            "endpoint": backend.endpoint,
            "attestation_server_ca_file": backend.cacert,
            "token_file": str(token_file),
            **options,
        }
        conf.config(group="trusted_computing", **options)
        return TrustedFilter()

    yield make
    conf.cleanUp()


@pytest.fixture
def log(caplog):
    """What the filter writes to the log, debug included."""
    caplog.set_level(logging.DEBUG, "oat_trusted_filter")
    return caplog


def hosts(*names):
    """Nova's host states; ``service/node`` where the two names differ."""
    states = []
    for name in names:
        service, _, node = name.partition("/")
        states.append(HostState(service, node or service, None))
    return states


def spec(extra_specs=None, *, rebuild=False):
    """Nova's request for one server of a flavor with these extra specs."""
    return RequestSpec(
        flavor=Flavor(name="m1.trusted", extra_specs=dict(extra_specs or {})),
        instance_uuid=SERVER,
        scheduler_hints={"_nova_check_type": ["rebuild"]} if rebuild else {},
    )


TRUSTED = {"trust:trusted_host": "trusted"}


def passed(trusted_filter, names, extra_specs=TRUSTED, **request):
    """Nodes of the hosts that pass."""
    found = trusted_filter.filter_all(hosts(*names), spec(extra_specs, **request))
    return [host.nodename for host in found]
