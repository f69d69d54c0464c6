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
"""Lists of which a part can be asked for."""

import argparse
from collections.abc import Iterable
from typing import ClassVar

from oat_trusted_filter.cli.backend import path
from oat_trusted_filter.cli.output import Record, RecordLister


def positive(text: str) -> int:
    """A number of things.

    :raises argparse.ArgumentTypeError: it is none above 0.
    """
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return int(text)


class PagedLister(RecordLister):
    """A list of the backend, in its order; all of it unless a part is asked for."""

    resource: ClassVar[str]
    """The list below ``/v1``; the field of the reply has the same name."""
    marker: ClassVar[tuple[str, str]] = ("NAME", "name")
    """What its records are told apart by."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add which part."""
        parser = super().get_parser(prog_name)
        metavar, what = self.marker
        parser.add_argument(
            "--limit", metavar="N", type=positive, help="at most so many (up to 1000; default: all)"
        )
        parser.add_argument(
            "--marker", metavar=metavar, help=f"only what comes after the one of this {what}"
        )
        return parser

    def records(self, parsed_args: argparse.Namespace) -> Iterable[Record]:
        """The records."""
        limit = None if parsed_args.limit is None else str(parsed_args.limit)
        query = {"limit": limit, "marker": parsed_args.marker}
        field = self.resource.replace("-", "_")
        return self.backend.items(path(self.resource, query=query), field)
