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
"""The program ``oat``: global options, exit status, one connection to the backend."""

import argparse
import functools
import importlib.metadata
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from cliff.app import App
from cliff.commandmanager import CommandManager

from oat_trusted_filter.cli.arguments import seconds
from oat_trusted_filter.cli.backend import Backend
from oat_trusted_filter.cli.command import Services
from oat_trusted_filter.cli.completion import Complete
from oat_trusted_filter.cli.errors import EXIT_USAGE, UsageError
from oat_trusted_filter.cli.nova import Nova
from oat_trusted_filter.cli.text import printable
from oat_trusted_filter.client.http import AttestationClient, ClientError

#: Seconds to wait for an answer unless ``--timeout`` says otherwise. Taking reference values makes
#: the backend appraise every host anew, which takes longer than a plain question.
DEFAULT_TIMEOUT = 60.0

_DESCRIPTION = "Manage trusted compute pools: hosts, reference values, policies, verdicts."
_EPILOG = """
The address and the credential of the backend come from options or from the environment;
`oat-manage init` writes a file admin-openrc that sets it: `. /var/lib/oat/admin-openrc`.
A token on the command line is seen by every user of this machine, one in the environment is not.
Exit status: 0 done, 1 refused or not found by the backend, 2 wrong use (options, files),
3 backend not reached or unable to serve now, 130 interrupted.
"""


class _OwnServices:
    """The services the options and the environment of ``oat`` name."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options

    @functools.cached_property
    def backend(self) -> Backend:
        """The backend of ``--endpoint``."""
        return Backend(
            client_from_options(self._options), "OAT_TOKEN, or OAT_USERNAME and OAT_PASSWORD"
        )

    @property
    def nova(self) -> Nova:
        """The Nova of ``OS_*`` or ``clouds.yaml``."""
        return Nova.of_environment()


class _ClientManager(NamedTuple):
    trust_attestation: Services


class OatApp(App):
    """The command line program; commands are found through the entry points ``oat.cli``."""

    NAME = "oat"

    def __init__(self, **streams: Any) -> None:
        super().__init__(
            description=_DESCRIPTION,
            version=importlib.metadata.version("oat-trusted-filter"),
            command_manager=CommandManager("oat.cli"),
            **streams,
        )
        self.command_manager.add_command("complete", Complete)

    def build_option_parser(
        self,
        description: str | None,
        version: str | None,
        argparse_kwargs: dict[str, Any] | None = None,
    ) -> argparse.ArgumentParser:
        """Add the options every command has."""
        # Without allow_abbrev=False an option of a command could be taken for a global one.
        parser = super().build_option_parser(
            description, version, {"allow_abbrev": False, "epilog": _EPILOG}
        )
        add_connection_options(parser, os.environ)
        return parser

    @functools.cached_property
    def client_manager(self) -> _ClientManager:
        """Where commands find whom they talk to."""
        return _ClientManager(_OwnServices(self.options))

    def run(self, argv: list[str]) -> int:
        """Run one command; without a command, say which there are."""
        status = super().run(argv)
        return EXIT_USAGE if self.interactive_mode else status

    def interact(self) -> None:
        """There is no shell of our own: a mistyped command must not leave one waiting."""
        self.run_subcommand(["help"])


def add_connection_options(parser: argparse.ArgumentParser, environ: Mapping[str, str]) -> None:
    """Add the options that say which backend to talk to, as whom, and how."""
    group = parser.add_argument_group("backend")

    def add(option: str, variable: str, metavar: str, text: str) -> None:
        group.add_argument(
            option,
            metavar=metavar,
            default=environ.get(variable) or None,
            help=f"{text} (default: {variable} of the environment)",
        )

    add("--endpoint", "OAT_ENDPOINT", "URL", "where the backend is, https://HOST:PORT")
    add("--token", "OAT_TOKEN", "TOKEN", "token of a service or an administrator")
    add("--username", "OAT_USERNAME", "NAME", "log in as this person instead of with a token")
    add("--password", "OAT_PASSWORD", "PASSWORD", "password of that person")
    add(
        "--cacert", "OAT_CACERT", "FILE",
        "CA certificates (PEM) that vouch for the backend instead of those of the system",
    )  # fmt: skip
    group.add_argument(
        "--insecure",
        action="store_true",
        help="do not check who answers; whoever is in between can then read the credential",
    )
    group.add_argument(
        "--timeout",
        type=seconds,
        default=DEFAULT_TIMEOUT,
        metavar="SECONDS",
        help=f"how long to wait for the backend (default: {DEFAULT_TIMEOUT:g})",
    )


def client_from_options(options: argparse.Namespace) -> AttestationClient:
    """The HTTP client the global options ask for.

    :raises UsageError: no endpoint, half a credential, or a CA file that is not one.
    """
    if not options.endpoint:
        raise UsageError(
            "which backend? Give --endpoint or set OAT_ENDPOINT, "
            "for instance with the admin-openrc that oat-manage init wrote"
        )
    # A person named on the command line counts more than a token left in the environment.
    token = None if options.username and options.password else options.token
    if not token and bool(options.username) != bool(options.password):
        raise UsageError("--username and --password go together")
    try:
        return AttestationClient(
            options.endpoint,
            token=token,
            username=None if token else options.username,
            password=None if token else options.password,
            cacert=options.cacert,
            insecure=options.insecure,
            timeout=options.timeout,
        )
    except (ClientError, ValueError) as error:
        raise UsageError(printable(str(error))) from error
