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
"""TrustedFilter, loaded by nova-scheduler.

::

    [filter_scheduler]
    available_filters = nova.scheduler.filters.all_filters
    available_filters = oat_trusted_filter.scheduler.trusted_filter.TrustedFilter

This module is the only one here that needs Nova.
"""

from collections.abc import Sequence
from typing import Any

import nova.conf
from nova.scheduler import filters
from nova.scheduler import utils as scheduler_utils
from oslo_config import cfg
from oslo_log import log as logging

from oat_trusted_filter.client.drivers.base import find_driver
from oat_trusted_filter.client.errors import ClientError
from oat_trusted_filter.conf import trusted_computing
from oat_trusted_filter.scheduler import enforcement, request_filter
from oat_trusted_filter.scheduler import settings as filter_settings
from oat_trusted_filter.scheduler.decision import Account, Decision, decide, printable
from oat_trusted_filter.scheduler.extra_specs import DemandError, Level, read_demand
from oat_trusted_filter.scheduler.requests import extra_specs_of, title_of
from oat_trusted_filter.scheduler.settings import Settings
from oat_trusted_filter.scheduler.source import VerdictSource

LOG = logging.getLogger(__name__)


class TrustedFilter(filters.BaseHostFilter):
    """Keeps servers whose flavor asks for trust on hosts that are trusted now.

    Flavors that do not ask for it are not touched: no request, no wait. Neither a silent backend
    nor a mistake in the options raises anything here; flavors that ask for trust then find no host,
    and the log says why. But if ``request_filter`` is set and this Nova has no place for it,
    nova-scheduler ends: hosts the operator wants refused would not be.
    """

    # Nova asks about a rebuild only if this is set; see ``check_rebuild`` for what is answered.
    RUN_ON_REBUILD = True

    def __init__(self) -> None:
        super().__init__()
        self._settings: Settings | None = None
        self._source: VerdictSource | None = None
        self._mistake: str | None = None
        try:
            self._configure(nova.conf.CONF)
        except request_filter.HookGone as error:
            LOG.critical("[trusted_computing] request_filter cannot be used: %s", error)
            raise SystemExit(
                f"nova-scheduler: [trusted_computing] request_filter cannot be used: {error}; "
                "remove the option, or use a supported release of Nova"
            ) from None
        except (cfg.Error, ClientError) as error:
            self._mistake = " ".join(str(error).split())
            LOG.error(
                "[trusted_computing] cannot be used: %s; flavors that ask for trust find no host",
                self._mistake,
            )
        except Exception as error:
            # It would end nova-scheduler, for plain flavors too.
            self._mistake = f"internal error, {type(error).__name__}"
            LOG.exception("TrustedFilter cannot start; flavors that ask for trust find no host")

    def _configure(self, conf: cfg.ConfigOpts) -> None:
        trusted_computing.register_opts(conf)
        self._settings = settings = Settings.from_conf(conf)
        if settings.request_filter:
            asked_first = request_filter.RequestFilter(settings, lambda: self._source)
            request_filter.install(asked_first)
        driver = find_driver(settings.driver)
        driver.register_opts(conf)
        warnings = settings.warnings
        try:
            warnings += driver.from_conf(conf).warnings
        except ClientError as error:
            # It may be mended without a restart, so it is tried again with each request.
            LOG.error(
                "[trusted_computing] cannot be used yet: %s; flavors that ask for trust find no "
                "host",
                error,
            )
        for warning in warnings:
            LOG.warning("[trusted_computing] %s", warning)
        self._source = VerdictSource(
            lambda: driver.from_conf(conf),
            by_name=driver.by_name,
            region=settings.region,
            deadline=settings.deadline,
            refresh_interval=settings.refresh_interval,
            max_age=settings.max_age,
        )

    def filter_all(self, hosts: Sequence[Any], spec_obj: Any) -> Sequence[Any]:
        """The hosts that are as the flavor asks.

        :param hosts: Nova's HostState objects.
        :param spec_obj: Nova's RequestSpec.
        """
        try:
            return self._answer(hosts, spec_obj)
        except Exception:
            # It would put the server into ERROR with the name of the exception, or worse.
            LOG.exception("TrustedFilter failed")
            return hosts if self._settings is not None and self._settings.observe else []

    def _answer(self, hosts: Sequence[Any], spec_obj: Any) -> Sequence[Any]:
        try:
            demand = read_demand(extra_specs_of(spec_obj))
        except DemandError as error:
            if self._goes_unchecked(spec_obj):
                return hosts
            return self._refuse_all(hosts, spec_obj, str(error))
        if demand is None or self._goes_unchecked(spec_obj):
            return hosts
        settings, source = self._settings, self._source
        if settings is None or source is None:
            return self._refuse_all(hosts, spec_obj, f"the filter is not set up: {self._mistake}")
        if demand.level is Level.UNTRUSTED:
            LOG.warning(
                "%s asks for hosts that are untrusted, which is deprecated", title_of(spec_obj)
            )
        view = source.view(lambda: [host.nodename for host in hosts])
        lenient = (
            settings.check_rebuild == filter_settings.UNTRUSTED_ONLY
            and scheduler_utils.request_is_rebuild(spec_obj)
        )
        decision = decide(hosts, demand, view, lenient=lenient)
        spared = enforcement.observed(decision.refused, default=settings.observe)
        _report(decision, spec_obj, spared)
        return _with(hosts, decision.passed, spared, decision.refused)

    def _goes_unchecked(self, spec_obj: Any) -> bool:
        """Whether it is a rebuild and the operator wants none of them checked."""
        settings = self._settings
        return (
            settings is not None
            and settings.check_rebuild == filter_settings.OFF
            and scheduler_utils.request_is_rebuild(spec_obj)
        )

    def _refuse_all(self, hosts: Sequence[Any], spec_obj: Any, why: str) -> Sequence[Any]:
        default = self._settings is not None and self._settings.observe
        spared = enforcement.observed(hosts, default=default)
        word = "would pass" if spared else "passes"
        LOG.warning("%s: no host %s: %s%s", title_of(spec_obj), word, why, _spared(spared, hosts))
        return _with(hosts, [], spared, hosts)


