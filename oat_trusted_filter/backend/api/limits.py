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
"""How much one address may ask for that costs a stranger nothing.

Each worker counts for itself and in memory: a flood must not write anything. What an address has
left comes back evenly over a minute. The addresses that are remembered are bounded; a flood from
more addresses than that makes the service forget those that were idle for longest.
"""

import ipaddress
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

import falcon

from oat_trusted_filter.backend.api.problems import Problem
from oat_trusted_filter.backend.settings import is_loopback

_MINUTE = 60.0
#: Addresses that are remembered, some 200 bytes each.
MOST_ADDRESSES = 20_000
_IPV6_BITS = 64


class Limit:
    """So many requests a minute from each address. Thread-safe.

    :param most: 0 is no limit.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._lock = threading.Lock()
        self._used: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def count(self, req: falcon.Request) -> None:
        """Count a request.

        :raises Problem: ``too-many-requests``.
        """
        address = req.env.get("REMOTE_ADDR", "")
        if not self._most or is_loopback(address):
            return
        wait = self._wait(_counted(address))
        if wait > 0:
            raise Problem(
                "too-many-requests",
                f"{address} asks more than {self._most} times a minute",
                headers={"Retry-After": str(math.ceil(wait))},
            )

    def _wait(self, address: str) -> float:
        """Seconds until this address may ask again; counted if it may now."""
        rate = self._most / _MINUTE
        with self._lock:
            now = self._clock()
            used, moment = self._used.pop(address, (0.0, now))
            used = max(used - (now - moment) * rate, 0.0)
            over = used + 1 - self._most
            self._used[address] = (used if over > 0 else used + 1, now)
            if len(self._used) > MOST_ADDRESSES:
                self._used.popitem(last=False)
            return over / rate


def _counted(address: str) -> str:
    """What stands for a client: of IPv6 the network, all addresses of which are his."""
    try:
        return str(ipaddress.IPv6Network((address, _IPV6_BITS), strict=False))
    except ValueError:
        return address
