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
"""What is read of Nova's RequestSpec, and how a request is called in a log."""

from typing import Any

from oat_trusted_filter.scheduler.decision import printable

__all__ = ["extra_specs_of", "loaded", "printable", "title_of"]


def extra_specs_of(spec_obj: Any) -> dict[str, str] | None:
    """The flavor's extra specs; None if Nova did not load them."""
    specs: dict[str, str] | None = loaded(loaded(spec_obj, "flavor"), "extra_specs")
    return specs


def title_of(spec_obj: Any) -> str:
    """The request in a log line."""
    server = loaded(spec_obj, "instance_uuid") or "?"
    return f"server {server} of flavor {loaded(loaded(spec_obj, 'flavor'), 'name') or '?'}"


def loaded(record: Any, field: str) -> Any:
    """A field of one of Nova's objects; None if it was not loaded.

    Reading one that was not loaded may ask the database or raise.
    """
    if record is None or not record.obj_attr_is_set(field):
        return None
    return getattr(record, field)
