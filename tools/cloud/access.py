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
"""What a user of the cloud has to know, as plain data."""

from dataclasses import dataclass
from pathlib import Path

REGION = "RegionOne"
#: The compute hosts; each has one node of the same name.
COMPUTES = ("compute-1", "compute-2", "compute-3", "compute-4")
#: The hosts that have a TPM and an agent, with the boot they were recorded from.
BOOTS = {
    "compute-1": "machine-a",
    "compute-2": "machine-b",
    "compute-3": "machine-a-loader",
}
#: The hosts whose boots the operator has said to be good.
GOOD = ("compute-1", "compute-2")


@dataclass(frozen=True, slots=True)
class Access:
    """Addresses and credentials.

    :param nova: version of Nova.
    :param microversion: of the compute API, to be asked for.
    :param password: of every user of the identity service.
    """

    folder: Path
    nova: str
    microversion: str
    auth_url: str
    password: str
    image: str
    endpoint: str
    """Of the attestation backend."""
    cacert: Path

    def log(self, service: str) -> Path:
        """The log of a service."""
        return self.folder / "log" / f"{service}.log"
