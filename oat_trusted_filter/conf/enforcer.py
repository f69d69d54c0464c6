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
"""Options of the enforcer, groups ``[enforcer]`` and ``[placement]``."""

import copy

from keystoneauth1 import loading
from oslo_config import cfg

GROUP = cfg.OptGroup(
    "enforcer",
    title="The enforcer of verdicts outside the scheduler",
    help="How oat-enforcer follows the verdicts and keeps the traits of compute hosts.",
)
PLACEMENT_GROUP = cfg.OptGroup(
    "placement",
    title="Access to the placement service",
    help="""
Credentials and address, as in nova.conf: the section ``[placement]`` can be copied from there.
The user needs the role that may change traits, ``service`` or ``admin``.
""",
)

#: Seconds for one request to placement unless ``[placement] timeout`` says otherwise. Without a
#: limit a connection that hangs would end the enforcer's work for good.
PLACEMENT_TIMEOUT = 30.0

_BACKEND_OPTS: list[cfg.Opt] = [
    cfg.StrOpt(
        "endpoint",
        default="https://127.0.0.1:8443",
        help="""
URL of the attestation backend, without the version: ``https://attest.example.org:8443``.
""",
    ),
    cfg.StrOpt(
        "ca_file",
        help="""
File with the CA certificates (PEM) the backend's certificate is checked against.

``oat-manage init`` writes one as ``ca.pem`` into the state folder of the backend. Not set: the
certificates the operating system trusts.
""",
    ),
    cfg.StrOpt(
        "token_file",
        help="""
File with a token of the role ``service``, made by ``oat-manage token create``.

It is read when a connection is set up, and again after a failure, so a new token needs no restart.
""",
    ),
    cfg.FloatOpt(
        "timeout",
        default=10.0,
        min=0.1,
        max=3600.0,
        help="""
Seconds to wait for an answer of the backend before the attempt counts as failed.
""",
    ),
    cfg.StrOpt(
        "region",
        default="",
        help="""
Region whose verdicts count, as set for the agents of its hosts. Placement belongs to one region, so
each region has enforcers of its own.
""",
    ),
]

_WORK_OPTS: list[cfg.Opt] = [
    cfg.StrOpt(
        "name",
        sample_default="<host name>",
        help="""
Name under which this enforcer reports to the backend. Not set: the name of the machine.
""",
    ),
    cfg.FloatOpt(
        "refresh_interval",
        default=2.0,
        min=0.05,
        max=60.0,
        help="""
Seconds between two questions to the backend whether verdicts have changed. A flip reaches placement
that much later. A question costs a small request; if nothing changed the answer is empty.
""",
    ),
    cfg.FloatOpt(
        "full_interval",
        default=300.0,
        min=1.0,
        help="""
Seconds between two full comparisons with placement. Only these find traits that somebody else set
or took away, and resource providers that were made anew under an old name.

A comparison costs two requests, and one for each trait of ours that is in use.
""",
    ),
    cfg.FloatOpt(
        "outage_grace",
        default=300.0,
        min=0.0,
        help="""
Seconds for which the traits stay when the backend is silent, counted from the end of the last
verdicts' lease, or from the start of the enforcer if it has never reached the backend. In this time
no trait is set. Afterwards all are removed, and come back when the backend does.

The scheduler filter does not wait for that: it refuses a host as soon as there is no valid verdict.
The time matters where the trait is asked for without the filter, by an image for instance. With 0
a restart of the backend takes the traits away from all hosts.
""",
    ),
    cfg.StrOpt(
        "coordination_url",
        secret=True,
        help="""
URL of the coordination service through which several enforcers agree which one acts, in the form of
the tooz library: ``etcd3+http://HOST:2379``, ``redis://HOST:6379``, ``zookeeper://HOST:2181``,
``file:///var/lib/oat/coordination`` for enforcers on one machine.

Not set: this enforcer acts, and there must be no other one for the region.
""",
    ),
]

OPTS: list[cfg.Opt] = [*_BACKEND_OPTS, *_WORK_OPTS]

CLI_OPTS: list[cfg.Opt] = [
    cfg.BoolOpt(
        "once",
        default=False,
        help="""
One full pass, then exit: 0 all is as it should be, 1 something could not be done, 2 done, and
traits were found that the enforcer had not set, 3 an error (configuration, backend or placement not
reached).
""",
    ),
    cfg.BoolOpt(
        "dry-run",
        default=False,
        help="Say in the log what would be done, and change nothing in placement.",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register the groups ``[enforcer]`` and ``[placement]`` with a configuration object.

    What the authentication plugin of ``[placement]`` needs is registered when it is loaded.
    """
    for group, opts in ((GROUP, OPTS), (PLACEMENT_GROUP, _connection_opts())):
        # A copy: what is registered and overridden is kept in the group, which would otherwise be
        # shared by all configuration objects of the process.
        conf.register_group(copy.deepcopy(group))
        conf.register_opts(opts, group=group.name)


def register_cli_opts(conf: cfg.ConfigOpts) -> None:
    """Register the command line switches of oat-enforcer, before the command line is parsed."""
    conf.register_cli_opts(CLI_OPTS)


def list_opts() -> list[tuple[cfg.OptGroup, list[cfg.Opt]]]:
    """All options of the enforcer, for the sample configuration generator."""
    credentials = [
        *loading.get_auth_common_conf_options(),
        *loading.get_auth_plugin_conf_options("v3password"),
    ]
    return [(GROUP, OPTS), (PLACEMENT_GROUP, [*credentials, *_connection_opts()])]


def _connection_opts() -> list[cfg.Opt]:
    session = loading.get_session_conf_options()
    cfg.set_defaults(session, timeout=PLACEMENT_TIMEOUT)
    adapter = loading.get_adapter_conf_options(include_deprecated=False)
    cfg.set_defaults(adapter, service_type="placement", valid_interfaces=["internal", "public"])
    return [*session, *adapter]
