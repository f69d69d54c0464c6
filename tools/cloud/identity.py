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
"""What is told to the identity service: the users, their roles, and where the services are."""

from keystoneauth1.identity import V3Password
from keystoneauth1.session import Session

from tools.cloud.access import REGION
from tools.cloud.settings import Site

#: Users of services and their roles in the project "service".
_USERS = {
    "glance": ("service",),
    "nova": ("admin", "service"),
    "oat-attestation-api": ("service",),
    "oat-enforcer": ("service",),
    "placement": ("service",),
}
_CATALOGUE = {
    "glance": ("image", ""),
    "neutron": ("network", ""),
    "nova": ("compute", "/v2.1"),
    "placement": ("placement", ""),
}


def admin_session(auth_url: str, password: str) -> Session:
    """A session of the cloud's administrator."""
    return Session(
        V3Password(
            auth_url,
            username="admin",
            password=password,
            project_name="admin",
            user_domain_id="default",
            project_domain_id="default",
        )
    )


def service_session(auth_url: str, user: str, password: str) -> Session:
    """A session of a service, with the same credentials as in its configuration file."""
    return Session(
        V3Password(
            auth_url,
            username=user,
            password=password,
            project_name="service",
            user_domain_name="Default",
            project_domain_name="Default",
        )
    )


def introduce(site: Site) -> None:
    """Tell a new identity service about all users and services."""
    url = site.auth_url
    session = admin_session(url, site.password)
    found = session.get(f"{url}/roles").json()["roles"]
    roles = {role["name"]: role["id"] for role in found}
    project = _create(session, url, "project", {"name": "service", "domain_id": "default"})
    for name, wanted in _USERS.items():
        user = _create(
            session,
            url,
            "user",
            {"name": name, "password": site.password, "domain_id": "default"},
        )
        for role in wanted:
            session.put(f"{url}/projects/{project}/users/{user}/roles/{roles[role]}")
    for name, (kind, path) in _CATALOGUE.items():
        _offer(session, url, name, kind, site.url(name) + path)


def offer(site: Site, name: str, kind: str, endpoint: str) -> None:
    """Tell the identity service of one more service."""
    session = admin_session(site.auth_url, site.password)
    _offer(session, site.auth_url, name, kind, endpoint)


def _offer(session: Session, url: str, name: str, kind: str, endpoint: str) -> None:
    service = _create(session, url, "service", {"name": name, "type": kind})
    for interface in ("internal", "public"):
        _create(
            session,
            url,
            "endpoint",
            {
                "service_id": service,
                "interface": interface,
                "url": endpoint,
                "region": REGION,
            },
        )


def _create(session: Session, url: str, kind: str, fields: dict[str, str]) -> str:
    made = session.post(f"{url}/{kind}s", json={kind: fields}).json()
    return str(made[kind]["id"])
