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
"""Tokens of Keystone as the credential of a client."""

from collections.abc import Mapping
from typing import Any

from keystoneauth1 import exceptions
from keystoneauth1 import session as ks_session
from keystoneauth1.plugin import BaseAuthPlugin

from oat_trusted_filter.client.errors import ClientError


class KeystoneCredential:
    """Asks Keystone for a token when one is needed, and for another one when it was refused.

    :param plugin: any authentication plugin of keystoneauth1.
    :param verify: a CA file for Keystone, or whether to check its certificate at all.
    :param certificate: files of a client certificate and its key.
    :param timeout: seconds Keystone may be silent.
    """

    def __init__(
        self,
        plugin: BaseAuthPlugin,
        *,
        verify: str | bool = True,
        certificate: tuple[str, str] | None = None,
        timeout: float,
    ) -> None:
        self._plugin: Any = plugin
        self._session = ks_session.Session(
            verify=verify, cert=certificate, timeout=timeout, app_name="oat-trusted-filter"
        )

    def headers(self) -> Mapping[str, str]:
        """The headers that carry the credential.

        :raises ClientError: ``keystone-failed``.
        """
        try:
            found = self._plugin.get_headers(self._session)
        except exceptions.ClientException as error:
            text = " ".join(str(error).split())[:300]
            raise ClientError("keystone-failed", f"Keystone gives no token: {text}") from error
        if not found:
            raise ClientError("keystone-failed", "Keystone gives no token")
        return dict(found)

    def renew(self) -> bool:
        """Forget the token, which was refused; says whether there was one to forget."""
        return bool(self._plugin.invalidate())
