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
"""Files that are known to be good, as the IMA log names them."""

import hashlib
import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from oat_trusted_filter.backend.appraisal.document import DocumentError, check_name
from oat_trusted_filter.backend.appraisal.patterns import PatternError, Patterns
from oat_trusted_filter.backend.appraisal.records import SeenFile
from oat_trusted_filter.backend.appraisal.rule_records import ImaPolicy, ReferenceSet
from oat_trusted_filter.tcg.file_signature import FileKeys

LOG = logging.getLogger(__name__)

#: Reference sets of this kind are allow lists.
IMA_KIND = "ima"

#: Digests a file may be known by. One can make two files of one SHA-1 digest, a good one to get
#: onto the list and another one to use.
FILE_DIGEST = re.compile(
    r"sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}", re.ASCII
)
MOST_FILES = 200_000
_LONGEST_PATH = 4096


class AllowList:
    """All that makes a file good.

    :param name: changes whenever the rest does.
    :param lists: ``{"sha256:…": paths}``; without paths the file may have any.
    :param exclude: regular expressions; what has a path that one matches as a whole may be
        anything.
    :param keys: files they signed are good.
    """

    def __init__(
        self,
        name: str,
        lists: Sequence[Mapping[str, tuple[str, ...]]],
        exclude: Iterable[str] = (),
        keys: FileKeys | None = None,
    ) -> None:
        self.name = name
        self.keys = keys or FileKeys()
        self._lists = tuple(lists)
        patterns = tuple(exclude)
        self._exclude = Patterns(patterns) if patterns else None

    def knows(self, path: str, digest: str) -> bool:
        """Whether a file is good whoever signed it."""
        for known in self._lists:
            paths = known.get(digest)
            if paths is not None and (not paths or path in paths):
                return True
        return self.excludes(path)

    def excludes(self, path: str) -> bool:
        """Whether a file may be anything."""
        return self._exclude is not None and self._exclude.match(path)


def valid_lists(references: Iterable[ReferenceSet], now: datetime) -> tuple[ReferenceSet, ...]:
    """The allow lists that count at this moment."""
    return tuple(
        reference
        for reference in references
        if reference.kind == IMA_KIND and reference.valid_at(now)
    )


def make_allow_list(policy: ImaPolicy, lists: Sequence[ReferenceSet]) -> AllowList:
    """The allow list of a policy and the reference sets that count. It takes a while: keep it."""
    content = [
        [list(policy.exclude), list(policy.keys)],
        *sorted(sorted(reference.files.items()) for reference in lists),
    ]
    name = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    files, keys = [reference.files for reference in lists], FileKeys(policy.keys)
    try:
        return AllowList(name, files, policy.exclude, keys)
    except PatternError as error:
        # An earlier release took it; what it excluded then has to be known now.
        LOG.warning("a policy excludes files by a pattern that is none: %s", error)
        return AllowList(name, files, (), keys)


def derive_allow_list(name: str, files: Iterable[SeenFile]) -> ReferenceSet:
    """Take all these files as good.

    What was written while it was measured has no digest, so it cannot be taken.

    :raises DocumentError: ``reference-empty``, ``reference-invalid`` (too many).
    """
    check_name(name, "name")
    found: dict[str, set[str]] = {}
    for file in files:
        if FILE_DIGEST.fullmatch(file.digest):
            found.setdefault(file.digest, set()).add(file.path)
    if not found:
        raise DocumentError(
            "reference-empty",
            "the hosts have used no file with a SHA-256, SHA-384 or SHA-512 digest; a kernel "
            "takes SHA-256 if it is booted with ima_hash=sha256",
            "",
        )
    listed = {digest: sorted(paths) for digest, paths in sorted(found.items())}
    return ReferenceSet(name, IMA_KIND, {}, files=files_of(listed))


def files_of(value: object) -> dict[str, tuple[str, ...]]:
    """The field ``files`` of a document.

    :raises DocumentError: ``reference-invalid``.
    """
    if not isinstance(value, dict) or not 0 < len(value) <= MOST_FILES:
        raise DocumentError(
            "reference-invalid", f"files is not an object with 1 to {MOST_FILES} digests",
            "files",
        )
    found = {}
    for digest, paths in value.items():
        if not isinstance(digest, str) or not FILE_DIGEST.fullmatch(digest):
            raise DocumentError(
                "reference-invalid",
                f"files: {str(digest)[:80]!r} is not sha256:, sha384: or sha512: and a digest in "
                "lower-case hexadecimal digits",
                "files",
            )
        if not isinstance(paths, list) or not all(
            isinstance(path, str) and 0 < len(path) <= _LONGEST_PATH for path in paths
        ):
            field = f"files.{digest}"
            raise DocumentError("reference-invalid", f"{field} is not a list of paths", field)
        found[digest] = tuple(paths)
    return found
