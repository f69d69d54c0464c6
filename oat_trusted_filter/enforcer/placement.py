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
"""The few requests to placement the enforcer makes."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from keystoneauth1 import exceptions, loading
from keystoneauth1.adapter import Adapter
from oslo_config import cfg

from oat_trusted_filter.conf.enforcer import PLACEMENT_GROUP
from oat_trusted_filter.enforcer.errors import (
    ConfigurationError,
    GenerationConflict,
    PlacementRefused,
    PlacementUnavailable,
    ProviderGone,
)
from oat_trusted_filter.traits import PREFIX

#: 1.18 brought providers by trait, 1.14 the place in the tree. Nova 18 already asked for more.
_MICROVERSION = "placement 1.18"
_DENIED = frozenset({401, 403})


class Provider(NamedTuple):
    """A resource provider."""

    uuid: str
    name: str
    root: bool
    """Whether it has no parent."""


def load_adapter(conf: cfg.ConfigOpts) -> Adapter:
    """The connection ``[placement]`` describes; nothing is sent yet.

    :raises ConfigurationError: naming what is missing.
    """
    group = PLACEMENT_GROUP.name
    try:
        # Only now, for the option auth_section decides where the others are.
        loading.register_auth_conf_options(conf, group)
        auth = loading.load_auth_from_conf_options(conf, group)
        if auth is None and not conf.placement.endpoint_override:
            raise ConfigurationError(
                "[placement] auth_type is not set; copy the section [placement] of nova.conf"
            )
        session = loading.load_session_from_conf_options(conf, group, auth=auth)
        return loading.load_adapter_from_conf_options(conf, group, session=session, auth=auth)
    except exceptions.ClientException as error:
        raise ConfigurationError(f"[placement] cannot be used: {error}") from error


class Placement:
    """Requests to placement.

    Each raises PlacementUnavailable if there is no point in another one for now, and
    PlacementRefused if only this one was not possible.
    """

    def __init__(self, adapter: Adapter) -> None:
        self._adapter = adapter

    def providers(self) -> list[Provider]:
        """All resource providers."""
        return self._providers("/resource_providers")

    def providers_with(self, trait: str) -> list[Provider]:
        """The resource providers that have the trait themselves."""
        return self._providers(f"/resource_providers?required={trait}")

    def traits_in_use(self) -> list[str]:
        """The traits that begin with our prefix and that some resource provider has."""
        body = self._request("GET", f"/traits?name=startswith:{PREFIX}&associated=true")
        # The underscores of the prefix are wildcards to some databases.
        return [name for name in _names(body) if name.startswith(PREFIX)]

    def traits_of(self, uuid: str) -> tuple[frozenset[str], int]:
        """Traits and generation of a resource provider.

        :raises ProviderGone: there is none.
        """
        body = self._request("GET", f"/resource_providers/{uuid}/traits")
        generation = body.get("resource_provider_generation")
        if type(generation) is not int:
            raise _unreadable("resource_provider_generation", generation)
        return frozenset(_names(body)), generation

    def put_traits(self, uuid: str, generation: int, traits: Iterable[str]) -> None:
        """Replace the traits of a resource provider.

        :raises GenerationConflict: it has changed since its generation was read.
        :raises ProviderGone: there is none any more.
        """
        self._request(
            "PUT",
            f"/resource_providers/{uuid}/traits",
            {"resource_provider_generation": generation, "traits": sorted(traits)},
        )

    def create_trait(self, trait: str) -> None:
        """Make a trait known to placement; no harm if it is."""
        self._request("PUT", f"/traits/{trait}")

    def _providers(self, path: str) -> list[Provider]:
        listed = self._request("GET", path).get("resource_providers")
        if not isinstance(listed, list):
            raise _unreadable("resource_providers", listed)
        return [_provider(item) for item in listed]

    def _request(self, method: str, path: str, json: Any = None) -> Mapping[str, Any]:
        what = f"{method} {path}"
        try:
            response = self._adapter.request(
                path,
                method,
                json=json,
                headers={"OpenStack-API-Version": _MICROVERSION, "Accept": "application/json"},
                raise_exc=False,
            )
        except exceptions.ClientException as error:
            raise PlacementUnavailable(
                "placement-unreachable", f"placement is not reached: {_line(error)}"
            ) from error
        status = response.status_code
        if status >= 300:
            raise _refusal(status, what, f"{what} was answered {status}: {_detail(response)}")
        if not response.content:
            return {}
        body = _json(response)
        if not isinstance(body, Mapping):
            raise _unreadable(what, type(body).__name__)
        return body


def _refusal(status: int, what: str, message: str) -> Exception:
    """The error for a status that is none of success."""
    if status in _DENIED:
        return PlacementUnavailable("placement-denied", message)
    one_provider = "/resource_providers/" in what
    if status == 404 and one_provider:
        return ProviderGone("provider-gone", message)
    if status == 409 and one_provider:
        return GenerationConflict("generation-conflict", message)
    if status == 400:
        return PlacementRefused("placement-refused", message)
    return PlacementUnavailable("placement-failed", message)


def _detail(response: Any) -> str:
    body: Any = _json(response) if response.content else None
    try:
        return _line(body["errors"][0]["detail"])
    except (TypeError, KeyError, IndexError):
        return _line(response.text)


def _json(response: Any) -> Any:
    """The decoded body; None if it is none."""
    try:
        return response.json()
    except ValueError:
        return None


def _line(text: object) -> str:
    return " ".join(str(text).split())[:300] or "nothing said"


def _unreadable(name: str, value: object) -> PlacementUnavailable:
    return PlacementUnavailable(
        "placement-reply-invalid", f"the answer of placement has {name} {value!r}"[:300]
    )


def _names(body: Mapping[str, Any]) -> list[str]:
    names = body.get("traits")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise _unreadable("traits", names)
    return names


def _provider(item: Any) -> Provider:
    if isinstance(item, Mapping):
        uuid, name = item.get("uuid"), item.get("name")
        if isinstance(uuid, str) and isinstance(name, str) and "parent_provider_uuid" in item:
            return Provider(uuid, name, root=item["parent_provider_uuid"] is None)
    raise _unreadable("resource_providers", item)
