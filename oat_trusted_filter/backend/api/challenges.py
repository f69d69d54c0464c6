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
"""``/v1/challenges``: what an agent has to put into its next quote."""

import falcon
import msgspec

from oat_trusted_filter.backend.api.exchange import answer, decoded, read_body
from oat_trusted_filter.backend.api.fields import HostName, Region
from oat_trusted_filter.backend.api.service import Service
from oat_trusted_filter.backend.appraisal.records import QUOTED_PCRS


class ChallengeRequest(msgspec.Struct):
    """Who asks."""

    host: HostName
    region: Region = ""


def create(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """Issue a challenge; nothing is looked up and nothing is written."""
    asked = decoded(read_body(req), ChallengeRequest)
    text = service.challenges.issue(asked.region, asked.host, service.clock())
    answer(
        resp,
        {
            "challenge": text,
            "pcrs": QUOTED_PCRS,
            "expires_in": service.settings.challenge_lifetime,
        },
    )
