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
"""Backend and Nova as OpenStackClient has found them, with the credential it has."""

import functools
from typing import Any

from keystoneauth1 import exceptions
from keystoneauth1.adapter import Adapter
from keystoneauth1.noauth import NoAuth
from keystoneauth1.token_endpoint import Token

from oat_trusted_filter.cli.app import DEFAULT_TIMEOUT
from oat_trusted_filter.cli.backend import Backend
from oat_trusted_filter.cli.errors import UsageError
from oat_trusted_filter.cli.nova import Nova
from oat_trusted_filter.cli.text import printable
from oat_trusted_filter.client.http import AttestationClient, ClientError
from oat_trusted_filter.client.keystone import KeystoneCredential

SERVICE_TYPE = "trust-attestation"


class CloudServices:
    """The services of the cloud OpenStackClient has logged in to.

    :param manager: its ``ClientManager``.
    """

    def __init__(self, manager: Any) -> None:
        self._manager = manager

    @functools.cached_property
    def backend(self) -> Backend:
        """The backend of the catalogue, or of ``--os-endpoint`` where there is none."""
        try:
            client = self._client()
        except (ClientError, ValueError) as error:
            raise UsageError(printable(str(error))) from error
        return Backend(client, "what OS_* of the environment or clouds.yaml says")

    @property
    def nova(self) -> Nova:
        """The Nova of the catalogue."""
        manager = self._manager
        return Nova(
            Adapter(
                manager.session,
                service_type="compute",
                interface=manager.interface,
                region_name=manager.region_name,
            )
        )

    def _client(self) -> AttestationClient:
        manager = self._manager
        certificate = manager.cert
        if isinstance(certificate, str):
            # The key is in the same file.
            certificate = (certificate, certificate)
        token, keystone = None, None
        if isinstance(manager.auth, Token):
            # A token without a Keystone is one of the backend itself.
            token = manager.auth.token
        elif not isinstance(manager.auth, NoAuth):
            keystone = KeystoneCredential(
                manager.auth,
                verify=manager.verify,
                certificate=certificate,
                timeout=DEFAULT_TIMEOUT,
            )
        return AttestationClient(
            self._endpoint(),
            token=token,
            keystone=keystone,
            cacert=manager.cacert,
            certificate=certificate,
            insecure=not manager.verify,
            timeout=DEFAULT_TIMEOUT,
        )

    def _endpoint(self) -> str:
        """Where the backend is."""
        manager = self._manager
        try:
            found = manager.get_endpoint_for_service_type(
                SERVICE_TYPE, region_name=manager.region_name, interface=manager.interface
            )
        except exceptions.CatalogException as error:
            raise UsageError(printable(str(error))) from error
        if not found:
            raise UsageError(f"where is the service of type {SERVICE_TYPE}? Give --os-endpoint")
        return str(found)
