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
"""Options of the backend, groups ``[api]``, ``[attestation]`` and ``[database]``."""

import copy

from oslo_config import cfg

from oat_trusted_filter.conf import oat_compat

API_GROUP = cfg.OptGroup(
    "api",
    title="The HTTP service",
    help="Where oat-attestation-api listens, and how it knows its callers.",
)
ATTESTATION_GROUP = cfg.OptGroup(
    "attestation",
    title="Attestation",
    help="Whom the backend believes, and for how long.",
)
DATABASE_GROUP = cfg.OptGroup("database", title="The database")
AUDIT_GROUP = cfg.OptGroup(
    "audit",
    title="Export of the audit trail",
    help="Where rows and signed heads go, so that nobody can change or cut off the trail unseen.",
)
HISTORY_GROUP = cfg.OptGroup("history", title="How long reports of verdicts are kept")

API_OPTS: list[cfg.Opt] = [
    cfg.StrOpt(
        "bind_host",
        default="127.0.0.1",
        help="""
Address to listen on. The default serves this machine only, to try things out; set it to
``0.0.0.0``, ``::`` or one address so that compute hosts and schedulers can reach the backend.
""",
    ),
    cfg.PortOpt(
        "port",
        default=8443,
        min=1,
        help="""
TCP port to listen on. Agents, schedulers and operators have it in their configuration.
""",
    ),
    cfg.StrOpt(
        "tls_certificate",
        sample_default="<state_dir>/server.pem",
        help="""
File with the server certificate (PEM), followed by those of intermediate authorities.

Not set: the one ``oat-manage init`` made. With one of your own, agents and schedulers need the CA
certificate that goes with it. A new file is read when the service is started again.
""",
    ),
    cfg.StrOpt(
        "tls_key",
        sample_default="<state_dir>/server.key",
        help="""
File with the private key (PEM, without password) of ``tls_certificate``.
""",
    ),
    cfg.IntOpt(
        "workers",
        default=2,
        min=1,
        max=256,
        help="""
Number of worker processes. One serves some hundred attestation rounds a second; set it to the
number of processors if more than ten thousand hosts attest each minute.
""",
    ),
    cfg.StrOpt(
        "auth_strategy",
        default="http_basic",
        choices=[
            ("http_basic", "user names and passwords for people"),
            ("keystone", "tokens of keystone, see [keystone_authtoken]"),
            ("noauth", "whoever reaches the port may do everything"),
        ],
        help="""
How people are told from strangers. Programs may show a token of ``oat-manage token create`` with
either of the first two. ``noauth`` is refused unless ``bind_host`` is a loopback address. Agents
need no credential in any case: their TPM signs what they send.
""",
    ),
    cfg.ListOpt(
        "proxies",
        default=[],
        help="""
Addresses or networks of the proxies and load balancers in front of this service, such as
``192.0.2.10,2001:db8::/64``. What these say in ``X-Forwarded-For``, ``X-Forwarded-Proto``,
``X-Forwarded-Host``, ``X-Forwarded-Prefix`` and ``Client-Cert`` is believed; from any other address
these headers are dropped. A proxy that is not listed looks like one client that sends everything,
and soon comes to its limits.
""",
    ),
    cfg.MultiStrOpt(
        "client_certificate",
        default=[],
        help="""
A role (``service``, ``reader`` or ``admin``) and the name in a client certificate that has it, such
as ``service DNS:nova-1.example.org``. May be given several times. The name is ``DNS:``, ``URI:`` or
``email:`` and an alternative name of the certificate, or its whole subject as in RFC 4514
(``CN=nova-1,O=Example``).

The certificate is one that a TLS proxy among ``proxies`` has checked and hands on in the header
``Client-Cert`` (RFC 9440, or PEM with the escapes of a URL).
""",
    ),
    cfg.IntOpt(
        "challenges_per_minute",
        default=1200,
        min=0,
        help="""
Challenges an address may ask for in a minute, from each worker process; more are answered with 429
and Retry-After. Raise it if more hosts than that reach the service from one address, through NAT.
0 is no limit. This machine's own addresses have none.
""",
    ),
    cfg.IntOpt(
        "enrolments_per_minute",
        default=120,
        min=0,
        help="""
Enrolments an address may begin in a minute, from each worker process. See
``challenges_per_minute``.
""",
    ),
]

