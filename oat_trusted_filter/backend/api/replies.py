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
"""What the interface answers, for its description. More fields may come; none goes."""

from typing import Any, Literal

import msgspec

from oat_trusted_filter.backend.api.fields import Digest

Level = Literal["trusted", "untrusted", "unknown"]


class Link(msgspec.Struct):
    """Where something is."""

    rel: str
    href: str


class VersionDocument(msgspec.Struct):
    """A version of the interface."""

    id: str
    status: str
    links: list[Link]


class VersionsDocument(msgspec.Struct):
    """The versions there are."""

    versions: list[VersionDocument]


class OneVersionDocument(msgspec.Struct):
    """A version of the interface."""

    version: VersionDocument


class HealthDocument(msgspec.Struct):
    """The backend works."""

    status: Literal["ok"]


class HealthChecksDocument(msgspec.Struct):
    """What was looked at, and how it is."""

    status: Literal["ok", "degraded"]
    checks: dict[str, str]


class FindingDocument(msgspec.Struct):
    """Something that was found, by a code for programs and a sentence for people."""

    code: str
    message: str


class AuthoritiesDocument(msgspec.Struct):
    """Certificates in PEM, the one in use first."""

    certificates: list[str]


class EnrolmentBegun(msgspec.Struct):
    """A secret only the TPM with both keys can open, in base64."""

    id: str
    credential_blob: str
    encrypted_secret: str


class EnrolmentDone(msgspec.Struct):
    """What has become of an enrolment."""

    state: Literal["pending", "approved"]
    ek_fingerprint: Digest
    token_refused: FindingDocument | None = None
    """Why the enrolment token that came along did not help."""


class EnrolmentTokenDocument(msgspec.Struct):
    """An enrolment token."""

    id: str
    state: Literal["unused", "used", "expired"]
    region: str | None
    host: str | None
    created_by: str
    created_at: str
    expires_at: str
    used_at: str | None
    used_by: str | None
    token: str | None = None
    """The token itself, in the answer to the request that made it."""


class EnrolmentTokensDocument(msgspec.Struct):
    """Enrolment tokens."""

    enrolment_tokens: list[EnrolmentTokenDocument]
    links: list[Link] = []


class ChallengeDocument(msgspec.Struct):
    """What has to go into the next quote."""

    challenge: str
    pcrs: list[int]
    expires_in: float


class Judgement(msgspec.Struct):
    """The verdict about evidence."""

    level: Level
    findings: list[FindingDocument]
    appraised_at: str
    expires_at: str | None
    interval: float
    ima_offset: int | None
    tag_contents: str | None


class OverrideDocument(msgspec.Struct):
    """What an operator says instead of what was found."""

    level: Literal["trusted", "untrusted"]
    reason: str
    by: str
    made_at: str
    until: str


class HostDocument(msgspec.Struct):
    """A host: a name and an endorsement key."""

    id: str
    region: str
    host: str
    service_host: str | None
    resource_provider: str | None
    state: Literal["registered", "pending", "approved"]
    ek_fingerprint: Digest
    software_tpm: bool | None
    ek_certificate_status: str | None
    manufacturer: str | None
    level: Level
    findings: list[FindingDocument]
    appraised_at: str | None
    expires_at: str | None
    policy: str | None
    """The one the host is judged by; null if that cannot be told."""
    bound_policy: str | None
    """The one it is bound to directly."""
    labels: dict[str, str]
    override: OverrideDocument | None
    created_at: str


class HostsDocument(msgspec.Struct):
    """Hosts."""

    hosts: list[HostDocument]
    links: list[Link] = []
    """``next``: where the list goes on."""


class ValidityDocument(msgspec.Struct):
    """Serial number and times of a signed record of tags."""

    serial: int
    issued_at: str
    valid_from: str | None
    valid_until: str | None


class TagRecordDocument(ValidityDocument):
    """A signed record of tags; if it does not count it has nothing but its text."""

    state: Literal["valid", "future", "expired", "invalid", "another-host"]
    signed: str


class HostTagsDocument(msgspec.Struct):
    """The tags of a host."""

    region: str
    host: str
    ek_fingerprint: Digest
    tags: dict[str, str]
    tag_record: TagRecordDocument | None


class TagDocument(msgspec.Struct):
    """A name of tags and the values it may have."""

    name: str
    values: list[str]


class TagsDocument(msgspec.Struct):
    """Tags that may be assigned."""

    tags: list[TagDocument]
    links: list[Link] = []


class TaggedHostDocument(ValidityDocument):
    """A host that has a tag."""

    region: str
    host: str
    value: str


class TaggedDocument(TagDocument):
    """A tag and the hosts that have it."""

    hosts: list[TaggedHostDocument]


class EventDocument(msgspec.Struct):
    """An event of a boot log."""

    number: int
    pcr: int
    type: str
    description: str
    digests: dict[str, str]


class BootLogDocument(msgspec.Struct):
    """A boot log."""

    events: list[EventDocument]


class ReferenceSetsDocument(msgspec.Struct):
    """Reference sets, each a document that can be created again."""

    reference_sets: list[dict[str, Any]]
    links: list[Link] = []


class PoliciesDocument(msgspec.Struct):
    """Policies."""

    policies: list[dict[str, Any]]
    links: list[Link] = []


class EkAuthorityDocument(msgspec.Struct):
    """An authority that vouches for endorsement keys."""

    subject: str
    fingerprint: Digest
    valid_from: str
    valid_until: str
    validity: Literal["future", "valid", "expiring", "expired"]


class EkAuthoritiesDocument(msgspec.Struct):
    """Authorities that vouch for endorsement keys."""

    ek_authorities: list[EkAuthorityDocument]
    links: list[Link] = []


class CheckedHost(msgspec.Struct):
    """What a policy would make of a host."""

    region: str
    host: str
    level: Level
    would_be: Level
    changes: bool
    findings: list[FindingDocument]


class PolicyCheckDocument(msgspec.Struct):
    """What a policy would make of the evidence there is."""

    policy: str
    hosts: list[CheckedHost]


class EnforcerDocument(msgspec.Struct):
    """The last report of an enforcer."""

    region: str
    name: str
    leader: bool
    """Whether it is the one that acts."""
    silent: bool
    """Whether it has said nothing for 90 seconds."""
    reported_at: str
    counts: dict[str, int]
    """What it did since its start, and how things stand."""


class EnforcersDocument(msgspec.Struct):
    """All enforcers."""

    enforcers: list[EnforcerDocument]
    links: list[Link] = []