def _with(
    hosts: Sequence[Any], passed: Sequence[Any], spared: Sequence[Any], refused: Sequence[Any]
) -> Sequence[Any]:
    """Those that pass and those whose refusal is only said, in the order they came."""
    if not spared:
        return passed
    if len(spared) == len(refused):
        return hosts
    kept = {id(host) for host in (*passed, *spared)}
    return [host for host in hosts if id(host) in kept]


def _spared(spared: Sequence[Any], refused: Sequence[Any]) -> str:
    """The end of a line about a request, if refusals are only said."""
    if not spared:
        return ""
    if len(spared) == len(refused):
        return "; nothing is refused, as enforcement = observe"
    return f"; {len(spared)} others are let through, as enforcement = observe in their aggregates"


def _report(decision: Decision[Any], spec_obj: Any, spared: Sequence[Any]) -> None:
    """One line for the request, and at debug one for each host that is refused."""
    view = decision.view
    if view.valid and not LOG.isEnabledFor(logging.INFO):
        return
    title = title_of(spec_obj)
    if not view.valid:
        LOG.warning(
            "%s: %d of %d hosts pass, there are no valid verdicts: %s%s",
            title,
            len(decision.passed),
            len(decision.passed) + len(decision.refused),
            view.problem or "the lease has ended",
            _spared(spared, decision.refused),
        )
    else:
        LOG.info("%s: %s%s", title, Account.of(decision), _spared(spared, decision.refused))
    if LOG.isEnabledFor(logging.DEBUG):
        only_said = {id(host) for host in spared}
        for host, reason in decision.reasons():
            word = "would be refused" if id(host) in only_said else "refused"
            LOG.debug("%s: host %s %s: %s", title, printable(host.nodename), word, reason)
