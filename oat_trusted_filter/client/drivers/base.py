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
"""What an attestation driver is, and how one is found.

A driver asks one kind of attestation service for verdicts. The scheduler filter does all the rest:
it decides when to ask, lets passes share an answer, keeps the last one while its lease lasts, stops
asking for a while after a failure, and holds the deadline. ``[trusted_computing] driver`` names the
driver; packages offer theirs as an entry point::

    [options.entry_points]
    oat_trusted_filter.attestation_drivers =
        mine = my_package.driver:MyDriver
"""

import abc
from collections.abc import Collection
from typing import ClassVar, Self

from oslo_config import cfg
from stevedore.driver import DriverManager
from stevedore.exception import NoMatches

from oat_trusted_filter.client.errors import ClientError
from oat_trusted_filter.client.verdicts import VerdictReply

NAMESPACE = "oat_trusted_filter.attestation_drivers"


class AttestationDriver(abc.ABC):
    """A connection to an attestation service.

    Made in the process that uses it and used by one request at a time, but not always by the same
    thread. After a failure it is closed and a new one is made, so that files are read anew; what it
    has to remember beyond that is in the answers it gave.
    """

    by_name: ClassVar[bool] = False
    """Whether the service only speaks of hosts it is asked about. If so, ``names`` is given."""

    @classmethod  # noqa: B027  not every driver has some
    def register_opts(cls, conf: cfg.ConfigOpts) -> None:
        """Register the driver's own options; ``[trusted_computing]`` is registered already."""

    @classmethod
    @abc.abstractmethod
    def from_conf(cls, conf: cfg.ConfigOpts) -> Self:
        """Make one; nothing is sent and no thread is started.

        :raises ClientError: an option cannot be used or a file is missing. It is told to the
            operator and tried again with the next request.
        :raises cfg.Error: an option has a value it cannot have.
        """

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the operator should be told about the options, once at the start."""
        return ()

    @abc.abstractmethod
    def get_verdicts(
        self,
        since: str | None,
        etag: str | None,
        *,
        names: Collection[str] = (),
        timeout: float,
    ) -> VerdictReply:
        """Ask for the verdicts, or for what has changed.

        What is not in a full answer is known to be unknown. A service without leases gets those of
        the driver: ``lease`` for the answer, ``lapsing`` for hosts whose verdict ends earlier.

        :param since: ``VerdictReply.since`` of the last answer; None: everything is wanted.
        :param etag: ``VerdictReply.etag`` of the last answer. Only if it is given the answer may be
            ``not_modified``.
        :param names: hypervisor host names the verdicts are wanted of, if ``by_name`` is set.
        :param timeout: seconds in all. It has to hold whatever the service does.
        :raises ClientError: there is no answer; its code and message go to the log.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Close all connections."""


def find_driver(name: str) -> type[AttestationDriver]:
    """The class of a driver.

    :raises ClientError: ``driver-unknown`` or ``driver-broken``.
    """
    try:
        found: object = DriverManager(NAMESPACE, name).driver
    except NoMatches as error:
        raise ClientError("driver-unknown", f"there is no attestation driver {name!r}") from error
    except Exception as error:
        # Whatever happens as somebody's module is imported.
        raise ClientError(
            "driver-broken",
            f"the attestation driver {name!r} cannot be loaded: {type(error).__name__}: {error}",
        ) from error
    if not (isinstance(found, type) and issubclass(found, AttestationDriver)):
        raise ClientError("driver-broken", f"{name!r} is the name of no attestation driver")
    return found
