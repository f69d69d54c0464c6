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
"""What the enforcer does about verdicts is a list of actions; keeping traits is the first."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Protocol

from oat_trusted_filter.enforcer.errors import EnforcerError
from oat_trusted_filter.enforcer.standing import Standing


@dataclass(slots=True)
class Counts:
    """What passes did and how they left things, in resource providers or hosts."""

    set: int = 0
    """Gained something."""
    removed: int = 0
    """Lost something."""
    failed: int = 0
    """Could not be done, and is tried again."""
    incidents: int = 0
    """Things found that no enforcer had done and no verdict allows."""
    unchanged: int = 0
    """Of the known hosts, those that already were as they should be."""
    waiting: int = 0
    """Hosts that placement does not know yet."""
    pending: int = 0
    """Left for the next pass."""

    def __str__(self) -> str:
        return ", ".join(f"{number} {name}" for name, number in asdict(self).items())

    def as_dict(self) -> dict[str, int]:
        """The columns by name."""
        return asdict(self)

    def add(self, later: "Counts") -> None:
        """Take in a later pass: what happened is summed up, how things stand is replaced."""
        self.set += later.set
        self.removed += later.removed
        self.failed += later.failed
        self.incidents += later.incidents
        self.unchanged, self.waiting = later.unchanged, later.waiting
        self.pending = later.pending


@dataclass(slots=True)
class Pass:
    """How a pass went."""

    counts: Counts = field(default_factory=Counts)
    full: bool = False
    """Whether everything was compared, and not only what the verdicts have changed."""
    error: EnforcerError | None = None
    """Why it ended early, if it did."""
    more: bool = False
    """Whether there is work left that can be done at once."""

    @property
    def eventful(self) -> bool:
        """Whether there is anything to tell."""
        counts = self.counts
        happened = counts.set + counts.removed + counts.failed + counts.incidents
        return self.full or self.error is not None or happened > 0


class Action(Protocol):
    """One thing to do about verdicts."""

    name: str

    def watch(self, standing: Standing) -> None:
        """Another enforcer acts: only remember what will be needed to take over."""

    def act(self, standing: Standing, proceed: Callable[[], bool]) -> Pass | None:
        """Bring the world in line; None if it was not yet time to do anything.

        Raises nothing that is foreseen: what fails is counted, told in the pass and tried again.

        :param proceed: asked between two steps; if it says no, the rest is left for later.
        """
