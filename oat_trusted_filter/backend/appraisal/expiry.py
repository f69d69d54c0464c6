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
"""What ends soon is said before it ends."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Literal

from oat_trusted_filter.backend.appraisal.records import Finding, Verdict
from oat_trusted_filter.backend.appraisal.rule_records import ReferenceSet

#: Codes of the warnings.
EXPIRING = "reference-expiring"
TAGS_EXPIRING = "tags-expiring"
WARNINGS = frozenset({EXPIRING, TAGS_EXPIRING})

Validity = Literal["future", "valid", "expiring", "expired"]


def validity(
    start: datetime | None, end: datetime | None, now: datetime, lead: timedelta
) -> Validity:
    """Where a moment stands between two others.

    :param start: None: it has always been valid.
    :param end: None: it will always be valid.
    :param lead: how long before its end a thing is said to be ``expiring``.
    """
    if end is not None and end <= now:
        return "expired"
    if start is not None and now < start:
        return "future"
    return "expiring" if end is not None and end - now <= lead else "valid"


def with_expiry_warnings(
    verdict: Verdict, references: Mapping[str, ReferenceSet], now: datetime, lead: timedelta
) -> Verdict:
    """The verdict, with a warning for each set it rests on, and for tags, that end soon.

    Of several sets that match, a verdict rests on the one that is valid for the longest time, so a
    warning means that none takes its place.
    """
    warnings = tuple(
        Finding(
            EXPIRING,
            f"reference set {name}, which this verdict rests on, ends at "
            f"{reference.valid_until.astimezone(UTC):%Y-%m-%d %H:%M} UTC",
            reference_set=name,
            severity="warning",
        )
        for name in verdict.references
        if (reference := references.get(name)) is not None
        and reference.valid_until is not None
        and validity(None, reference.valid_until, now, lead) == "expiring"
    )
    tags = verdict.tags.tags
    if tags is not None and tags.valid_until is not None and tags.valid_until - lead <= now:
        warnings += (
            Finding(
                TAGS_EXPIRING,
                f"the tags of the host end at {tags.valid_until.astimezone(UTC):%Y-%m-%d %H:%M} "
                "UTC",
                severity="warning",
            ),
        )
    return replace(verdict, findings=(*verdict.findings, *warnings)) if warnings else verdict
