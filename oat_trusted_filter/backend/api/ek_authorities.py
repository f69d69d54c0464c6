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
"""The authorities that vouch for endorsement keys, and when they end.

The end of one costs no host its trust that has enrolled, but none of its TPMs enrols any more.
"""

import datetime
from collections.abc import Iterator
from typing import Any

import falcon
from oslo_log import log as logging

from oat_trusted_filter.backend.api.exchange import answer
from oat_trusted_filter.backend.api.fields import moment
from oat_trusted_filter.backend.api.queries import page_of
from oat_trusted_filter.backend.api.rules import milliseconds, moment_of
from oat_trusted_filter.backend.api.service import Service
from oat_trusted_filter.backend.appraisal.expiry import validity
from oat_trusted_filter.backend.enrolment.certificate import authority

LOG = logging.getLogger(__name__)


def index(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """All authorities, the first to end first."""
    found = sorted(_documents(service), key=lambda item: item["valid_until"])
    known = {item["fingerprint"]: item for item in found}
    page, links = page_of(req, req.context.query, known)
    answer(resp, {"ek_authorities": [known[marker] for marker in page], **links})


def warn(service: Service) -> None:
    """Write to the log which of them have ended or end soon."""
    for document in _documents(service):
        if document["validity"] in ("expiring", "expired"):
            LOG.warning(
                "%s of [attestation] ek_ca_dir is %s: it ends at %s", document["subject"],
                document["validity"], document["valid_until"],
            )  # fmt: skip


def _documents(service: Service) -> Iterator[dict[str, Any]]:
    now = moment_of(service.clock())
    lead = datetime.timedelta(seconds=service.settings.expiry_warning)
    for known in map(authority, service.ek_authorities):
        yield {
            "subject": known.subject,
            "fingerprint": known.fingerprint,
            "valid_from": moment(milliseconds(known.valid_from)),
            "valid_until": moment(milliseconds(known.valid_until)),
            "validity": validity(known.valid_from, known.valid_until, now, lead),
        }
