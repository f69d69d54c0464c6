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

from typing import Annotated, TypeVar

import falcon
import msgspec

from oat_trusted_filter.backend.api.fields import Digest, Region
from oat_trusted_filter.backend.api.problems import Problem

T = TypeVar("T")


class RegionQuery(msgspec.Struct, forbid_unknown_fields=True):
    """One region of the cloud."""

    region: Region | None = None


class BindingQuery(RegionQuery, forbid_unknown_fields=True):
    """One endorsement key of a host."""

    ek_fingerprint: Digest | None = None


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
