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
"""What drivers over HTTP have in common."""

import itertools
from collections.abc import Iterable

from oat_trusted_filter.client.drivers.base import AttestationDriver
from oat_trusted_filter.client.http import AttestationClient
from oat_trusted_filter.client.verdicts import Lapse, VerdictRecord, VerdictReply


class ClientDriver(AttestationDriver):
    """A driver that has a client.

    :param warnings: what the operator should be told about the connection.
    """

    def __init__(self, client: AttestationClient, warnings: tuple[str, ...] = ()) -> None:
        self._client = client
        self._warnings = warnings

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the operator should be told about the connection."""
        return self._warnings

    def close(self) -> None:
        """Close idle connections."""
        self._client.close()


class LeaselessDriver(ClientDriver):
    """A driver for a service that knows neither leases nor regions, and says everything each time.

    :param lifetime: seconds an answer may be used.
    :param region: that of all hosts.
    """

    def __init__(
        self,
        client: AttestationClient,
        *,
        lifetime: float,
        region: str = "",
        warnings: tuple[str, ...] = (),
    ) -> None:
        super().__init__(client, warnings)
        self._lifetime = lifetime
        self._region = region
        self._answers = itertools.count(1)

    def _reply(
        self, epoch: str, sent_at: float, hosts: Iterable[VerdictRecord], lapsing: Iterable[Lapse]
    ) -> VerdictReply:
        """An answer that replaces the one before."""
        return VerdictReply(
            lease=self._lifetime,
            sent_at=sent_at,
            epoch=epoch,
            cursor=next(self._answers),
            full=True,
            hosts=tuple(hosts),
            lapsing=tuple(lapsing),
        )
