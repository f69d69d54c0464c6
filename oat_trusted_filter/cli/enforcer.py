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
"""``oat enforcer``: which enforcers there are, and whether they still report."""

from collections.abc import Mapping
from typing import Any

from oat_trusted_filter.cli.output import Column
from oat_trusted_filter.cli.paging import PagedLister
from oat_trusted_filter.cli.text import plain


def _counts(counts: Any) -> str:
    """What was done, without what was not."""
    if not isinstance(counts, Mapping):
        return plain(counts)
    return ", ".join(f"{plain(number)} {plain(name)}" for name, number in counts.items() if number)


class ListEnforcers(PagedLister):
    """List enforcers: which one acts, when each reported last, what it did since its start.

    An enforcer is silent if it has not reported for 90 seconds. Traits in placement are then not
    kept as the verdicts say, unless another one of the region acts.
    """

    resource = "enforcers"
    marker = ("REGION/NAME", "region and name")
    columns = (
        Column("name"),
        Column("region"),
        Column("leader"),
        Column("silent"),
        Column("reported_at"),
        Column("counts", _counts),
    )
