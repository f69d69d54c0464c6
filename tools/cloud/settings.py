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
"""The configuration files of the OpenStack services."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tools.cloud.access import REGION
from tools.cloud.infrastructure import Infrastructure
from tools.cloud.release import LAYER
from tools.cloud.service import ADDRESS

#: ``{group: {option: value}}``; an option whose value is a list is repeated.
Config = Mapping[str, Mapping[str, object]]

FILTER_MODULE = "oat_trusted_filter.scheduler.trusted_filter"
_FILTERS = (
    "ComputeFilter",
    "ComputeCapabilitiesFilter",
    "ImagePropertiesFilter",
    "ServerGroupAntiAffinityFilter",
    "TrustedFilter",
)


def write(path: Path, config: Config) -> None:
    """Write a configuration file, which only its owner may read."""
    lines = []
    for group, options in config.items():
        lines.append(f"[{group}]")
        for name, value in options.items():
            values = value if isinstance(value, list) else [value]
            lines += [f"{name} = {item}" for item in values]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(0o600)
    path.write_text("\n".join([*lines, ""]))


@dataclass(frozen=True, slots=True)
class Site:
    """What all services of a cloud have in common.

    :param ports: of the APIs, by name of the service.
    :param password: of every user.
    """

    folder: Path
    infrastructure: Infrastructure
    ports: Mapping[str, int]
    password: str

    def url(self, service: str) -> str:
        """Address of an API."""
        return f"http://{ADDRESS}:{self.ports[service]}"

    @property
    def auth_url(self) -> str:
        """Address of the identity service."""
        return f"{self.url('keystone')}/v3"

    def login(self, user: str) -> dict[str, object]:
        """How a service makes itself known to others."""
        return {
            "auth_type": "password",
            "auth_url": self.auth_url,
            "username": user,
            "password": self.password,
            "project_name": "service",
            "user_domain_name": "Default",
            "project_domain_name": "Default",
            "region_name": REGION,
        }

    def checks_tokens(self, user: str) -> dict[str, object]:
        """How a service has the tokens of its callers checked."""
        return {
            **self.login(user),
            "www_authenticate_uri": self.auth_url,
            "memcached_servers": self.infrastructure.cache_server,
            "service_token_roles_required": True,
        }


def keystone(site: Site) -> Config:
    """``keystone.conf``."""
    folder = site.folder / "etc" / "keystone"
    return {
        "database": {"connection": site.infrastructure.database_url("keystone")},
        "token": {"provider": "fernet"},
        "fernet_tokens": {"key_repository": folder / "fernet-keys"},
    }


def placement(site: Site) -> Config:
    """``placement.conf``."""
    return {
        "api": {"auth_strategy": "keystone"},
        "placement_database": {"connection": site.infrastructure.database_url("placement")},
        "keystone_authtoken": site.checks_tokens("placement"),
    }


def glance(site: Site) -> Config:
    """``glance-api.conf``."""
    stores = site.folder / "glance"
    return {
        "DEFAULT": {
            "enabled_backends": "local:file",
            "worker_self_reference_url": site.url("glance"),
        },
        "database": {"connection": site.infrastructure.database_url("glance")},
        "glance_store": {"default_backend": "local"},
        "local": {"filesystem_store_datadir": stores / "images"},
        "os_glance_staging_store": {"filesystem_store_datadir": stores / "staging"},
        "os_glance_tasks_store": {"filesystem_store_datadir": stores / "tasks"},
        "paste_deploy": {
            "flavor": "keystone",
            "config_file": LAYER / "etc" / "glance" / "glance-api-paste.ini",
        },
        "keystone_authtoken": site.checks_tokens("glance"),
    }


def nova_controller(site: Site, trusted_computing: Mapping[str, object]) -> Config:
    """``nova.conf`` of API, conductor and scheduler.

    :param trusted_computing: the options of TrustedFilter.
    """
    return {
        **_nova(site, "controller"),
        "wsgi": {"api_paste_config": site.folder / "etc" / "nova" / "controller" / "api-paste.ini"},
        "api_database": {"connection": site.infrastructure.database_url("nova_api")},
        "database": {"connection": site.infrastructure.database_url("nova_cell1")},
        "conductor": {"workers": 1},
        "scheduler": {"workers": 2, "discover_hosts_in_cells_interval": 2},
        "filter_scheduler": {
            "available_filters": [
                "nova.scheduler.filters.all_filters",
                f"{FILTER_MODULE}.TrustedFilter",
            ],
            "enabled_filters": ",".join(_FILTERS),
            "track_instance_changes": False,
        },
        "trusted_computing": trusted_computing,
    }


def nova_compute(site: Site, host: str) -> Config:
    """``nova.conf`` of a compute host."""
    return _nova(site, host)


def _nova(site: Site, host: str) -> Config:
    state = site.folder / "nova" / host
    login = site.login("nova")
    return {
        "DEFAULT": {
            "transport_url": site.infrastructure.queue_url,
            "my_ip": ADDRESS,
            "host": host,
            "state_path": state,
            "compute_driver": "fake.FakeDriver",
            "osapi_compute_listen": ADDRESS,
            "osapi_compute_listen_port": site.ports["nova"],
            "osapi_compute_workers": 1,
            "report_interval": 5,
            "service_down_time": 30,
            # The first report of a compute host to placement would otherwise wait for a minute.
            "periodic_fuzzy_delay": 0,
            "graceful_shutdown_timeout": 2,
            "debug": True,
            "default_log_levels": "amqp=WARN,oslo_messaging=WARN,keystonemiddleware=WARN,"
            "keystoneauth=WARN,urllib3=WARN,stevedore=WARN,sqlalchemy=WARN,oslo_service=WARN,"
            "oslo_concurrency=WARN,oslo_policy=WARN,oslo_db=WARN,dogpile=WARN,taskflow=WARN,"
            "nova.virt.fake=INFO",
        },
        "oslo_concurrency": {"lock_path": state / "lock"},
        "keystone_authtoken": site.checks_tokens("nova"),
        "keystone": login,
        "placement": login,
        "neutron": {**login, "endpoint_override": site.url("neutron")},
        "glance": {**login, "api_servers": site.url("glance")},
        "cinder": login,
        "service_user": {**login, "send_service_user_token": True},
        # The quotas of a user are counted in cinder and neutron, which are not here.
        "quota": {"driver": "nova.quota.NoopQuotaDriver"},
        "vnc": {"enabled": False},
        "cache": {
            "enabled": True,
            "backend": "dogpile.cache.memcached",
            "memcache_servers": site.infrastructure.cache_server,
        },
    }
