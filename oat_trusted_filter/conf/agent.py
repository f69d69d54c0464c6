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
"""Options of the agent, group ``[agent]``."""

import copy
import re
import socket

from oslo_config import cfg

GROUP = cfg.OptGroup(
    "agent",
    title="The attester on a compute host",
    help="How oat-agent reaches its TPM and the attestation backend, and under which name.",
)

#: Where the kernel shows what it has measured.
IMA_LOG = "/sys/kernel/security/ima/binary_runtime_measurements"

#: The contract of both sides for the name of a host; ".." is refused on top of it.
HOST_PATTERN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._:-]{0,253}[A-Za-z0-9])?")

OPTS: list[cfg.Opt] = [
    cfg.StrOpt(
        "endpoint",
        default="https://127.0.0.1:8443",
        help="""
URL of the attestation backend, without the version: ``https://attest.example.org:8443``.

With another scheme than https nobody vouches for the backend; the agent then says so in its log.
""",
    ),
    cfg.StrOpt(
        "ca_file",
        help="""
File with the CA certificates (PEM) the backend's certificate is checked against.

``oat-manage init`` writes one as ``ca.pem`` into the state folder of the backend; copy it to every
compute host. Not set: the certificates the operating system trusts.
""",
    ),
    cfg.StrOpt(
        "ca_fingerprint",
        default="",
        help="""
SHA-256 of the CA certificate of the backend, in hexadecimal, as ``oat-manage ca fingerprint``
prints it there.

As long as ``ca_file`` does not exist the agent asks the backend for its CA certificate, and keeps
it in ``ca_file`` if it has this fingerprint. To let it ask again, remove the file.
""",
    ),
    cfg.FloatOpt(
        "timeout",
        default=30.0,
        min=1.0,
        max=3600.0,
        help="""
Seconds to wait for an answer of the backend before the attempt counts as failed.
""",
    ),
    cfg.StrOpt(
        "region",
        default="",
        help="""
Region of the cloud this host is in. A host is identified by region and host name together.

Change it only if one backend serves several regions; the host then has to be approved anew.
""",
    ),
    cfg.StrOpt(
        "host",
        sample_default="<hypervisor host name>",
        help="""
Name of this host as Nova knows the hypervisor (``openstack hypervisor list``).

Not set: the name libvirt would report, which is the canonical name of the machine. Change it if
that is another name than Nova shows. After a change the host has to be approved anew.
""",
    ),
    cfg.StrOpt(
        "service_host",
        help="""
Name of the nova-compute service on this host (``[DEFAULT] host`` of nova.conf), recorded beside
the host name. Not set: not recorded.
""",
    ),
    cfg.StrOpt(
        "resource_provider",
        help="""
UUID of the host's resource provider in placement, recorded beside the host name. Not set: not
recorded.
""",
    ),
    cfg.StrOpt(
        "tcti",
        default="device:/dev/tpmrm0",
        help="""
How to reach the TPM, as ``name:configuration`` of the TPM2 software stack.

``/dev/tpmrm0`` goes through the resource manager of the kernel and is right for real hosts.
``swtpm:path=SOCKET`` reaches a software TPM on a Unix socket.
""",
    ),
    cfg.StrOpt(
        "boot_log",
        default="/sys/kernel/security/tpm0/binary_bios_measurements",
        help="""
File with the boot log of the firmware. Under /sys only root may read it.
""",
    ),
    cfg.StrOpt(
        "ima_log",
        default=IMA_LOG,
        help="""
File with the list of files the kernel has measured (IMA), in its binary form. It is sent only if
the backend's policy for this host asks for it, and then only what is new.

A file that does not exist is no error: such a kernel measures nothing. Under /sys only root may
read it.
""",
    ),
    cfg.StrOpt(
        "ek_template",
        default="auto",
        choices=[
            ("auto", "the first of rsa2048, p256, p384 the TPM has a certificate for"),
            ("rsa2048", "RSA with 2048 bits"),
            ("p256", "elliptic curve NIST P-256"),
            ("p384", "elliptic curve NIST P-384"),
        ],
        help="""
Which endorsement key identifies the TPM at enrolment.

Change it if the authority of one certificate is trusted by the backend and that of another is not.
After a change the host has to be approved anew, for the key is its identity.
""",
    ),
    cfg.StrOpt(
        "ek_certificate",
        help="""
File with the certificate of the endorsement key, PEM or DER, and behind it those of the authorities
that signed it, if the backend may not know them. It is used in place of those in the TPM.

Set it if the firmware keeps no certificate in the TPM: some makers hand it out over the network.
""",
    ),
    cfg.StrOpt(
        "ak_algorithm",
        default="ecc",
        choices=[
            ("ecc", "ECDSA on NIST P-256 with SHA-256"),
            ("ecc-p384", "ECDSA on NIST P-384 with SHA-384"),
            ("rsa", "RSASSA (PKCS #1 v1.5) with 2048 bits and SHA-256"),
            ("rsa-3072", "RSASSA with 3072 bits and SHA-384"),
            ("rsapss", "RSAPSS with 2048 bits and SHA-256"),
            ("rsapss-3072", "RSAPSS with 3072 bits and SHA-384"),
        ],
        help="""
Kind of the attestation key that signs the evidence. RSA is for TPMs without elliptic curves: it
takes them longer to make the key and to sign with it. Change it to a longer key if a rule of yours
asks for one and the TPM can make it; the agent then enrols the new key by itself.
""",
    ),
    cfg.StrOpt(
        "endorsement_password",
        default="",
        secret=True,
        help="""
Authorization of the endorsement hierarchy of the TPM, empty unless somebody set one. It is needed
to make the attestation key and to enrol.
""",
    ),
    cfg.StrOpt(
        "endorsement_password_file",
        help="""
File with that password on its first line, instead of ``endorsement_password``: so the configuration
file holds no secret. Let nobody but the user of the agent read it.
""",
    ),
    cfg.StrOpt(
        "owner_password",
        default="",
        secret=True,
        help="""
Authorization of the owner hierarchy of the TPM, empty unless somebody set one. It is needed only
on TPMs that let nobody but the owner read the certificate of the endorsement key, and where the
policy of this host wants its tags in the TPM.
""",
    ),
    cfg.StrOpt(
        "owner_password_file",
        help="""
File with that password on its first line, instead of ``owner_password``.
""",
    ),
    cfg.StrOpt(
        "enrolment_token_file",
        help="""
File with an enrolment token (``oat enrolment-token create``) on its first line. With it the host
takes part without an operator's approval, if its TPM has a certificate the backend believes. A
token is good once; afterwards the file is not needed and may be deleted.
""",
    ),
    cfg.FloatOpt(
        "interval",
        default=60.0,
        min=0.1,
        help="""
Seconds between two rounds as long as the backend has not named an interval, for instance while the
host waits for approval. Afterwards the backend's word counts.
""",
    ),
    cfg.FloatOpt(
        "retry_max",
        default=60.0,
        min=0.1,
        help="""
Most seconds between two attempts after a failed one. The pauses grow from one second up to this,
each drawn at random, so that a thousand agents do not come back at the same moment.
""",
    ),
]

