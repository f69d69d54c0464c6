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
"""The audit trail as a chain of rows, and finding what is wrong with one.

Whoever has rows, from the database or from an export, can check them with nothing but this: the
digest of a row is SHA-256 over its canonical JSON (RFC 8785) with the digest of the row before.

What a check finds, by code:

- ``row-changed``: a row does not have the digest of its contents.
- ``row-moved``: a row stands under the number of another one.
- ``row-removed``: rows are missing in between, or at the start and no purge tells of it.
- ``chain-broken``: a row does not follow the one before it.
- ``cut-off``: rows are missing at the end, as the head or a signed head shows.
- ``rewritten``: a row is not the one that was the last when a head was signed.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

#: What the first row is chained to.
BEGINNING = "0" * 64
#: The ``typ`` of a signed head.
HEAD_TYPE = "oat-audit-head+jws"
#: The action of a row that tells which rows were purged.
PURGE = "audit.purge"
# More than so many changed rows are not compared with each other.
_MOST_MOVED = 1000


class Row(NamedTuple):
    """A row of the trail."""

    sequence: int
    """From 1 without gaps."""
    at: int
    """Milliseconds since 1970."""
    actor: str
    action: str
    region: str
    host: str
    details: str
    """Canonical JSON."""
    previous: str
    """Digest of the row before, hexadecimal."""
    digest: str


class Head(NamedTuple):
    """Where a trail ended."""

    sequence: int
    digest: str


class Fault(NamedTuple):
    """Something wrong with a trail."""

    code: str
    sequence: int
    """The first row it is about."""
    message: str


def canonical(value: Any) -> str:
    """RFC 8785, for values without floating-point numbers and keys in ASCII."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )  # fmt: skip


def digest_of(row: Row) -> str:
    """The digest a row has to have, hexadecimal; empty if its details are no JSON."""
    values = row._asdict()
    del values["digest"]
    try:
        values["details"] = json.loads(row.details)
    except ValueError:
        return ""
    return hashlib.sha256(canonical(values).encode()).hexdigest()


def faults(rows: Iterable[Row], heads: Sequence[Head]) -> list[Fault]:
    """What is wrong with a trail.

    :param rows: by number.
    :param heads: what its end was, now and at earlier times; those before the first row tell
        nothing any more.
    """
    found: list[Fault] = []
    wanted = {head.sequence: head.digest for head in heads if head.sequence > 0}
    contradicting = [
        head for head in heads if wanted.get(head.sequence, head.digest) != head.digest
    ]
    changed: list[Row] = []
    purged: dict[int, str] = {}
    first = last = None
    for row in rows:
        first = first or row
        found += _link_faults(last, row)
        if digest_of(row) != row.digest:
            changed.append(row)
        if row.action == PURGE:
            purged |= _purged(row)
        if wanted.pop(row.sequence, row.digest) != row.digest:
            found.append(_rewritten(row.sequence))
        last = row
    found += _change_faults(changed)
    found += [_rewritten(head.sequence) for head in contradicting]
    if first is not None:
        found += _start_faults(first, purged)
    end = 0 if last is None else last.sequence
    missing = max((number for number in wanted if number > end), default=0)
    if missing:
        found.append(Fault("cut-off", end + 1, f"rows {end + 1} to {missing} are missing"))
    return sorted(set(found), key=lambda fault: fault.sequence)


def _link_faults(last: Row | None, row: Row) -> list[Fault]:
    if last is None:
        return []
    if row.sequence != last.sequence + 1:
        gap = f"rows {last.sequence + 1} to {row.sequence - 1}"
        return [Fault("row-removed", last.sequence + 1, f"{gap} are missing")]
    if row.previous != last.digest:
        return [Fault("chain-broken", row.sequence, f"row {row.sequence} does not follow its "
                      "predecessor")]  # fmt: skip
    return []


def _change_faults(changed: Sequence[Row]) -> list[Fault]:
    found = []
    numbers = [row.sequence for row in changed[:_MOST_MOVED]]
    for row in changed:
        original = next(
            (number for number in numbers
             if digest_of(row._replace(sequence=number)) == row.digest), None
        )  # fmt: skip
        if original is None:
            text = f"row {row.sequence} is not what was written"
            found.append(Fault("row-changed", row.sequence, text))
        else:
            text = f"row {row.sequence} was written as row {original}"
            found.append(Fault("row-moved", row.sequence, text))
    return found


def _start_faults(first: Row, purged: dict[int, str]) -> list[Fault]:
    if first.sequence == 1:
        expected = BEGINNING
    elif first.sequence - 1 in purged:
        expected = purged[first.sequence - 1]
    else:
        text = f"rows 1 to {first.sequence - 1} are missing, and no purge tells of it"
        return [Fault("row-removed", 1, text)]
    if first.previous != expected:
        text = f"row {first.sequence} does not follow what was purged"
        return [Fault("chain-broken", first.sequence, text)]
    return []


def _purged(row: Row) -> dict[int, str]:
    try:
        details = json.loads(row.details)
        return {int(details["through"]): str(details["digest"])}
    except (ValueError, KeyError, TypeError):
        return {}


def _rewritten(sequence: int) -> Fault:
    text = f"row {sequence} is not the one that was last when a head was signed"
    return Fault("rewritten", sequence, text)
