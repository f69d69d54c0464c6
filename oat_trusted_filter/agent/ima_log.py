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
"""The IMA log of this host, read in parts: it grows as long as the host runs."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from oat_trusted_filter.tcg.errors import FormatError
from oat_trusted_filter.tcg.ima import MAX_PART_BYTES, ImaEntry, parse_ima_log

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ImaLogPart:
    """A part of the log."""

    offset: int | None
    """Byte it begins at; None: nothing was read, for nobody has said what is wanted."""
    data: bytes = b""
    more: bool = False
    """The log goes on behind it."""


def read_ima_log(path: Path, offset: int | None, most: int = MAX_PART_BYTES) -> ImaLogPart | None:
    """Read a part.

    :param offset: where to begin; None: only look whether there is a log.
    :param most: bytes to read.
    :returns: None if there is no log, or if it may not be read: that is for the policy to judge.
    """
    try:
        if offset is None:
            path.stat()
            return ImaLogPart(None)
        with path.open("rb") as file:
            file.seek(offset)
            # Files under securityfs have no size; one byte more tells whether there is more.
            data = file.read(most + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        LOG.warning("[agent] ima_log %s cannot be read: %s", path, error.strerror)
        return None
    return ImaLogPart(offset, data[:most], len(data) > most)


def read_entries(path: Path) -> Iterator[ImaEntry]:
    """All entries of the log, in the memory of one part.

    :raises FormatError: the log is malformed.
    """
    offset = number = 0
    part: ImaLogPart | None = ImaLogPart(0, more=True)
    while part is not None and part.more:
        part = read_ima_log(path, offset)
        if part is None:
            return
        end = 0
        try:
            for entry in parse_ima_log(part.data, number):
                end, number = entry.end, number + 1
                yield entry
        except FormatError as error:
            # A part is cut anywhere; the next one begins with the entry that was cut.
            if not part.more or not end or error.code != "ima-log-truncated":
                raise
        offset += end