CLI_OPTS: list[cfg.Opt] = [
    cfg.BoolOpt(
        "once",
        default=False,
        help="""
One round, then exit: 0 trusted, 1 untrusted, 2 unknown or waiting for approval, 3 an error
(configuration, TPM, backend not reached).
""",
    ),
    cfg.BoolOpt(
        "check",
        default=False,
        help="""
Say line by line whether TPM, boot log, clock and backend are usable, change nothing, and exit:
0 all usable, 3 something is not.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register the group ``[agent]`` with a configuration object."""
    # A copy: what is registered is kept in the group, which would otherwise be shared by all
    # configuration objects of the process.
    conf.register_group(copy.deepcopy(GROUP))
    conf.register_opts(OPTS, group=GROUP.name)


def register_cli_opts(conf: cfg.ConfigOpts) -> None:
    """Register the command line switches of oat-agent, before the command line is parsed."""
    conf.register_cli_opts(CLI_OPTS)


def list_opts() -> list[tuple[cfg.OptGroup, list[cfg.Opt]]]:
    """All options of the agent, for the sample configuration generator."""
    return [(GROUP, OPTS)]


def host_name(conf: cfg.ConfigOpts) -> str:
    """The name of this host: the option, or else the one libvirt reports to Nova.

    :raises ValueError: the name is not one the backend takes.
    """
    name = conf.agent.host or _canonical_name()
    if not HOST_PATTERN.fullmatch(name) or ".." in name:
        raise ValueError(
            f"[agent] host is {name!r}; a host name is 1 to 255 ASCII letters, digits, dots, "
            "colons, hyphens and underscores, and begins and ends with a letter or digit"
        )
    return name


def _canonical_name() -> str:
    """The machine's name the way libvirt finds it, for that is Nova's hypervisor host name."""
    short = socket.gethostname()
    if "." in short or short.startswith("localhost"):
        return short
    try:
        found = socket.getaddrinfo(short, None, flags=socket.AI_CANONNAME)
    except OSError:
        return short
    canonical = found[0][3]
    if not canonical or canonical.startswith("localhost"):
        return short
    return canonical
