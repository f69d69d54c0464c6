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
"""The WSGI application: routes to handlers, errors to problem documents."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import falcon
from oslo_log import log as logging

from oat_trusted_filter.backend.api import problems, queries
from oat_trusted_filter.backend.api.access import Access
from oat_trusted_filter.backend.api.measures import Measures
from oat_trusted_filter.backend.api.oat_compat import callers, errors
from oat_trusted_filter.backend.api.oat_compat.routes import OAT_ROUTES, paths_of, served
from oat_trusted_filter.backend.api.problems import Problem
from oat_trusted_filter.backend.api.proxy import BehindProxies
from oat_trusted_filter.backend.api.request_id import RequestIds
from oat_trusted_filter.backend.api.routes import ROUTES, Route
from oat_trusted_filter.backend.api.service import Service
from oat_trusted_filter.backend.settings import StartError
from oat_trusted_filter.backend.store.credentials import ADMIN, Holder

LOG = logging.getLogger(__name__)


def make_application(
    service: Service, routes: Iterable[Route] = ROUTES
) -> Callable[..., Iterable[bytes]]:
    """The WSGI application for one worker.

    :raises StartError: ``policy-file-invalid`` or ``keystone-unusable``.
    """
    return _make(service, tuple(routes), served(service.settings.oat_compat))


def make_oat_application(service: Service, *, writes: bool) -> Callable[..., Iterable[bytes]]:
    """Nothing but the interface of OpenAttestation.

    :param writes: False: nothing that changes anything.
    :raises StartError: ``policy-file-invalid`` or ``keystone-unusable``.
    """
    routes = served(service.settings.oat_compat)
    return _make(service, (), [route for route in routes if writes or route.role != ADMIN])


def _make(
    service: Service, routes: Iterable[Route], oat_routes: Iterable[Route]
) -> Callable[..., Iterable[bytes]]:
    app = falcon.App(middleware=[RequestIds()])
    app.req_options.strip_url_path_trailing_slash = False
    refusals = _Refusals(service.measures, oat=service.settings.oat_compat is not None)
    app.add_error_handler(Exception, refusals.on_error)
    app.add_error_handler(falcon.HTTPError, refusals.on_http_error)
    resources: dict[str, _Resource] = defaultdict(_Resource)
    access = Access((*ROUTES, *OAT_ROUTES), service.settings.conf)
    for route in routes:
        respond = _responder(service, access, route, service.authenticator.holder)
        setattr(resources[route.path], f"on_{route.method.lower()}", respond)
    for route in oat_routes:
        respond = _responder(service, access, route, callers.OatCallers(service).holder)
        for path in paths_of(route):
            setattr(resources[path], f"on_{route.method.lower()}", respond)
    for path, resource in resources.items():
        app.add_route(path, resource)
    settings = service.settings
    if settings.auth_strategy == "keystone":
        if settings.conf is None:
            raise StartError("keystone-unusable", "[keystone_authtoken]: there are no options")
        # Its libraries take a fifth of the time that the service needs to start.
        from oat_trusted_filter.backend.api.keystone import WithKeystone  # noqa: PLC0415

        return BehindProxies(WithKeystone(app, settings.conf), settings.proxies)
    return BehindProxies(app, settings.proxies)


class _Resource:
    """What falcon looks for the methods of a path in."""


def _responder(
    service: Service, access: Access, route: Route, holder: Callable[[falcon.Request], Holder]
) -> Callable[..., None]:
    limit = None if route.limit is None else service.limits[route.limit]
    seconds = service.measures.seconds.labels(route.name)

    def respond(req: falcon.Request, resp: falcon.Response, **parameters: str) -> None:
        with seconds.time():
            work(req, resp, **parameters)

    def work(req: falcon.Request, resp: falcon.Response, **parameters: str) -> None:
        if limit is not None:
            limit.count(req)
        if route.role is not None:
            req.context.holder = holder(req)
            access.check(req.context.holder, route)
        if route.query is not None:
            req.context.query = queries.read(req, route.query)
        route.handler(service, req, resp, **parameters)

    return respond


class _Refusals:
    """Answers with a problem document whatever went wrong, and counts it."""

    def __init__(self, measures: Measures, *, oat: bool) -> None:
        self._measures = measures
        self._oat = oat

    def on_error(
        self, req: falcon.Request, resp: falcon.Response, error: Exception, params: Any
    ) -> None:
        problem = problems.from_error(error)
        if problem is None:
            LOG.exception("%s: %s failed in an unforeseen way", req.context.request_id, req.method)
            problem = Problem("internal-error", "the service has failed; its log says more")
        elif problem.status >= 500:
            cause = getattr(error, "orig", None) or error
            LOG.error("%s: %s: %s", req.context.request_id, problem.code, cause)
        self._answer(req, resp, problem)

    def on_http_error(
        self, req: falcon.Request, resp: falcon.Response, error: falcon.HTTPError, params: Any
    ) -> None:
        """What falcon refuses by itself."""
        if isinstance(error, falcon.HTTPMethodNotAllowed):
            problem = Problem("method-not-allowed", f"there is no {req.method} for this path")
        elif error.status_code == 404:
            problem = Problem("route-unknown", "there is no such path")
        else:
            problem = Problem(
                "request-invalid", error.description or error.title, status=error.status_code
            )
        if self._oat and errors.answers(req):
            problem = errors.not_served(req, problem)
        problem.headers.update(error.headers or {})
        self._answer(req, resp, problem)

    def _answer(self, req: falcon.Request, resp: falcon.Response, problem: Problem) -> None:
        self._measures.refusals.labels(problem.code).inc()
        resp.status = problem.status
        resp.set_header("Cache-Control", "no-store")
        resp.set_headers(problem.headers)
        if self._oat and errors.answers(req):
            resp.content_type = errors.CONTENT_TYPE
            resp.data = errors.document(problem)
        else:
            resp.content_type = problems.CONTENT_TYPE
            resp.data = problem.document(req.context.request_id)
