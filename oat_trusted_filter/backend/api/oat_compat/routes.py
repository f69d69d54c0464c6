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
"""The routes of OpenAttestation, which are served beside ``/v1`` if ``[oat_compat]`` says so."""

from oat_trusted_filter.backend.api.oat_compat import (
    assertions,
    host_changes,
    locations,
    makers,
    mles,
    oat_hosts,
    oat_reports,
    pollhosts,
)
from oat_trusted_filter.backend.api.oat_compat.errors import ATTESTATION, ROOTS, WHITE_LISTS
from oat_trusted_filter.backend.api.route import Route
from oat_trusted_filter.backend.settings import OatCompat
from oat_trusted_filter.backend.store.credentials import ADMIN, READER, SERVICE

_REPORTS = f"{ATTESTATION}/hosts/reports"

#: By their path in OpenAttestation 1.6 and newer.
OAT_ROUTES = (
    Route(
        "POST", f"{ATTESTATION}/PollHosts", SERVICE, pollhosts.poll,
        body=pollhosts.PollBody, reply=pollhosts.PollReply, regional=True,
    ),
    Route("GET", f"{ATTESTATION}/hosts", READER, oat_hosts.index, regional=True),
    Route("GET", f"{ATTESTATION}/hosts/trust", READER, oat_hosts.show_trust, regional=True),
    Route("GET", f"{ATTESTATION}/hosts/location", READER, oat_hosts.show_location, regional=True),
    Route("GET", f"{ATTESTATION}/saml/assertions/host", READER, assertions.show, regional=True),
    Route("GET", f"{ATTESTATION}/hosts/bulk/trust/saml", READER, assertions.index, regional=True),
    Route("GET", f"{_REPORTS}/trust", READER, oat_reports.trust, regional=True),
    Route("GET", f"{_REPORTS}/manifest", READER, oat_reports.manifest, regional=True),
    Route("GET", f"{_REPORTS}/attestation", READER, oat_reports.attestation, regional=True),
    Route(
        "GET", f"{_REPORTS}/attestationreport", READER, oat_reports.attestation_log, regional=True,
    ),
    Route("GET", f"{WHITE_LISTS}/oem", READER, makers.index_oems),
    Route("GET", f"{WHITE_LISTS}/os", READER, makers.index_systems),
    Route("GET", f"{WHITE_LISTS}/mles", READER, mles.index),
    Route("GET", f"{WHITE_LISTS}/mles/manifest", READER, mles.show),
    Route("GET", f"{WHITE_LISTS}/mles/source", READER, mles.show_source),
    Route("POST", f"{ATTESTATION}/hosts", ADMIN, host_changes.create),
    Route("PUT", f"{ATTESTATION}/hosts", ADMIN, host_changes.change),
    Route("DELETE", f"{ATTESTATION}/hosts", ADMIN, host_changes.delete),
    Route("POST", f"{ATTESTATION}/hosts/location", ADMIN, locations.put),
    Route("POST", f"{WHITE_LISTS}/oem", ADMIN, makers.create_oem),
    Route("PUT", f"{WHITE_LISTS}/oem", ADMIN, makers.change_oem),
    Route("DELETE", f"{WHITE_LISTS}/oem", ADMIN, makers.delete_oem),
    Route("POST", f"{WHITE_LISTS}/os", ADMIN, makers.create_system),
    Route("PUT", f"{WHITE_LISTS}/os", ADMIN, makers.change_system),
    Route("DELETE", f"{WHITE_LISTS}/os", ADMIN, makers.delete_system),
    Route("POST", f"{WHITE_LISTS}/mles", ADMIN, mles.create),
    Route("PUT", f"{WHITE_LISTS}/mles", ADMIN, mles.change),
    Route("DELETE", f"{WHITE_LISTS}/mles", ADMIN, mles.delete),
    Route("POST", f"{WHITE_LISTS}/mles/whitelist/pcr", ADMIN, mles.add_pcr),
    Route("PUT", f"{WHITE_LISTS}/mles/whitelist/pcr", ADMIN, mles.change_pcr),
    Route("DELETE", f"{WHITE_LISTS}/mles/whitelist/pcr", ADMIN, mles.delete_pcr),
    Route("POST", f"{WHITE_LISTS}/mles/source", ADMIN, mles.set_source),
    Route("PUT", f"{WHITE_LISTS}/mles/source", ADMIN, mles.change_source),
    Route("DELETE", f"{WHITE_LISTS}/mles/source", ADMIN, mles.delete_source),
)  # fmt: skip


def served(compat: OatCompat | None) -> tuple[Route, ...]:
    """The routes that are switched on.

    :param compat: None: none are.
    """
    if compat is None:
        return ()
    return tuple(route for route in OAT_ROUTES if compat.allow_writes or route.role != ADMIN)


def paths_of(route: Route) -> tuple[str, ...]:
    """Where a route is: PollHosts is under every root, for its clients differ in theirs."""
    if route.handler is pollhosts.poll:
        return tuple(f"{root}/PollHosts" for root in ROOTS)
    return (route.path,)
