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
"""Options of the interface of OpenAttestation, group ``[oat_compat]``."""

from oslo_config import cfg

GROUP = cfg.OptGroup(
    "oat_compat",
    title="The interface of OpenAttestation 1.x and 2.x",
    help="For clients that were written for OpenAttestation: old schedulers, oVirt, CommandTool.",
)

OPTS: list[cfg.Opt] = [
    cfg.BoolOpt(
        "enabled",
        default=False,
        help="""
Serve the interface of OpenAttestation beside ``/v1``, at the same address and port and at those of
``tls_ports`` and ``http_port``. Turn it on only for clients that cannot use ``/v1``: most of them
carry no credential, so that all there is to know them by is their address.
""",
    ),
    cfg.ListOpt(
        "pollhosts_from",
        default=[],
        help="""
Addresses or networks, such as ``192.0.2.10,2001:db8::/64``, from which PollHosts is answered
without a credential: those of oVirt engines and old schedulers. Whoever can use such an address
learns whether hosts are trusted, and can do nothing else. All other callers need a token of
``oat-manage token create`` in ``x-auth-blob`` (``attestation_auth_blob`` of the old filter), or a
credential of ``/v1``.

Behind a proxy that is not among ``[api] proxies`` every client has the address of the proxy.
""",
    ),
    cfg.ListOpt(
        "readers_from",
        default=[],
        help="""
Addresses or networks from which everything this interface shows is readable without a credential:
where operators use CommandTool. Besides PollHosts these are hosts, their trust, location and
reports, and the reference values.
""",
    ),
    cfg.BoolOpt(
        "allow_writes",
        default=False,
        help="""
Let administrators change white lists and hosts through this interface: CommandTool, with ``-a``,
``-e`` and ``-d``. They show a credential with the role ``admin``, or have an address in
``writers_from``. Without it nobody can change anything here.
""",
    ),
    cfg.ListOpt(
        "writers_from",
        default=[],
        help="""
Addresses or networks that may read and, with ``allow_writes``, change everything without a
credential. Whoever can use such an address decides which hosts are trusted: leave it empty unless
CommandTool has to write, and then list single addresses nobody else can take.
""",
    ),
    cfg.FloatOpt(
        "client_cache",
        default=60.0,
        min=1.0,
        max=3600.0,
        help="""
Seconds for which clients use an answer to PollHosts, counted from its ``vtime``:
``attestation_auth_timeout`` of the old filter. A verdict that ends sooner than that is answered
with a ``vtime`` that is so much earlier that the client forgets it when it ends.
""",
    ),
    cfg.StrOpt(
        "saml_issuer",
        sample_default="https://<bind_host>:<port>",
        help="""
Who says what stands in SAML assertions: a URL relying parties compare ``Issuer`` with, such as
``https://attest.example.org:8443``. All API hosts of one backend say the same.
""",
    ),
    cfg.ListOpt(
        "tls_ports",
        item_type=cfg.types.Port(min=1),
        default=[],
        help="""
Other ports at ``[api] bind_host`` for clients that have one built in, such as ``8443,8181``: with
TLS, this interface and nothing else. TLS 1.2 is spoken there as well, for such clients may know
nothing newer. They are opened when the service starts.
""",
    ),
    cfg.PortOpt(
        "http_port",
        min=1,
        sample_default=8080,
        help="""
Port for plain HTTP, which the scripts of CommandTool use for SAML assertions: 8080. Only what is
read is served there, whatever ``allow_writes`` says. Not set: none. It is opened when the service
starts.
""",
    ),
    cfg.StrOpt(
        "http_bind_host",
        default="127.0.0.1",
        help="""
Address of ``http_port``. The default serves this machine only. At any other one whoever sits in
between reads all that is said there, tokens among it, and can answer in place of the service.
""",
    ),
]
