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
"""Nova's functional fixtures as a part of :mod:`tests.lab.nova`, and what tames them.

As Nova's test package is imported it sets up logging to standard output for the whole process, and
has the error that ends a program logged as one of Nova. That does not outlive the import here.
"""

import contextlib
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import fixtures

from oat_trusted_filter.conf import trusted_computing
from tests.lab.nova_threads import choose_native_threads

FILTER = "oat_trusted_filter.scheduler.trusted_filter.TrustedFilter"


@contextlib.contextmanager
def _process_kept() -> Iterator[None]:
    """Take back what happens to the process in the block."""
    hook, handlers = sys.excepthook, tuple(logging.root.handlers)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # libraries about each other
            yield
    finally:
        sys.excepthook = hook
        for handler in set(logging.root.handlers).difference(handlers):
            logging.root.removeHandler(handler)


with _process_kept():
    choose_native_threads()
    import nova.conf
    from futurist._thread import ThreadWorker
    from nova import context as nova_context
    from nova.db.main import api as main_db
    from nova.db.main import models as main_models
    from nova.scheduler import request_filter as nova_request_filter
    from nova.tests.functional import integrated_helpers
    from nova.tests.functional.api import client as api_client
    from placement import db_api as placement_db
    from placement.db.sqlalchemy import models as placement_models

__all__ = [
    "main_db",
    "main_models",
    "nova_context",
    "placement_db",
    "placement_models",
]

NotFound = api_client.OpenStackApiNotFoundException
ApiError = api_client.OpenStackApiException


def pool_threads() -> frozenset[threading.Thread]:
    """Workers of Nova's thread pools that are alive."""
    return frozenset(t for t in threading.enumerate() if isinstance(t, ThreadWorker))


@contextlib.contextmanager
def silence(name: str) -> Iterator[None]:
    """Keep a tree of loggers from the terminal, which it reaches while its fixtures are undone."""
    logger, handler = logging.getLogger(name), logging.NullHandler()
    logger.addHandler(handler)
    propagate, logger.propagate = logger.propagate, False
    try:
        yield
    finally:
        logger.propagate = propagate
        logger.removeHandler(handler)


class FilterLog(logging.Handler):
    """Keeps what our own loggers say; Nova's fixtures take all the rest.

    :ivar lines: one ``LEVEL message`` each.
    """

    _NAME = "oat_trusted_filter"

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []
        self._level = logging.NOTSET

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname} {record.getMessage()}")

    def install(self) -> None:
        """Begin."""
        logger = logging.getLogger(self._NAME)
        self._level = logger.level
        logger.setLevel(logging.DEBUG)
        logger.addHandler(self)

    def remove(self) -> None:
        """End; the lines stay."""
        logger = logging.getLogger(self._NAME)
        logger.removeHandler(self)
        logger.setLevel(self._level)


class _NoWarnings(fixtures.Fixture):
    """In place of Nova's own fixture, which turns deprecations of newer libraries into errors."""

    def _setUp(self) -> None:
        context = warnings.catch_warnings()
        context.__enter__()
        self.addCleanup(context.__exit__, None, None, None)
        warnings.simplefilter("ignore")


class NovaServices(integrated_helpers.ProviderUsageBaseTestCase):
    """Nova's base of functional tests, used for what it sets up: ``api``, ``computes`` and more."""

    compute_driver = "fake.MediumFakeDriver"
    microversion = "latest"

    def __init__(
        self,
        options: Mapping[str, Any],
        filters: Sequence[str],
        scheduler_options: Mapping[str, Any],
    ) -> None:
        super().__init__("runTest")
        self._scheduler_options = scheduler_options
        self._oat_options = options
        self._oat_filters = list(filters)

    def runTest(self) -> None:
        """There is no test in here; unittest wants the name to exist."""

    def setUp(self) -> None:
        self.useFixture(fixtures.MonkeyPatch("nova.tests.fixtures.WarningsFixture", _NoWarnings))
        # What the API and the scheduler read has to be set before super().setUp() starts them. The
        # wheel of Nova puts api-paste.ini under the prefix, its fixture looks beside the source.
        paste = os.path.join(sys.prefix, "etc", "nova", "api-paste.ini")
        self.flags(api_paste_config=paste, group="wsgi")
        self.flags(
            available_filters=["nova.scheduler.filters.all_filters", FILTER],
            enabled_filters=self._oat_filters,
            group="filter_scheduler",
        )
        # The default lets a project have ten servers.
        self.flags(instances=-1, cores=-1, ram=-1, group="quota")
        trusted_computing.register_opts(nova.conf.CONF)
        if self._oat_options:
            self.flags(group="trusted_computing", **self._oat_options)
        # Filters that are appended do not outlive this cloud.
        self.useFixture(
            fixtures.MonkeyPatch(
                "nova.scheduler.request_filter.ALL_REQUEST_FILTERS",
                list(nova_request_filter.ALL_REQUEST_FILTERS),
            )
        )
        for name, value in self._scheduler_options.items():
            self.flags(group="scheduler", **{name: value})
        super().setUp()

    def start_compute(self, host: str) -> None:
        """Start a compute service with one node of the same name."""
        self._start_compute(host)

    def set_traits(self, node: str, *traits: str) -> None:
        """Give the resource provider of a node these traits beside those Nova sets."""
        for trait in traits:
            self._create_trait(trait)
        uuid = self._get_provider_uuid_by_name(node)
        self._set_provider_traits(uuid, [*self._get_provider_traits(uuid), *traits])

    def take_down(self) -> list[Exception]:
        """Stop everything and return what went wrong; ``doCleanups`` would keep that to itself."""
        errors: list[Exception] = []
        with _process_kept(), silence("nova"):
            while self._cleanups:
                cleanup, args, kwargs = self._cleanups.pop()
                try:
                    cleanup(*args, **kwargs)
                except Exception as error:  # noqa: BLE001  it is returned
                    errors.append(error)
        return errors
