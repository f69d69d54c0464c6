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
"""An enforcer on the bench: all of it, turned by hand, with a clock a test may set forward."""

import dataclasses
import time

from oslo_config import cfg

from oat_trusted_filter.conf import enforcer as enforcer_conf
from oat_trusted_filter.enforcer.election import Alone
from oat_trusted_filter.enforcer.keeper import TraitKeeper
from oat_trusted_filter.enforcer.loop import Enforcer
from oat_trusted_filter.enforcer.placement import Placement, load_adapter
from oat_trusted_filter.enforcer.report import Reporter
from oat_trusted_filter.enforcer.settings import Settings
from oat_trusted_filter.enforcer.standing import Follower
from tests.lab.scripted_backend import ScriptedBackend, reply

FULL_INTERVAL = 300.0
GRACE = 120.0


class Clock:
    """The monotonic clock, set forward by ``pass_by``."""

    def __init__(self):
        self.ahead = 0.0

    def __call__(self):
        return time.monotonic() + self.ahead

    def pass_by(self, seconds):
        """So much later."""
        self.ahead += seconds


class ClientAhead:
    """The client, whose replies carry the time of the bench."""

    def __init__(self, client, clock):
        self._client = client
        self._clock = clock
        self.request = client.request
        self.close = client.close

    def get_verdicts(self, *args):
        reply = self._client.get_verdicts(*args)
        return dataclasses.replace(reply, sent_at=reply.sent_at + self._clock.ahead)


class Backend(ScriptedBackend):
    """The scripted backend with tags and resource providers, and with a place for reports."""

    def __init__(self, folder):
        super().__init__(folder)
        self.takes_reports = False
        self.reports = []

    def __enter__(self):
        super().__enter__()
        base = self._server.RequestHandlerClass
        self._server.RequestHandlerClass = type(
            "WithReports", (base,), {"do_PUT": _take_report}
        )
        return self

    def judge(self, level, host, reason="", tags=None, provider=None):
        """A new verdict with all that may be in it."""
        self.say(level, host, reason=reason, tags=tags)
        with self._lock:
            cursor, record = self._rows["", host]
            self._rows["", host] = (cursor, {**record, "resource_provider": provider})


def _take_report(handler):
    script = handler.script
    script.requests.append((handler.path, dict(handler.headers)))
    body = handler.rfile.read(int(handler.headers["Content-Length"]))
    if not script.takes_reports:
        reply(handler, 404, {"code": "not-found", "detail": "no such thing"})
        return
    script.reports.append(body)
    reply(handler, 200, {})


def configuration(front, backend, **options):
    """The configuration of an enforcer."""
    conf = cfg.ConfigOpts()
    enforcer_conf.register_opts(conf)
    enforcer_conf.register_cli_opts(conf)
    conf([], project="oat", default_config_files=[], default_config_dirs=[])
    dry_run = options.pop("dry_run", False)
    values = {
        "endpoint": backend.endpoint,
        "ca_file": backend.cacert,
        "token_file": str(backend.token_file),
        "timeout": 5.0,
        "full_interval": FULL_INTERVAL,
        "outage_grace": GRACE,
        "name": "enforcer-1",
        **options,
    }
    for name, value in values.items():
        conf.set_override(name, value, group="enforcer")
    conf.set_override("dry_run", dry_run)
    adapter = load_adapter_of(conf, front)
    return conf, adapter


def load_adapter_of(conf, front):
    """The connection to placement, with the token its test middleware takes."""
    from keystoneauth1 import loading

    loading.register_auth_conf_options(conf, "placement")
    conf.register_opts(loading.get_auth_plugin_conf_options("admin_token"), group="placement")
    for name, value in (("auth_type", "admin_token"), ("token", "admin")):
        conf.set_override(name, value, group="placement")
    conf.set_override("endpoint", front.endpoint, group="placement")
    return load_adapter(conf)


class Bench:
    """Makes enforcers, one at a time: ``restart`` forgets all the last one knew."""

    def __init__(self, placement, front, backend):
        self.placement = placement
        self.front = front
        self.backend = backend
        self.clock = Clock()
        self.enforcer = None
        self.options = {}

    def start(self, election=None, **options):
        """A new enforcer, which knows nothing."""
        self.stop()
        self.options = options
        self.enforcer = self.another(election, **options)
        return self.enforcer

    def another(self, election=None, **options):
        """One more enforcer beside the others; to be closed by the caller."""
        conf, adapter = configuration(self.front, self.backend, **options)
        settings = Settings.from_conf(conf)
        return Enforcer(
            Follower(
                lambda: ClientAhead(settings.make_client(), self.clock),
                region=settings.region,
                grace=settings.outage_grace,
                clock=self.clock,
            ),
            election or Alone(),
            [
                TraitKeeper(
                    Placement(adapter),
                    full_interval=settings.full_interval,
                    dry_run=settings.dry_run,
                    clock=self.clock,
                )
            ],
            Reporter(settings.make_client, settings.name, settings.region, self.clock),
            refresh_interval=settings.refresh_interval,
            clock=self.clock,
        )

    def restart(self):
        """The same anew."""
        return self.start(**self.options)

    def stop(self):
        """Close the enforcer."""
        if self.enforcer is not None:
            self.enforcer.close()
            self.enforcer = None

    def turn(self):
        """Turns until there is nothing left to do at once; returns the last pass or None."""
        for _ in range(100):
            turn = self.enforcer.turn()
            if not turn.more:
                return turn.passes[0] if turn.passes else None
        raise AssertionError("the enforcer does not come to an end")

    def full_pass(self):
        """The next full comparison."""
        self.clock.pass_by(FULL_INTERVAL)
        done = self.turn()
        assert done is None or done.full or done.error, done
        return done
