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
"""Options of TrustedFilter, group ``[trusted_computing]`` of nova.conf.

The names that begin with ``attestation_`` are those of the filter that was part of Nova until 2018;
they keep their meaning.
"""

import copy

from keystoneauth1 import loading
from oslo_config import cfg

GROUP = cfg.OptGroup(
    "trusted_computing",
    title="Trusted compute pools",
    help="""
How nova-scheduler's TrustedFilter asks the attestation backend for the verdicts about hosts.

A mistake in these options does not keep nova-scheduler from starting: the reason goes to the log,
and flavors that ask for trust find no host until it is mended. Other flavors never notice.
""",
)

_CONNECTION_OPTS: list[cfg.Opt] = [
    cfg.StrOpt(
        "driver",
        default="oat",
        help="""
What kind of service attests the hosts: ``oat`` is the backend of this project, ``pollhosts`` a
server of the OpenAttestation era, ``keylime`` the verifier of Keylime 7. Other packages may bring
more, as entry points ``oat_trusted_filter.attestation_drivers``.
""",
    ),
    cfg.StrOpt(
        "endpoint",
        help="""
URL of the attestation backend, without the version: ``https://attest.example.org:8443``.

Not set: ``https://attestation_server:attestation_port``.
""",
    ),
    cfg.StrOpt(
        "attestation_server",
        help="""
Host name or address of the attestation backend, reached over TLS. Not used if ``endpoint`` is set.
""",
    ),
    cfg.PortOpt(
        "attestation_port",
        default=8443,
        help="""
Port of the attestation backend on ``attestation_server``.
""",
    ),
    cfg.StrOpt(
        "attestation_api_url",
        help="""
Path of the API of an OpenAttestation server, ``/OpenAttestationWebServices/V1.0`` if it is not set;
OpenAttestation 1.6 and newer have ``/AttestationService/resources``. Only for driver ``pollhosts``.
""",
    ),
    cfg.StrOpt(
        "keylime_agents_file",
        help="""
File that says which host an agent of Keylime runs on, ``{"AGENT ID": "HYPERVISOR HOST NAME"}`` in
JSON. An agent it does not name counts for no host. Not set: the id of each agent is the hypervisor
host name. It is read when a connection is set up. Only for driver ``keylime``.
""",
    ),
    cfg.StrOpt(
        "attestation_server_ca_file",
        help="""
File with the CA certificates (PEM) the backend's certificate is checked against.

``oat-manage init`` writes one as ``ca.pem`` into the state folder of the backend. Not set: the
certificates the operating system trusts.
""",
    ),
    cfg.BoolOpt(
        "attestation_insecure_ssl",
        default=False,
        help="""
Do not check the backend's certificate. Whoever is between scheduler and backend can then call any
host trusted; a warning in the log says so. For experiments only.
""",
    ),
    cfg.StrOpt(
        "token_file",
        help="""
File with the token of this scheduler, as ``scheduler.token`` from the state folder of the backend.

It is read when a connection is set up, and again after a failure, so a new token needs no restart.
""",
    ),
    cfg.StrOpt(
        "certfile",
        help="""
File with a client certificate (PEM), for a backend behind a proxy that asks for one. It is shown to
Keystone as well.
""",
    ),
    cfg.StrOpt("keyfile", help="File with its key (PEM). Not set: it is in ``certfile``."),
    cfg.StrOpt(
        "cafile",
        help="""
File with the CA certificates (PEM) Keystone's certificate is checked against, if ``auth_type`` is
set. Not set: the certificates the operating system trusts.
""",
    ),
    cfg.StrOpt(
        "attestation_auth_blob",
        secret=True,
        help="""
Sent to the backend as header ``x-auth-blob``, which is how old attestation servers know a client.
""",
    ),
]

#: Without ``auth_type``; with it, options of these names are those of its plugin.
_LOGIN_OPTS: list[cfg.Opt] = [
    cfg.StrOpt("username", help="Log in to the backend under this name, if there is no token."),
    cfg.StrOpt("password", secret=True, help="Password that goes with ``username``."),
]

