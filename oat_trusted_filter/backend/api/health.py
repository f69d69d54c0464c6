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
"""``/healthcheck`` and ``/healthz``: whether this API host works, for load balancers and people."""

import falcon

from oat_trusted_filter.backend.api.exchange import answer
from oat_trusted_filter.backend.api.problems import Problem
from oat_trusted_filter.backend.api.service import Service
from oat_trusted_filter.backend.store import changes, enforcers, snapshot

#: Seconds the clocks of API hosts may differ before one of them is taken for wrong.
CLOCK_TOLERANCE = 60


def live(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """Whether the database answers; otherwise the answer is a problem."""
    with service.store.read() as connection:
        changes.position(connection)
    answer(resp, {"status": "ok"})


def check(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """Whether this API host can do its work; otherwise the answer is a problem with status 503.

    An enforcer that is silent makes the status ``degraded``: another API host would not help.
    """
    now = service.clock()
    with service.store.read() as connection:
        outlook = snapshot.outlook(connection)
        alone = enforcers.regions_left_alone(connection, now)
    settings = service.settings
    latest = now + int((settings.verdict_lifetime + CLOCK_TOLERANCE) * 1000)
    # Verdicts of another API host that end later than one of this moment could.
    if (outlook.last_deadline or 0) > latest:
        raise Problem(
            "clock-behind",
            "the clock of this machine is behind that of another API host, or was put back",
        )
    checks = {"database": "ok", "clock": "ok", "enforcers": "silent" if alone else "ok"}
    answer(resp, {"status": "degraded" if alone else "ok", "checks": checks})
