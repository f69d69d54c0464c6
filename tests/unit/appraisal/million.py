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
"""A host that has used a million files: ``python -m tests.unit.appraisal.million``.

Prints as JSON what the appraisal came to, part by part, and how much memory it took. It is a
process of its own, for the memory of another has room for much.
"""

import hashlib
import json
import resource
import struct
from collections.abc import Iterator
from pathlib import Path

from oat_trusted_filter.backend.appraisal.allow_list import AllowList
from oat_trusted_filter.backend.appraisal.ima import appraise_ima
from oat_trusted_filter.backend.appraisal.records import ImaPart
from oat_trusted_filter.tcg.ima import MAX_PART_BYTES

ENTRIES = 1_000_000
_PROGRAM = hashlib.sha256(b"program").digest()
_FIELDS = struct.pack("<I", 40) + b"sha256:\0" + _PROGRAM


def template(number: int) -> bytes:
    """Template data of the entry about this file."""
    path = b"/usr/lib/file-%07d\0" % number
    return _FIELDS + struct.pack("<I", len(path)) + path


def quoted() -> dict[str, dict[int, bytes]]:
    """PCR 10 after all of them."""
    values = {"sha1": bytes(20), "sha256": bytes(32)}
    for number in range(ENTRIES):
        data = template(number)
        values["sha1"] = hashlib.sha1(values["sha1"] + hashlib.sha1(data).digest()).digest()
        values["sha256"] = hashlib.sha256(
            values["sha256"] + hashlib.sha256(data).digest()
        ).digest()
    return {bank: {10: value} for bank, value in values.items()}


def parts() -> Iterator[ImaPart]:
    """The list as an agent sends it; the entry that is cut comes again with the next part."""
    data, offset = bytearray(), 0
    for number in range(ENTRIES):
        body = template(number)
        entry = struct.pack("<I", 10) + hashlib.sha1(body).digest()
        entry += struct.pack("<I", 6) + b"ima-ng" + struct.pack("<I", len(body)) + body
        if len(data) + len(entry) > MAX_PART_BYTES:
            yield ImaPart(offset, bytes(data) + entry[:10], True)
            offset += len(data)
            data.clear()
        data += entry
    yield ImaPart(offset, bytes(data))


def memory() -> int:
    """What this process has now, kB. The highest it has had is that of its parent, if more."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() // 1024


def main() -> None:
    """Appraise."""
    pcrs = quoted()
    allowed = AllowList("list", [{f"sha256:{_PROGRAM.hex()}": ()}])
    state, complete, used = None, [], []
    for part in parts():
        result = appraise_ima(part, state, 1, allowed, pcrs)
        state = result.state
        assert state is not None  # noqa: S101
        complete.append(state.complete)
        # With the part and all that was made of it.
        used.append(memory())
    assert state is not None  # noqa: S101
    print(
        json.dumps(
            {
                "parts": len(used),
                "entries": state.entries,
                "unknown": state.unknown_count,
                "complete": complete,
                "growth": max(used) - used[0],
                "highest": max(used),
            }
        )
    )


if __name__ == "__main__":
    main()
