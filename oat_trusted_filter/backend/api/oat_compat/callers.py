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
"""Who calls the interface of OpenAttestation.

Its clients show ``x-auth-blob`` at most, and some of them nothing: they are known by their address.
"""

import falcon

from oat_trusted_filter.backend.api.problems import Problem
from oat_trusted_filter.backend.api.proxy import address_of
from oat_trusted_filter.backend.api.service import Service
from oat_trusted_filter.backend.settings import OatCompat
from oat_trusted_filter.backend.store import credentials
from oat_trusted_filter.backend.store.credentials import ADMIN, READER, SERVICE, Holder


class OatCallers:
    """Knows callers by their token, their credential for ``/v1``, or their address."""

    def __init__(self, service: Service) -> None:
        self._service = service
        compat = service.settings.oat_compat or OatCompat()
        self._roles = (
            (ADMIN, compat.writers_from),
            (READER, compat.readers_from),
            (SERVICE, compat.pollhosts_from),
        )

    def holder(self, req: falcon.Request) -> Holder:
        """Who has sent the request.

        :raises Problem: ``credential-missing``, ``credential-wrong`` or ``too-many-attempts``.
        """
        blob = (req.get_header("x-auth-blob") or "").strip()
        known = self._holder_of(blob) if blob else None
        if known is not None:
            return known
        address = address_of(req.env.get("REMOTE_ADDR", ""))
        if address is not None:
            for role, networks in self._roles:
                if any(address in network for network in networks):
                    return Holder(f"address {address}", frozenset({role}))
        if blob:
            raise Problem("credential-wrong", "x-auth-blob is no token of this service")
        return self._service.authenticator.holder(req)

    def _holder_of(self, blob: str) -> Holder | None:
        with self._service.store.read() as connection:
            return credentials.holder_of(connection, blob, self._service.clock())
