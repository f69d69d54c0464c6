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
"""Giving a parser input after input, and noticing what it must not do.

It must not raise anything but its own refusals, take longer than 50 ms of processor time for each
64 kB (or part of it), or need more than 256 MiB on top of what the process had.
"""

import contextlib
import hashlib
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tools.fuzzing.targets import TARGETS, Target

#: Inputs that stay tested, a folder for each target: those that were at fault, and for each refusal
#: one that leads to it.
FOUND = Path(__file__).resolve().parents[2] / "tests" / "data" / "fuzz"

SECONDS_A_BLOCK = 0.05
_BLOCK = 64 * 1024
_MEMORY = 256 * 1024 * 1024
_LARGEST = 256 * 1024
_TRIES = 5
_BATCH = 200
# Where limits and signs of integers are.
_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63, 2**64 - 1)


class TooSlow(Exception):
    """A parser took too long for an input of this size."""


@contextlib.contextmanager
def bounded_memory() -> Iterator[None]:
    """Inside, more than ``_MEMORY`` on top of what there is raises MemoryError."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + _MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def drive(target: Target, data: bytes) -> None:
    """Give it these bytes.

    :raises TooSlow: as its name says, at each of several tries: other processes disturb.
    :raises Exception: whatever the parser raises that is no refusal.
    """
    allowed = SECONDS_A_BLOCK * max(1, -(-len(data) // _BLOCK))
    # The time of day first: it costs less to ask for, and is never less than the processor's.
    if _timed(target, data, time.perf_counter) <= allowed:
        return
    fastest = min(_timed(target, data, time.process_time) for _ in range(_TRIES))
    if fastest > allowed:
        raise TooSlow(f"{fastest:.3f} s for {len(data)} bytes, at most {allowed:.3f}")


def _timed(target: Target, data: bytes, clock: Callable[[], float]) -> float:
    started = clock()
    with contextlib.suppress(*target.refusals):
        target.run(data)
    return clock() - started


@st.composite
def inputs(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:
    """Bytes made of good ones: changed, cut, doubled, moved, joined with others; and any bytes."""
    if draw(st.integers(0, 19)) == 0:
        return draw(st.binary(max_size=2000))
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, 4))):
        first = draw(st.integers(0, len(data)))
        last = draw(st.integers(first, min(len(data), first + 64)))
        kind = draw(st.integers(0, 5))
        if kind == 0:
            data[first:last] = draw(st.binary(max_size=64))
        elif kind == 1:
            size = draw(st.sampled_from([1, 2, 4, 8]))
            number = draw(st.sampled_from(_NUMBERS)) % 256**size
            order = draw(st.sampled_from(["little", "big"]))
            data[first : first + size] = number.to_bytes(size, order)
        elif kind == 2:
            del data[first : draw(st.integers(first, len(data)))]
        elif kind == 3:
            part = data[first : draw(st.integers(first, len(data)))]
            data[first:first] = part * draw(st.integers(1, 40))
        elif kind == 4:
            data[first:] = draw(st.sampled_from(seeds))[first:]
        else:
            data += data[first:last]
    return bytes(data[:_LARGEST])


def fuzz(name: str, seconds: float) -> tuple[int, Path | None]:
    """Drive a parser with hypothesis for so long.

    :returns: how many inputs there were, and the file of the first, made as small as can be, that
        was at fault.
    """
    target = TARGETS[name]
    seeds = tuple(target.seeds())
    until = time.monotonic() + seconds
    count = 0
    at_fault = b""

    @settings(
        max_examples=_BATCH,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(inputs(seeds))
    def batch(data: bytes) -> None:
        nonlocal count, at_fault
        count += 1
        if time.monotonic() > until:
            return
        try:
            drive(target, data)
        except BaseException:
            at_fault = data
            raise

    with bounded_memory():
        while time.monotonic() < until:
            try:
                batch()
            except Exception:
                return count, keep(name, at_fault)
    return count, None


def keep(name: str, data: bytes) -> Path:
    """Put an input where the tests will find it."""
    path = FOUND / name / f"{hashlib.sha256(data).hexdigest()[:16]}.bin"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path
