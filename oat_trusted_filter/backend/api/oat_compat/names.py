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
"""Which host a client of OpenAttestation means by a name."""

import threading
from collections import defaultdict
from collections.abc import Iterable

from oat_trusted_filter.backend.api.proxy import address_of
from oat_trusted_filter.backend.store import snapshot
from oat_trusted_filter.backend.store.engine import Store
from oat_trusted_filter.backend.store.snapshot import Level, Outlook


class Names:
    """The hosts of one state of the database."""

    def __init__(self, levels: Iterable[Level]) -> None:
        self._exact: dict[str, list[Level]] = defaultdict(list)
        self._labels: dict[str, list[Level]] = defaultdict(list)
        for known in levels:
            self._exact[known.host].append(known)
            self._labels[known.host.partition(".")[0]].append(known)

    def find(self, name: str, region: str | None = None) -> Level | None:
        """The host of this name, or the only one it can mean; None: there is none.

        One side may know the short name and the other the full one, as long as no other host begins
        with the same label.

        :param region: the only one to look in.
        """
        found = _of(region, self._exact.get(name, ()))
        if not found and address_of(name) is None:
            label, dot, _ = name.partition(".")
            alike = _of(region, self._labels.get(label, ()))
            found = [item for item in alike if ("." in item.host) != bool(dot)]
            found = found if len(alike) == 1 else []
        return found[0] if len(found) == 1 else None


def _of(region: str | None, hosts: Iterable[Level]) -> list[Level]:
    return [item for item in hosts if region in (None, item.region)]


class NameBook:
    """The names in force, read anew when a verdict or a name has changed. Thread-safe."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._known: tuple[tuple[str, int], Names] | None = None

    def current(self, outlook: Outlook) -> Names:
        """The hosts at this state of the count, or a later one."""
        place = (outlook.epoch, outlook.cursor)
        known = self._known
        if known is None or known[0] != place:
            with self._lock:
                known = self._known
                if known is None or known[0] != place:
                    with self._store.read() as connection:
                        known = (place, Names(snapshot.levels(connection)))
                    self._known = known
        return known[1]
