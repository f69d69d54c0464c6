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
"""What the service measures of itself, for Prometheus.

Counts are kept by every worker in files of one folder and added up when somebody asks, whichever
worker answers. What is in the database is read from there at that moment.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest, values
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector

from oat_trusted_filter.backend.store.figures import Figures

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


class End(NamedTuple):
    """When something ends."""

    what: str
    name: str
    moment: int
    """Milliseconds since 1970."""


class Measures:
    """Counters of one worker.

    :param folder: where all workers of the service keep their counts; None: this is the only one.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        if folder is not None:
            # The library looks at its environment when it is imported, which was before the fork.
            os.environ[_FOLDER_VARIABLE] = str(folder)
            values.ValueClass = values.MultiProcessValue()
        self._registry = CollectorRegistry()
        self.seconds = Histogram(
            "oat_request_seconds",
            "Time a request took; rounds of agents are those of evidence:submit.",
            ["route"],
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self.refusals = Counter(
            "oat_refusals", "Requests that were refused, by code.", ["code"],
            registry=self._registry,
        )  # fmt: skip

    def written(self, figures: Figures, ends: Iterable[End], now: int) -> bytes:
        """Everything in the text format of Prometheus.

        :param figures: what the database says.
        :param now: milliseconds since 1970.
        """
        registry = self._registry
        if self._folder is not None:
            registry = CollectorRegistry()
            MultiProcessCollector(registry, path=str(self._folder))  # type: ignore[no-untyped-call]
        of_database = CollectorRegistry()
        of_database.register(_Stored(figures, tuple(ends), now))
        return generate_latest(registry) + generate_latest(of_database)


class _Stored:
    """What is known at one moment."""

    def __init__(self, figures: Figures, ends: tuple[End, ...], now: int) -> None:
        self._figures = figures
        self._ends = ends
        self._now = now

    def collect(self) -> Iterable[Metric]:
        """As the library asks for it."""
        figures = self._figures
        hosts = GaugeMetricFamily("oat_hosts", "Bindings by state.", labels=["state"])
        for state, count in figures.hosts.items():
            hosts.add_metric([state], count)
        verdicts = GaugeMetricFamily("oat_verdicts", "Hosts by verdict.", labels=["level"])
        for level, count in figures.verdicts.items():
            verdicts.add_metric([level], count)
        yield hosts
        yield verdicts
        if figures.oldest is not None:
            age = GaugeMetricFamily(
                "oat_oldest_verdict_seconds", "Age of the oldest verdict that is still valid."
            )
            age.add_metric([], max(self._now - figures.oldest, 0) / 1000)
            yield age
        silent = GaugeMetricFamily(
            "oat_enforcer_silent", "Whether an enforcer is silent.", labels=["region", "name"]
        )
        for one in figures.enforcers:
            silent.add_metric([one.region, one.name], float(one.silent(self._now)))
        yield silent
        ends = GaugeMetricFamily(
            "oat_expires_seconds", "Seconds until something ends.", labels=["what", "name"]
        )
        for end in self._ends:
            ends.add_metric([end.what, end.name], (end.moment - self._now) / 1000)
        yield ends
