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
"""``/WLMService/resources/oem`` and ``…/os``: of whom MLEs are."""

from collections.abc import Callable

import falcon
import msgspec
from sqlalchemy import Connection

from oat_trusted_filter.backend.api.exchange import answer, decoded, read_body
from oat_trusted_filter.backend.api.oat_compat.asked import asked, done
from oat_trusted_filter.backend.api.oat_compat.catalogue import catalogue
from oat_trusted_filter.backend.api.oat_compat.errors import OatError
from oat_trusted_filter.backend.api.service import Service
from oat_trusted_filter.backend.store import audit, oat_mles
from oat_trusted_filter.backend.store.oat_mles import OEM, OS, Maker
from oat_trusted_filter.backend.store.tables import NAME_LENGTH

_TITLE = {OEM: "OEM", OS: "OS"}


class MakerBody(msgspec.Struct, rename="pascal"):
    """An OEM, or an operating system."""

    name: str | None = None
    version: str | None = None
    description: str | None = None


def index_oems(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """The OEMs, kinds of reference sets with PCRs of the firmware among them."""
    shown = [
        {"Name": maker.name, "Description": maker.description} for maker in _all(service, OEM)
    ]
    answer(resp, shown)


def index_systems(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """The operating systems, kinds of reference sets with other PCRs among them."""
    shown = [
        {"Name": maker.name, "Version": maker.version, "Description": maker.description}
        for maker in _all(service, OS)
    ]
    answer(resp, shown)


def create_oem(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """Add an OEM."""
    _write(service, req, _said(req, OEM), _store_new)
    done(resp)


def create_system(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """Add an operating system."""
    _write(service, req, _said(req, OS), _store_new)
    done(resp)


def change_oem(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """Describe an OEM anew."""
    _write(service, req, _said(req, OEM), _store_known)
    done(resp)


def change_system(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """Describe an operating system anew."""
    _write(service, req, _said(req, OS), _store_known)
    done(resp)


def delete_oem(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """Forget an OEM that has no MLEs."""
    _write(service, req, _checked(OEM, asked(req).get("Name"), "", ""), _remove)
    done(resp)


def delete_system(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """Forget an operating system that has no MLEs."""
    query = asked(req)
    _write(service, req, _checked(OS, query.get("Name"), query.get("Version"), ""), _remove)
    done(resp)


def _all(service: Service, kind: str) -> list[Maker]:
    with service.store.read() as connection:
        stored = oat_mles.makers(connection, kind)
        others = catalogue(service, connection).makers(kind)
    named = {(maker.name, maker.version): maker for maker in stored}
    found = {name: named.get(name) or Maker(kind, *name) for name in {*named, *others}}
    return [found[name] for name in sorted(found)]


def _said(req: falcon.Request, kind: str) -> Maker:
    body = decoded(read_body(req), MakerBody)
    return _checked(kind, body.name, body.version, body.description)


def _checked(kind: str, name: str | None, version: str | None, description: str | None) -> Maker:
    if not name or len(name) > NAME_LENGTH:
        raise OatError("AS_MISSING_INPUT", "Missing or invalid input 'Name'.")
    version = "" if kind == OEM else version or ""
    if len(version) > NAME_LENGTH:
        raise OatError("AS_MISSING_INPUT", "Missing or invalid input 'Version'.")
    return Maker(kind, name, version, description or "")


def _write(
    service: Service,
    req: falcon.Request,
    maker: Maker,
    work: Callable[[Connection, Maker], str],
) -> None:
    def transaction(connection: Connection) -> None:
        action = work(connection, maker)
        audit.record(
            connection,
            actor=req.context.holder.name,
            action=f"oat-{maker.kind}.{action}",
            details={"name": maker.name, "version": maker.version},
        )

    service.store.write(transaction)


def _store_new(connection: Connection, maker: Maker) -> str:
    if _stored(connection, maker) is not None:
        raise _error(maker, "ALREADY_EXISTS", "is already configured in the system.")
    oat_mles.put_maker(connection, maker)
    return "create"


def _store_known(connection: Connection, maker: Maker) -> str:
    if _stored(connection, maker) is None:
        raise _error(maker, "DOES_NOT_EXIST", "is not configured in the system.")
    oat_mles.put_maker(connection, maker)
    return "change"


def _remove(connection: Connection, maker: Maker) -> str:
    if _stored(connection, maker) is None:
        raise _error(maker, "DOES_NOT_EXIST", "is not configured in the system.")
    wanted = (maker.kind, maker.name, maker.version)
    if any(mle.of == wanted for mle in oat_mles.all_mles(connection)):
        raise _error(maker, "ASSOCIATION_EXISTS", "is associated with one or more MLEs.")
    oat_mles.remove_maker(connection, *wanted)
    return "delete"


def _stored(connection: Connection, maker: Maker) -> Maker | None:
    return oat_mles.maker(connection, maker.kind, maker.name, maker.version)


def _error(maker: Maker, code: str, what: str) -> OatError:
    title = _TITLE[maker.kind]
    named = f"{maker.name} {maker.version}".strip()
    return OatError(f"WS_{title}_{code}", f"{title} '{named}' {what}")
