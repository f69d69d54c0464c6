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
"""The program ``oat-agent``: command line, start and stop."""

import importlib.metadata
import os
import sys
from collections.abc import Sequence

from oslo_config import cfg
from oslo_log import log as logging

from oat_trusted_filter.agent.api import BackendApi
from oat_trusted_filter.agent.attester import Attester
from oat_trusted_filter.agent.check import run_checks
from oat_trusted_filter.agent.enrolment import open_tpm
from oat_trusted_filter.agent.errors import AgentError
from oat_trusted_filter.agent.evidence import read_boot_log
from oat_trusted_filter.agent.first_contact import keep_authority
from oat_trusted_filter.agent.loop import Loop, describe
from oat_trusted_filter.agent.settings import Settings
from oat_trusted_filter.client.http import AttestationClient, ClientError
from oat_trusted_filter.cmd.daemon import run_until_stopped
from oat_trusted_filter.conf import agent as agent_conf

LOG = logging.getLogger(__name__)

EXIT_OF_LEVEL = {"trusted": 0, "untrusted": 1, "unknown": 2}
EXIT_ERROR = 3

# A TPM command or a request under way gets this long to end after SIGTERM. The kernel's resource
# manager cleans up after a program that ends in the middle of a command.
_GRACE_SECONDS = 2.0

_DESCRIPTION = """\
Attests this host to the attestation backend: quotes its TPM and hands in the boot log, round after
round, until SIGTERM. Without a switch it runs until it is stopped.
"""
_EPILOG = """\
Exit status of --once: 0 trusted, 1 untrusted, 2 unknown or waiting for approval, 3 an error.
Of --check: 0 everything is usable, 3 something is not. Otherwise: 0 stopped by SIGTERM or SIGINT,
3 the configuration, the TPM or the boot log cannot be used.
"""


def run(argv: Sequence[str]) -> int:
    """Run the agent with these arguments; returns the exit status.

    :raises SystemExit: after ``--help`` and ``--version``, and for switches that do not exist.
    """
    try:
        conf = _configuration(argv)
        settings = Settings.from_conf(conf)
        # What may go wrong in the TPM stack is reported by the agent itself.
        os.environ.setdefault("TSS2_LOG", "all+ERROR" if conf.debug else "all+NONE")
        keep_authority(settings)
        client = AttestationClient(
            settings.endpoint, cacert=settings.ca_file, timeout=settings.timeout
        )
        if conf.check:
            return 0 if run_checks(settings, client, _say) else EXIT_ERROR
        _refuse_to_start_in_vain(settings)
        attester = Attester(settings, BackendApi(client, settings.region, settings.host))
        if conf.once:
            return _once(attester)
        return _run_until_stopped(settings, attester)
    except (AgentError, ClientError) as error:
        return _fail(describe(error))
    except cfg.Error as error:
        return _fail(" ".join(str(error).split()))


def _configuration(argv: Sequence[str]) -> cfg.ConfigOpts:
    conf = cfg.ConfigOpts()
    logging.register_options(conf)
    # What a command prints stays apart from its log.
    conf.set_default("use_stderr", True)
    agent_conf.register_opts(conf)
    agent_conf.register_cli_opts(conf)
    try:
        conf(
            list(argv),
            project="oat",
            prog="oat-agent",
            version=importlib.metadata.version("oat-trusted-filter"),
            description=_DESCRIPTION,
            epilog=_EPILOG,
        )
    except SystemExit as stop:
        # argparse ends with 2 for a mistake, which here means "unknown".
        raise SystemExit(EXIT_ERROR if stop.code else 0) from None
    logging.setup(conf, "oat-agent")
    return conf


def _once(attester: Attester) -> int:
    outcome = attester.round()
    _say(str(outcome))
    return EXIT_OF_LEVEL[outcome.level]


def _refuse_to_start_in_vain(settings: Settings) -> None:
    """What is missing at the start is a mistake of the configuration; later it may come back."""
    read_boot_log(settings.boot_log)
    with open_tpm(settings) as tpm:
        tpm.banks()


def _run_until_stopped(settings: Settings, attester: Attester) -> int:
    LOG.info("attesting host %s to %s", settings.host, settings.endpoint)
    loop = Loop(attester, interval=settings.interval, retry_max=settings.retry_max)
    run_until_stopped(loop.run, grace=_GRACE_SECONDS)
    return 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _fail(text: str) -> int:
    sys.stderr.write(f"oat-agent: {text}\n")
    return EXIT_ERROR