ATTESTATION_OPTS: list[cfg.Opt] = [
    cfg.StrOpt(
        "state_dir",
        default="/var/lib/oat",
        help="""
Folder for what ``oat-manage init`` makes: authority, certificate, key of the challenges, first
credentials; and for the database, unless ``[database] connection`` says otherwise. It has to be
writable for the user the service runs as, and holds secrets.
""",
    ),
    cfg.StrOpt(
        "ek_ca_dir",
        help="""
Folder with the CA certificates of the vendors of your TPMs, roots and intermediates, one or more
to a file: ``*.pem``, ``*.crt``, ``*.cer`` or ``*.der``.

A TPM whose certificate leads to none of these cannot enrol; one that has no certificate at all can,
and waits for an operator. Not set: no certificate is believed. The folder is read when the service
starts.
""",
    ),
    cfg.StrOpt(
        "ek_crl_dir",
        help="""
Folder with revocation lists (CRLs, PEM or DER) of the vendors of your TPMs and nothing else. Not
set: no list is looked at. A changed folder is read again at the next enrolment.

A TPM whose certificate is on a list cannot enrol. Keep the lists up to date: once all lists of an
authority are past their next update, no TPM with a certificate of that authority can enrol. An
authority without a list is not asked. Hosts that take part already are not touched.
""",
    ),
    cfg.BoolOpt(
        "allow_software_tpm",
        default=False,
        help="""
Let software TPMs enrol. They prove nothing about a machine, so this is for tests and
demonstrations; the record of such a host and every verdict about it say ``software_tpm``.
""",
    ),
    cfg.FloatOpt(
        "interval",
        default=60.0,
        min=0.1,
        max=3600.0,
        help="""
Seconds between two rounds of an agent. A shorter interval finds a changed host sooner and costs
more; agents learn a new value in their next round.
""",
    ),
    cfg.FloatOpt(
        "verdict_lifetime",
        default=300.0,
        min=1.0,
        max=86400.0,
        help="""
Seconds after which a verdict that was not renewed turns into ``unknown``, counted from the moment
the challenge was issued. Keep it at several times ``interval``, or a single lost round costs a
host its trust.
""",
    ),
    cfg.FloatOpt(
        "challenge_lifetime",
        default=60.0,
        min=1.0,
        max=3600.0,
        help="""
Seconds in which a challenge has to be answered. Slow TPMs need some; a longer time only lets
evidence be older when it arrives.
""",
    ),
    cfg.FloatOpt(
        "expiry_warning",
        default=14 * 86400.0,
        min=0.0,
        help="""
Seconds before the end of a reference set when ``oat reference list`` shows it as expiring and the
verdicts that rest on it carry a warning; the same for tags, and for the authorities of
``ek_ca_dir`` in ``oat ek-authority list`` and the log. A longer time leaves more room to act.
""",
    ),
    cfg.FloatOpt(
        "verdict_lease",
        default=30.0,
        min=1.0,
        max=3600.0,
        help="""
Seconds a relying party such as nova-scheduler may use the verdicts it was told without asking
again. A longer lease bridges a longer pause of the backend, and lets a host that was found
untrusted in that pause stay in use for that long.
""",
    ),
]

DATABASE_OPTS: list[cfg.Opt] = [
    cfg.StrOpt(
        "connection",
        secret=True,
        sample_default="sqlite:///<state_dir>/oat.sqlite",
        help="""
SQLAlchemy URL of the database. Not set: a SQLite file in ``state_dir``, which is enough for one
machine. Run ``oat-manage db sync`` after a change.
""",
    ),
]

AUDIT_OPTS: list[cfg.Opt] = [
    cfg.StrOpt(
        "file",
        help="""
File to which the audit trail is appended, a JSON object a line: rows, and after each batch a signed
head. Not set: no file. ``oat audit verify --against FILE`` compares.
""",
    ),
    cfg.StrOpt(
        "syslog",
        regex=r"/.+|.+:[0-9]{1,5}",
        sample_default="/dev/log",
        help="""
Where syslog takes the same lines: a socket such as ``/dev/log``, or ``HOST:PORT`` by UDP, which
does not tell whether anything arrives. Not set: nowhere.
""",
    ),
    cfg.StrOpt(
        "webhook",
        regex=r"https?://.+",
        secret=True,
        help="""
URL to which batches of rows with a signed head are posted as JSON. A receiver that is slow or down
gets them later; it may get a row twice. Every API host posts. Not set: none.
""",
    ),
    cfg.FloatOpt(
        "interval",
        default=10.0,
        min=0.1,
        max=3600.0,
        help="""
Seconds between two exports. A shorter interval leaves less that could be cut off unseen.
""",
    ),
]

HISTORY_OPTS: list[cfg.Opt] = [
    cfg.FloatOpt(
        "days",
        default=365.0,
        min=0.01,
        help="""
Days after which the report of a change of verdict is deleted, unless a later one rests on it. The
last report of a host stays.
""",
    ),
    cfg.IntOpt(
        "reports",
        default=1000,
        min=1,
        help="""
Reports that are kept of a host at most; each takes some kilobytes.
""",
    ),
]

_GROUPS = (
    (API_GROUP, API_OPTS),
    (ATTESTATION_GROUP, ATTESTATION_OPTS),
    (DATABASE_GROUP, DATABASE_OPTS),
    (AUDIT_GROUP, AUDIT_OPTS),
    (HISTORY_GROUP, HISTORY_OPTS),
    (oat_compat.GROUP, oat_compat.OPTS),
)


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register the groups of the backend with a configuration object."""
    for group, opts in _GROUPS:
        # A copy: what is registered and overridden is kept in the group, which would otherwise be
        # shared by all configuration objects of the process.
        conf.register_group(copy.deepcopy(group))
        conf.register_opts(opts, group=group.name)


def list_opts() -> list[tuple[cfg.OptGroup, list[cfg.Opt]]]:
    """All options of the backend, for the sample configuration generator."""
    return list(_GROUPS)
