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
"""What an operator says about a host instead of what was found.

An override changes the level of a verdict and nothing else: the host still has to attest, or its
verdict lapses like any other; the findings stay, behind one that names the override; and no verdict
lasts longer than the override it rests on.
"""

from dataclasses import replace
from datetime import UTC, datetime

from oat_trusted_filter.backend.appraisal.records import Finding, Override, Verdict

#: Code of the finding that stands first in an overridden verdict.
OVERRIDE = "override"


def overridden(verdict: Verdict, override: Override | None, now: datetime) -> Verdict:
    """The verdict as the operator wants it, as long as he does.

    :param override: None: there is none.
    """
    if override is None or override.until <= now:
        return verdict
    end = override.until.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    finding = Finding(
        OVERRIDE,
        f"until {end} the host counts as {override.level}, whatever is found, on the word of "
        f"{override.by}: {override.reason}",
        severity="warning",
    )
    until = min(override.until, verdict.valid_until or override.until)
    return replace(
        verdict,
        level=override.level,
        findings=(finding, *verdict.findings),
        valid_until=until,
    )
