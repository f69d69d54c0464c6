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


class SinceQuery(msgspec.Struct, forbid_unknown_fields=True):
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
        filter with a slip in it must not show everything.
    """
    try:
        return msgspec.convert(req.params, kind, strict=False)
    except msgspec.ValidationError as error:
        raise Problem("field-invalid", f"query: {error}") from error
