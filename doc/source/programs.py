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
"""The options of the programs, for the pages about them: each as the program itself has them."""

import argparse
from collections.abc import Callable, Sequence
from unittest import mock

from oat_trusted_filter.agent import program as agent_program
from oat_trusted_filter.backend.api import program as api_program
from oat_trusted_filter.backend.manage import program as manage_program
from oat_trusted_filter.backend.manage import upgrade as status_program
from oat_trusted_filter.enforcer import program as enforcer_program


class _Stop(Exception):
    """The program was about to read its command line."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser


def _parser_of(run: Callable[[Sequence[str]], int]) -> argparse.ArgumentParser:
    """Start a program and stop it as soon as it has put its parser together."""

    def stop(parser: argparse.ArgumentParser, *given: object) -> None:
        raise _Stop(parser)

    with mock.patch.object(argparse.ArgumentParser, "parse_args", stop):
        try:
            run([])
        except _Stop as stopped:
            return stopped.parser
    raise RuntimeError("the program has read no command line")


def agent() -> argparse.ArgumentParser:
    """``oat-agent``."""
    return _parser_of(agent_program.run)


def attestation_api() -> argparse.ArgumentParser:
    """``oat-attestation-api``."""
    return _parser_of(api_program.run)


def enforcer() -> argparse.ArgumentParser:
    """``oat-enforcer``."""
    return _parser_of(enforcer_program.run)


def manage() -> argparse.ArgumentParser:
    """``oat-manage``."""
    return _parser_of(manage_program.run)


def status() -> argparse.ArgumentParser:
    """``oat-status``."""
    return _parser_of(status_program.run)
