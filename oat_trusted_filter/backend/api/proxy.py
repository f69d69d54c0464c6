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
"""What proxies in front of the service say about a request, and who else may not say it.

The client is the last address in ``X-Forwarded-For`` that is not one of our proxies: what stands
before it the client has written itself. (``HTTPProxyToWSGI`` of oslo.middleware takes the first
one, which would let anybody choose an address for himself.)
"""

import ipaddress
import re
from collections.abc import Callable, Iterable
from typing import Any

from oat_trusted_filter.backend.settings import Network

_SAID = (
    "HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_PROTO", "HTTP_X_FORWARDED_HOST",
    "HTTP_X_FORWARDED_PREFIX", "HTTP_FORWARDED", "HTTP_CLIENT_CERT",
)  # fmt: skip
_HOST = re.compile(r"[A-Za-z0-9.-]+(?::[0-9]{1,5})?|\[[0-9a-fA-F:.]+\](?::[0-9]{1,5})?")
_PREFIX = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+")


class BehindProxies:
    """A WSGI application around another one.

    :param proxies: whom to believe.
    """

    def __init__(self, application: Callable[..., Any], proxies: Iterable[Network]) -> None:
        self._application = application
        self._proxies = tuple(proxies)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        """Serve one request."""
        said = {name: environ.pop(name) for name in _SAID if name in environ}
        if said and self._ours(environ.get("REMOTE_ADDR", "")):
            self._believe(environ, said)
        return self._application(environ, start_response)

    def _believe(self, environ: dict[str, Any], said: dict[str, str]) -> None:
        for address in reversed(said.get("HTTP_X_FORWARDED_FOR", "").split(",")):
            text = address.strip().strip("[]")
            if address_of(text) is None:
                break
            environ["REMOTE_ADDR"] = text
            if not self._ours(text):
                break
        scheme = said.get("HTTP_X_FORWARDED_PROTO", "")
        if scheme in ("http", "https"):
            environ["wsgi.url_scheme"] = scheme
        host = said.get("HTTP_X_FORWARDED_HOST", "")
        if _HOST.fullmatch(host):
            environ["HTTP_HOST"] = host
        prefix = said.get("HTTP_X_FORWARDED_PREFIX", "").rstrip("/")
        if _PREFIX.fullmatch(prefix):
            environ["SCRIPT_NAME"] = prefix
            # Some proxies take it off the path, others do not.
            if environ["PATH_INFO"].startswith(f"{prefix}/"):
                environ["PATH_INFO"] = environ["PATH_INFO"].removeprefix(prefix)
        if "HTTP_CLIENT_CERT" in said:
            environ["HTTP_CLIENT_CERT"] = said["HTTP_CLIENT_CERT"]

    def _ours(self, text: str) -> bool:
        address = address_of(text)
        return address is not None and any(address in network for network in self._proxies)


def address_of(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address a text is; None: it is none."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    # An address of IPv4 that a socket of IPv6 has taken.
    return getattr(address, "ipv4_mapped", None) or address
