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
"""Tells the backend that this enforcer is alive and what it did, so that its silence is seen."""

import time
from collections.abc import Callable, Mapping
from urllib.parse import quote

from oslo_log import log as logging

from oat_trusted_filter.client.http import AttestationClient, BackendRefused, ClientError
from oat_trusted_filter.enforcer.errors import describe

LOG = logging.getLogger(__name__)

#: Most seconds between two reports.
INTERVAL = 30.0
#: A backend of an earlier release has no place for reports.
_NO_ROUTE = frozenset({404, 405})


class Reporter:
    """One thread only.

    :param make_client: called when a connection is needed; may raise ClientError.
    :param name: of this enforcer.
    :param region: whose verdicts it follows.
    """

    def __init__(
        self,
        make_client: Callable[[], AttestationClient],
        name: str,
        region: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._make_client = make_client
        self._path = f"/v1/enforcers/{quote(name, safe='')}"
        self._region = region
        self._clock = clock
        self._client: AttestationClient | None = None
        self._last: tuple[bool, Mapping[str, int]] | None = None
        self._due_at = clock()
        self._problem: str | None = None

    def report(self, leader: bool, counts: Mapping[str, int]) -> None:
        """Report if something has changed or it is time. A failure is logged and harms nothing."""
        now = self._clock()
        if now < self._due_at and self._last == (leader, counts):
            return
        self._last = (leader, dict(counts))
        self._due_at = now + INTERVAL
        problem = None
        try:
            if self._client is None:
                self._client = self._make_client()
            self._client.request(
                "PUT",
                self._path,
                {"region": self._region, "leader": leader, "counts": dict(counts)},
            )
        except BackendRefused as error:
            if error.status not in _NO_ROUTE:
                problem = describe(error)
        except ClientError as error:
            problem = describe(error)
        if problem is not None:
            self.close()
            if self._problem is None:
                LOG.warning("the attestation backend took no report: %s", problem)
        self._problem = problem

    def close(self) -> None:
        """Close the connection."""
        client, self._client = self._client, None
        if client is not None:
            client.close()
