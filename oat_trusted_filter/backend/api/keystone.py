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
"""Tokens of keystone, looked at by keystonemiddleware."""

from collections.abc import Callable, Mapping
from typing import Any

import webob
from keystonemiddleware import auth_token
from oslo_config import cfg
from oslo_log import log as logging

from oat_trusted_filter.backend.api.problems import CONTENT_TYPE, Problem
from oat_trusted_filter.backend.api.request_id import HEADER, new_request_id
from oat_trusted_filter.backend.settings import StartError

LOG = logging.getLogger(__name__)

_CHALLENGE = {"WWW-Authenticate": "Keystone"}


class WithKeystone:
    """A WSGI application around another one.

    Only requests that bring a token go through the middleware: agents bring none, and are many.

    :raises StartError: ``keystone-unusable``.
    """

    def __init__(self, application: Callable[..., Any], conf: cfg.ConfigOpts) -> None:
        self._application = application
        try:
            self._middleware = _Middleware(
                application, {"oslo_config_config": conf, "delay_auth_decision": False}
            )
            group = conf.keystone_authtoken
            if not (group.auth_type or group.auth_section):
                raise ValueError("auth_type is not set")
        except Exception as error:
            text = " ".join(str(error).split())
            raise StartError("keystone-unusable", f"[keystone_authtoken]: {text}") from error

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        """Serve one request."""
        if "HTTP_X_AUTH_TOKEN" in environ:
            return self._middleware(environ, start_response)
        return self._application(environ, start_response)


class _Middleware(auth_token.AuthProtocol):  # type: ignore[misc]
    """What the middleware refuses becomes a problem document like any other."""

    def process_request(self, request: Any) -> Any:
        try:
            return super().process_request(request)
        except webob.exc.HTTPUnauthorized:
            return _answer("credential-wrong", "keystone does not know this token", _CHALLENGE)
        except webob.exc.HTTPServiceUnavailable:
            return _answer(
                "keystone-unavailable",
                "keystone, which knows who you are, cannot be asked at this moment",
                {"Retry-After": "5"},
            )


def _answer(code: str, detail: str, headers: Mapping[str, str]) -> webob.Response:
    request_id = new_request_id()
    LOG.info("%s: %s", request_id, code)
    problem = Problem(code, detail)
    return webob.Response(
        body=problem.document(request_id),
        status=problem.status,
        headerlist=[
            ("Content-Type", CONTENT_TYPE),
            ("Cache-Control", "no-store"),
            (HEADER, request_id),
            *headers.items(),
        ],
    )
