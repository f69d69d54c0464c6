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
"""Arguments that many commands have: a host, its region, its key, a time."""

import argparse
import math
import os
import re

_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


def fingerprint(text: str) -> str:
    """The fingerprint of an endorsement key as the backend writes it.

    :param text: 64 hexadecimal digits, in either case, with or without colons.
    :raises argparse.ArgumentTypeError: anything else.
    """
    digits = text.replace(":", "").lower()
    if not _FINGERPRINT.fullmatch(digits):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not the SHA-256 fingerprint of an endorsement key (64 hex digits)"
        )
    return digits


def add_host(parser: argparse.ArgumentParser, text: str = "name of the hypervisor") -> None:
    """Add ``HOST``."""
    parser.add_argument("host", metavar="HOST", help=text)


def add_key(parser: argparse.ArgumentParser, text: str, *, required: bool = False) -> None:
    """Add ``--ek-fingerprint``."""
    parser.add_argument(
        "--ek-fingerprint", metavar="SHA256", type=fingerprint, required=required, help=text
    )


def seconds(text: str) -> float:
    """A number of seconds.

    :raises argparse.ArgumentTypeError: it is none, or not above 0.
    """
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not math.isfinite(found) or found <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return found


def add_region(parser: argparse.ArgumentParser, text: str = "region of the host") -> None:
    """Add ``--region``."""
    parser.add_argument(
        "--region",
        metavar="REGION",
        default=os.environ.get("OAT_REGION"),
        help=f"{text} (default: OAT_REGION of the environment)",
    )


def region_in(parsed_args: argparse.Namespace) -> dict[str, str]:
    """The region as a field of a request, if one is given."""
    return {} if parsed_args.region is None else {"region": parsed_args.region}
