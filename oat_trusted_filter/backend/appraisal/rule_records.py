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
"""What the appraisal goes by: policies and reference values as typed records."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal


@dataclass(frozen=True, slots=True)
class ReferenceEvent:
    """An event of a good boot, kept to tell which event of a bad one is to blame."""

    pcr: int
    type: str
    digest: str
    """Hexadecimal; of SHA-256, or of the strongest other bank of the log."""
    description: str


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where reference values come from."""

    source: Literal["hosts", "files", "imported", "typed"]
    by: str
    """Who brought them."""
    at: datetime
    hosts: tuple[str, ...] = ()
    """Whose boots were taken for good."""
    region: str = ""
    files: tuple[str, ...] = ()
    """What they were computed from."""
    origin: "Provenance | None" = None
    """What an imported document says about itself."""


@dataclass(frozen=True, slots=True)
class ReferenceSet:
    """Reference values of one kind."""

    name: str
    kind: str
    pcrs: Mapping[str, Mapping[int, frozenset[bytes]]]
    """Bank -> PCR -> the values that are good."""
    images: Mapping[str, frozenset[bytes]] = field(default_factory=dict)
    """Bank -> Authenticode digests of boot loaders and kernels that may be started."""
    boot_files: Mapping[str, frozenset[bytes]] = field(default_factory=dict)
    """Bank -> digests of files that a boot loader may load."""
    events: tuple[ReferenceEvent, ...] = ()
    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """An allow list for IMA: ``sha256:…`` -> the paths it may have, none for any."""
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    provenance: Provenance | None = None
    """None: made by an earlier release."""

    def valid_at(self, now: datetime) -> bool:
        """Whether the set counts at this moment."""
        return (self.valid_from is None or self.valid_from <= now) and (
            self.valid_until is None or now < self.valid_until
        )


@dataclass(frozen=True, slots=True)
class Requirement:
    """One reference set of this kind has to match in all of these PCRs."""

    kind: str
    pcrs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ImaPolicy:
    """What is asked of the IMA log."""

    mode: Literal["off", "report", "enforce"] = "off"
    """``off``: it is not looked at; ``report``: findings do not cost the host its trust;
    ``enforce``: they do."""
    exclude: tuple[str, ...] = ()
    """Regular expressions; a path one of them matches as a whole may be anything."""
    keys: tuple[str, ...] = ()
    """Certificates and public keys in PEM; a file one of them signed is good."""


@dataclass(frozen=True, slots=True)
class TagPolicy:
    """What is asked of the tags of a host."""

    require: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Name of a tag -> the values of which it has to have one."""
    nvram: Literal["required", "optional"] = "optional"
    """``required``: the TPM has to hold the record of the tags."""

    @property
    def asks(self) -> bool:
        """Whether anything is asked."""
        return bool(self.require) or self.nvram == "required"


@dataclass(frozen=True, slots=True)
class Policy:
    """What a host has to show."""

    name: str
    secure_boot: Literal["required", "optional"] = "required"
    requirements: tuple[Requirement, ...] = (Requirement("platform", (0, 2, 4, 7)),)
    kernel_command_line: str | None = None
    """Regular expression each kernel command line has to match as a whole, None for any."""
    certificates: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """PK, KEK or db -> SHA-256 of the certificates it may hold, hexadecimal."""
    dbx_minimum: frozenset[str] = frozenset()
    """Digests that have to be in dbx, hexadecimal."""
    images: tuple[str, ...] = ()
    """Kinds of reference sets one of which has to know each image that was started."""
    boot_files: tuple[str, ...] = ()
    """Kinds of reference sets one of which has to know each file the boot loader has loaded."""
    dynamic_launch: Literal["required", "optional"] = "optional"
    ima: ImaPolicy = ImaPolicy()
    tags: TagPolicy = TagPolicy()
    orderly_shutdown: Literal["required", "optional"] = "optional"
    tpm_firmware: frozenset[int] = frozenset()
    """Versions the TPM's firmware may have, none for any."""
    max_age: int | None = None
    """Seconds after its challenge when evidence counts for nothing any more, None for the lifetime
    of verdicts."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """The policy is for hosts that have all of them and are bound to none directly."""
