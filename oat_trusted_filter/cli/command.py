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
"""What all commands have in common, whether ``oat`` or ``openstack`` runs them."""

import argparse
import contextlib
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Protocol, cast

from cliff.command import Command

from oat_trusted_filter.cli.backend import Backend
from oat_trusted_filter.cli.errors import CommandError
from oat_trusted_filter.cli.nova import Nova

#: Back to the first column, and what stands in the line is gone.
_BEGIN_LINE = "\r\x1b[K"


class Services(Protocol):
    """Who a command may have to talk to; nobody is asked before it is needed."""

    @property
    def backend(self) -> Backend:
        """The attestation backend.

        :raises UsageError: it is not said which one, or as whom.
        """

    @property
    def nova(self) -> Nova:
        """The Nova of the cloud.

        :raises UsageError: it is not said which one, or not completely.
        """


class ServiceCommand(Command):
    """A command that talks to services.

    The program that runs it has them as ``client_manager.trust_attestation``, which is where
    OpenStackClient keeps what a plugin has made.
    """

    #: OpenStackClient logs in before such a command runs.
    auth_required: ClassVar[bool] = True

    @property
    def backend(self) -> Backend:
        """The attestation backend.

        :raises UsageError: as :class:`Services` says.
        """
        return self._services.backend

    @property
    def nova(self) -> Nova:
        """The Nova of the cloud.

        :raises UsageError: as :class:`Services` says.
        """
        return self._services.nova

    @property
    def _services(self) -> Services:
        app: Any = self.app
        return cast(Services, app.client_manager.trust_attestation)

    @contextlib.contextmanager
    def progress(self) -> Iterator[Callable[[str], None]]:
        """For long work: a function that shows how far it is, to a person who watches.

        Its line is gone when the work is over; where nobody watches nothing is written.
        """
        stderr = self.app.stderr
        watched = stderr.isatty()

        def show(text: str) -> None:
            if watched:
                stderr.write(f"{_BEGIN_LINE}{text}")
                stderr.flush()

        try:
            yield show
        finally:
            show("")

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Run it; a failure is one line, and the exit status says of which kind it is."""
        try:
            return super().run(parsed_args)
        except CommandError as error:
            if self.app.options.debug:
                self.app.LOG.exception(error)
            else:
                self.app.LOG.error(error)  # noqa: TRY400  a traceback helps nobody else
            return error.status
