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
"""The plugin of OpenStackClient: every command of ``oat`` as ``openstack trust ...``.

The names in it are those OpenStackClient asks a plugin for. It imports the module at every start,
whatever the command, so nothing else is imported here before it is needed.
"""

import argparse
import os
from typing import Any

DEFAULT_API_VERSION = "1"
API_VERSION_OPTION = "os_trust_attestation_api_version"
API_NAME = "trust_attestation"
API_VERSIONS = ("1",)


def build_option_parser(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add the global option every plugin has."""
    variable = API_VERSION_OPTION.upper()
    parser.add_argument(
        "--os-trust-attestation-api-version",
        metavar="<trust-attestation-api-version>",
        default=os.environ.get(variable, ""),
        help=f"Trust attestation API version, default={DEFAULT_API_VERSION} (Env: {variable})",
    )
    return parser


def make_client(manager: Any) -> Any:
    """What commands find as ``client_manager.trust_attestation``.

    :param manager: the ``ClientManager`` of OpenStackClient.
    """
    from oat_trusted_filter.cli.cloud import CloudServices  # noqa: PLC0415 - see above

    return CloudServices(manager)
