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
"""What may stand behind the question mark of each route."""

from collections.abc import Iterable
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlencode

import falcon
import msgspec

from oat_trusted_filter.backend.api.fields import Digest, Region
from oat_trusted_filter.backend.api.problems import Problem
from oat_trusted_filter.backend.store.listing import Wanted

T = TypeVar("T")


class RegionQuery(msgspec.Struct, forbid_unknown_fields=True):
    """One region of the cloud."""

    region: Region | None = None


class BindingQuery(RegionQuery, forbid_unknown_fields=True):
    """One endorsement key of a host."""

    ek_fingerprint: Digest | None = None


class PageQuery(msgspec.Struct, forbid_unknown_fields=True):
    """A part of a long list."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=1000, description="items at most")] | None = None


class NamesQuery(PageQuery, forbid_unknown_fields=True):
    """A part of a list of things that have names."""

    marker: Annotated[str, msgspec.Meta(description="name after which the part begins")] | None = (
        None
    )
    sort: Literal["name", "-name"] = "name"


class EnforcersQuery(PageQuery, forbid_unknown_fields=True):
    """A part of the list of enforcers."""

    marker: (
        Annotated[
            str,
            msgspec.Meta(description="REGION/NAME of the enforcer after which the part begins"),
        ]
        | None
    ) = None
    sort: Literal["name", "-name"] = "name"


class EnrolmentTokensQuery(PageQuery, forbid_unknown_fields=True):
    """A part of the list of enrolment tokens."""

    marker: (
        Annotated[str, msgspec.Meta(description="id of the token after which the part begins")]
        | None
    ) = None
    sort: Literal["created_at", "-created_at"] = "created_at"


class EkAuthoritiesQuery(PageQuery, forbid_unknown_fields=True):
    """A part of the list of those who vouch for endorsement keys."""

    marker: (
        Annotated[
            Digest,
            msgspec.Meta(description="fingerprint of the authority after which the part begins"),
        ]
        | None
    ) = None
    sort: Literal["valid_until", "-valid_until"] = "valid_until"


class ReferenceSetsQuery(NamesQuery, forbid_unknown_fields=True):
    """Which reference sets."""

    kind: str | None = None


class HostsQuery(RegionQuery, forbid_unknown_fields=True):
    """Which hosts."""

    state: Literal["registered", "pending", "approved"] | None = None
    level: Literal["trusted", "untrusted", "unknown"] | None = None
    sort: Literal[
        "host", "-host", "state", "-state", "level", "-level", "created_at", "-created_at"
    ] = "host"
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000, description="hosts at most")] | None = None
    marker: (
        Annotated[
            int,
            msgspec.Meta(ge=1, lt=2**53, description="id of the host after which the part begins"),
        ]
        | None
    ) = None

    def wanted(self) -> Wanted:
        """The same for the database."""
        return Wanted(**msgspec.structs.asdict(self))


class SinceQuery(RegionQuery, forbid_unknown_fields=True):
    """What the caller knows already."""

    since: (
        Annotated[
            str,
            msgspec.Meta(
                pattern=r"\A[A-Za-z0-9-]{1,64}:[0-9]{1,18}\Z",
                description="EPOCH:CURSOR of the last answer",
            ),
        ]
        | None
    ) = None


def read(req: falcon.Request, kind: type[T]) -> T:
    """The query of a request as a record.

    :raises Problem: ``field-invalid``, also for a parameter that is not known or comes twice: a
        filter with a slip in it must not show everything. ``region-insufficient``.
    """
    try:
        query = msgspec.convert(req.params, kind, strict=False)
    except msgspec.ValidationError as error:
        raise Problem("field-invalid", f"query: {error}") from error
    if isinstance(query, RegionQuery):
        query.region = region_for(req, query.region)
    return query


def page_of(
    req: falcon.Request,
    query: NamesQuery | EnforcersQuery | EnrolmentTokensQuery | EkAuthoritiesQuery,
    markers: Iterable[str],
) -> tuple[list[str], dict[str, Any]]:
    """The part of a list that was asked for, and :func:`next_page`.

    :param markers: of everything there is, in the order the query sorts by.
    :raises Problem: ``marker-unknown``.
    """
    found = list(markers)
    if query.sort.startswith("-"):
        found.reverse()
    if query.marker is not None:
        if query.marker not in found:
            raise Problem("marker-unknown", "the list has nothing under the marker any more")
        found = found[found.index(query.marker) + 1 :]
    page = found[: query.limit]
    return page, next_page(req, query, len(page), page[-1] if page else None)


def next_page(
    req: falcon.Request, query: msgspec.Struct, count: int, last: str | None
) -> dict[str, Any]:
    """The field ``links`` with the next part of a list; nothing if this one is not full.

    :param count: items of this part.
    :param last: marker of the last one of them.
    """
    asked = {name: value for name, value in msgspec.structs.asdict(query).items() if value}
    if last is None or asked.get("limit") != count:
        return {}
    href = f"{req.prefix}{req.path}?{urlencode({**asked, 'marker': last})}"
    return {"links": [{"rel": "next", "href": href}]}


def region_for(req: falcon.Request, asked: str | None) -> str | None:
    """The region a request is about; None: all of them.

    :param asked: what it says itself.
    :raises Problem: ``region-insufficient``, the credential is for another one.
    """
    only: str | None = req.context.holder.region
    if only is None or asked == only:
        return asked
    if asked is None:
        return only
    raise Problem("region-insufficient", f"the credential is for region {only or '(none)'} only")