_TIME_OPTS: list[cfg.Opt] = [
    cfg.IntOpt(
        "attestation_auth_timeout",
        default=60,
        min=1,
        help="""
Most seconds a verdict may be used after it was asked for.

The backend sets a limit of its own, and the smaller one counts. With a longer time trusted flavors
go on longer when the backend is silent, and a host that was tampered with in that time stays in.
""",
    ),
    cfg.FloatOpt(
        "deadline",
        default=2.0,
        min=0.1,
        max=60.0,
        help="""
Most seconds a request for a trusted host waits for the backend in all, name look-up included.

After a backend that did not answer in this time, the next requests do not wait for it for a while.
Raise it if the backend is far away and the log says ``backend-timeout``.
""",
    ),
    cfg.FloatOpt(
        "refresh_interval",
        default=5.0,
        min=0.0,
        max=3600.0,
        help="""
Seconds for which verdicts are used without asking whether they have changed. A host that loses its
trust may get a server for that long. A shorter time costs a small request each time; nothing is
asked while no trusted flavor is scheduled.
""",
    ),
]

_POLICY_OPTS: list[cfg.Opt] = [
    cfg.StrOpt(
        "region",
        default="",
        help="""
Region of this Nova, as set for the agents of its hosts. Verdicts of other regions do not count, so
hosts of the same name in two regions are not mistaken for each other.
""",
    ),
    cfg.StrOpt(
        "check_rebuild",
        default="untrusted",
        choices=[
            ("off", "a rebuild is not checked"),
            ("untrusted", "a rebuild is refused on a host that is known to be untrusted"),
            ("strict", "a rebuild is refused unless the host is trusted at that moment"),
        ],
        help="""
What counts when a server of a trusted flavor is rebuilt with another image where it is.

Nova turns a server whose rebuild is refused to ERROR. So by default a host whose verdict has merely
lapsed, or a silent backend, does not stop a rebuild.
""",
    ),
    cfg.StrOpt(
        "enforcement",
        default="enforce",
        choices=[
            ("enforce", "hosts that are not as the flavor asks are refused"),
            ("observe", "they are named in the log and let through"),
        ],
        help="""
Set to ``observe`` to see in the log what would be refused, before hosts are enrolled. As long as it
is set, trusted flavors promise nothing.

The metadata ``trust:enforcement`` of a host aggregate, with the same values, holds for its hosts
instead.
""",
    ),
    cfg.BoolOpt(
        "request_filter",
        default=False,
        help="""
Also look at requests before placement is asked, which lets trust be checked where Nova asks no
filter: an availability zone ``nova:HOST`` with a host that is not trusted is refused.

Nova has no interface for that; nova-scheduler does not start if the place it is done at is gone.
""",
    ),
    cfg.BoolOpt(
        "require_trait",
        default=False,
        help="""
With ``request_filter``: let flavors that ask for trust require the trait ``CUSTOM_OAT_TRUSTED`` in
placement, and those of the tags they ask for, without a change of the flavors. Needs a running
oat-enforcer, which sets the traits. Set it when the cloud has more hosts than
``[scheduler] max_placement_results`` (1000).

Hosts of aggregates that only observe are not found any more unless they are trusted.
""",
    ),
]

OPTS: list[cfg.Opt] = [*_CONNECTION_OPTS, *_TIME_OPTS, *_POLICY_OPTS]
#: ``auth_type`` and ``auth_section``: tokens of Keystone instead of ``token_file``.
_AUTH_OPTS: list[cfg.Opt] = loading.get_auth_common_conf_options()


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register the group ``[trusted_computing]`` with a configuration object that was read.

    What the plugin of ``auth_type`` needs is registered when it is loaded.
    """
    # A copy: what is registered is kept in the group, which would otherwise be shared by all
    # configuration objects of the process.
    conf.register_group(copy.deepcopy(GROUP))
    conf.register_opts([*_AUTH_OPTS, *OPTS], group=GROUP.name)
    group = conf[GROUP.name]
    if not group.auth_type and not group.auth_section:
        conf.register_opts(_LOGIN_OPTS, group=GROUP.name)


def list_opts() -> list[tuple[cfg.OptGroup, list[cfg.Opt]]]:
    """All options of the filter, for the sample configuration generator."""
    ours = {opt.dest for opt in _LOGIN_OPTS}
    plugin = [
        opt for opt in loading.get_auth_plugin_conf_options("v3password") if opt.dest not in ours
    ]
    return [(GROUP, [*OPTS, *_LOGIN_OPTS, *_AUTH_OPTS, *plugin])]
