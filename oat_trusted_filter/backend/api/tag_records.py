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
"""Signed records of the tags of hosts.

A record is a JWS of this backend. It says: the host of this region and name, with this endorsement
key, has these tags, from one moment until another. It is verified whenever it is used, so a row
that was changed in the database counts for nothing, and neither does a record that was moved to
another host or whose host has another endorsement key by now:

1. The backend has signed it, as a record of tags.
2. It names the region, the host and the endorsement key of the binding it is stored with.
3. Its time has come and is not over.

What a signature cannot show is that a record is the last one: whoever may write to the database can
bring an older one back, as long as it has not ended.
"""

import datetime
import hashlib
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import msgspec
from oslo_log import log as logging

from oat_trusted_filter.backend.api.fields import moment
from oat_trusted_filter.backend.appraisal.records import HostTags
from oat_trusted_filter.backend.signing import Keys, SignatureRefused, Signing, verify
from oat_trusted_filter.backend.store.tags import StoredRecord, WithRecord, record_in

LOG = logging.getLogger(__name__)

#: ``typ`` of the JWS.
TYPE = "oat-tags+jwt"
#: Verified records a worker remembers; one has about a kilobyte.
_MOST_KNOWN = 32_768


class Claims(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a record says; moments are seconds since 1970, as in RFC 7519."""

    serial: int
    region: str
    host: str
    ek_fingerprint: str
    tags: Mapping[str, str]
    iat: int
    nbf: int | None = None
    """When it begins; None: at once."""
    exp: int | None = None
    """When it ends; None: never."""


class TagRecord(NamedTuple):
    """A record that was verified."""

    claims: Claims
    digest: bytes
    """SHA-256 of the JWS."""


#: ``invalid``: it does not verify; ``another-host``: it is for another name or endorsement key.
State = Literal["valid", "future", "expired", "invalid", "another-host"]


class TagReader:
    """Verifies records with the keys of one moment."""

    def __init__(self, keys: Keys) -> None:
        self.keys = keys
        self._known: dict[str, TagRecord | None] = {}

    def read(self, stored: StoredRecord) -> TagRecord | None:
        """Steps 1 and 2; None: it counts for nothing."""
        text = stored.record
        try:
            record = self._known[text]
        except KeyError:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            record = self._known[text] = self._verified(stored)
        if record is not None:
            claims = record.claims
            named = (claims.region, claims.host, claims.ek_fingerprint)
            if named != (stored.region, stored.host, stored.ek_fingerprint):
                return None
        return record

    def state(self, stored: StoredRecord, now: int) -> State:
        """Step 3, after 1 and 2.

        :param now: milliseconds since 1970.
        """
        record = self.read(stored)
        if record is None:
            return "another-host" if self._known.get(stored.record) else "invalid"
        return _state(record.claims, stored, now)

    def in_force(self, stored: StoredRecord | None, now: int) -> TagRecord | None:
        """The record, if it counts at this moment.

        :param now: milliseconds since 1970.
        """
        if stored is None:
            return None
        # Ten thousand of them are looked at for one answer.
        record = self.read(stored)
        if record is None or _state(record.claims, stored, now) != "valid":
            return None
        return record

    def tags_of(self, row: WithRecord, now: int) -> HostTags | None:
        """What the appraisal has to know of the record a row shows; None: it does not count.

        :param now: milliseconds since 1970.
        """
        record = self.in_force(record_in(row), now)
        if record is None:
            return None
        claims = record.claims
        ends = claims.exp
        return HostTags(
            claims.serial,
            claims.tags,
            record.digest,
            None if ends is None else datetime.datetime.fromtimestamp(ends, datetime.UTC),
        )

    def _verified(self, stored: StoredRecord) -> TagRecord | None:
        try:
            payload = verify(stored.record, TYPE, self.keys.public)
            claims = msgspec.convert(payload, Claims)
        except (SignatureRefused, msgspec.ValidationError) as error:
            LOG.error("the tags stored for host %s do not count: %s", stored.host, error)
            return None
        return TagRecord(claims, hashlib.sha256(stored.record.encode()).digest())


def _state(claims: Claims, stored: StoredRecord, now: int) -> State:
    begins, ends = claims.nbf, claims.exp
    if stored.expired or (ends is not None and ends * 1000 <= now):
        return "expired"
    return "future" if begins is not None and now < begins * 1000 else "valid"


class TagBook:
    """Signs records, and has the reader for them. Thread-safe."""

    def __init__(self, signing: Signing) -> None:
        self._signing = signing
        self._reader = TagReader(signing.keys)

    def sign(self, claims: Claims) -> str:
        """A record as it is stored."""
        return self._signing.sign(msgspec.to_builtins(claims), TYPE)

    @property
    def reader(self) -> TagReader:
        """The reader with the keys of this moment."""
        keys, reader = self._signing.keys, self._reader
        if reader.keys is not keys:
            reader = self._reader = TagReader(keys)
        return reader


def shown(stored: StoredRecord | None, reader: TagReader, now: int) -> dict[str, Any]:
    """The tags of a host at this moment, and the record that says so."""
    if stored is None:
        return {"tags": {}, "tag_record": None}
    state, record = reader.state(stored, now), reader.read(stored)
    return {
        "tags": record.claims.tags if record is not None and state == "valid" else {},
        "tag_record": {
            "state": state,
            **(validity(record.claims) if record is not None else {}),
            "signed": stored.record,
        },
    }


def validity(claims: Claims) -> dict[str, Any]:
    """Serial number and times of a record, in JSON."""
    return {
        "serial": claims.serial,
        "issued_at": _moment(claims.iat),
        "valid_from": _moment(claims.nbf),
        "valid_until": _moment(claims.exp),
    }


def _moment(seconds: int | None) -> str | None:
    return None if seconds is None else moment(seconds * 1000)
