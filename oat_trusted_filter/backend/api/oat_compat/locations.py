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
"""Places as OpenAttestation knows them: a value of PCR 22 stands for one.

The dynamic launch (tboot) puts it there from the memory of the TPM, and the quote proves it.
"""

import falcon
import msgspec
from oslo_log import log as logging
from sqlalchemy import Connection

from oat_trusted_filter.backend.api.exchange import decoded, read_body
from oat_trusted_filter.backend.api.fields import pcr_values
from oat_trusted_filter.backend.api.oat_compat.asked import done
from oat_trusted_filter.backend.api.oat_compat.errors import OatError
from oat_trusted_filter.backend.api.oat_compat.mle_bodies import digest_in
from oat_trusted_filter.backend.api.service import Service
from oat_trusted_filter.backend.store import audit, oat_locations
from oat_trusted_filter.backend.store.tables import NAME_LENGTH

LOG = logging.getLogger(__name__)

_PCR = 22


class LocationBody(msgspec.Struct):
    """A place and the value that stands for it."""

    location: str | None = None
    white_list_value: str | None = None


def put(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """Say which place a value of PCR 22 stands for."""
    body = decoded(read_body(req), LocationBody)
    location = (body.location or "").strip()
    if not location or len(location) > NAME_LENGTH:
        raise OatError("AS_MISSING_INPUT", "Missing or invalid input 'location'.")
    _, value = digest_in(body.white_list_value)
    if len(set(value)) == 1:
        # Zeros or ones: every host nobody has put anywhere would be there.
        raise OatError(
            "AS_MISSING_INPUT",
            "Missing or invalid input 'white_list_value': PCR 22 has it if nothing was measured.",
        )
    by = req.context.holder.name

    def transaction(connection: Connection) -> None:
        oat_locations.put(connection, value.hex(), location)
        audit.record(
            connection,
            actor=by,
            action="oat-location.set",
            details={"location": location, "value": value.hex()},
        )

    service.store.write(transaction)
    LOG.info("%s set the location of a value of PCR 22", by)
    done(resp, json=True)


def place_of(connection: Connection, pcrs: str | None) -> str | None:
    """The place a host is in, by the longest of its values of PCR 22; None: not known.

    :param pcrs: those it has shown, JSON.
    """
    if pcrs is None:
        return None
    banks = pcr_values(msgspec.Raw(pcrs.encode())).values()
    values = sorted((bank[_PCR].hex() for bank in banks if _PCR in bank), key=len, reverse=True)
    places = oat_locations.of_values(connection, values)
    return next((places[value] for value in values if value in places), None)
