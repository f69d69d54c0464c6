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
"""Waiting for a condition with a deadline, in place of sleeping and hoping."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class WaitTimeout(AssertionError):
    """The condition did not come true before the deadline."""


def wait_for(
    condition: Callable[[], T],
    deadline_seconds: float,
    what: str,
    *,
    poll_seconds: float = 0.01,
) -> T:
    """Call ``condition`` until it returns something true and return that.

    The condition is called at least once, and once more after the deadline, so a process that
    was stopped for a while by a busy machine is not blamed for it. Exceptions of the condition
    pass through: a condition that may fail for a while has to say so itself.

    :param deadline_seconds: how long to wait at most, on the monotonic clock.
    :param what: the thing waited for, named in the error.
    :raises WaitTimeout: the deadline passed.
    """
    deadline = time.monotonic() + deadline_seconds
    while True:
        last_try = time.monotonic() >= deadline
        result = condition()
        if result:
            return result
        if last_try:
            raise WaitTimeout(f"waited {deadline_seconds:g} s in vain for {what}")
        time.sleep(poll_seconds)
