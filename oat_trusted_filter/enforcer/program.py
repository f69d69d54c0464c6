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
"""The program ``oat-enforcer``: command line, start and stop."""

import importlib.metadata
import sys
from collections.abc import Sequence

from oslo_config import cfg
from oslo_log import log as logging

from oat_trusted_filter.client.http import ClientError
from oat_trusted_filter.cmd.daemon import run_until_stopped
from oat_trusted_filter.conf import enforcer as enforcer_conf
from oat_trusted_filter.enforcer.action import Counts
from oat_trusted_filter.enforcer.election import Alone, CoordinatedElection, Election
from oat_trusted_filter.enforcer.errors import EnforcerError, describe
from oat_trusted_filter.enforcer.keeper import TraitKeeper
from oat_trusted_filter.enforcer.loop import Enforcer
from oat_trusted_filter.enforcer.placement import Placement, load_adapter
from oat_trusted_filter.enforcer.report import Reporter
from oat_trusted_filter.enforcer.settings import Settings
from oat_trusted_filter.enforcer.standing import Follower

LOG = logging.getLogger(__name__)

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_INCIDENT = 2
EXIT_ERROR = 3

# A request under way gets this long to end after SIGTERM.
_GRACE_SECONDS = 5.0

_DESCRIPTION = """\
Keeps the traits CUSTOM_OAT_TRUSTED and CUSTOM_OAT_TAG_<NAME>_<VALUE> of compute hosts in placement
as the verdicts of the attestation backend say. Without a switch it runs until SIGTERM.
"""
_EPILOG = """\
Exit status of --once: 0 all is as it should be or another enforcer acts, 1 something could not be
done, 2 done, and traits were found that no enforcer had set, 3 an error. Otherwise: 0 stopped by
SIGTERM or SIGINT, 3 the configuration cannot be used.
"""


def run(argv: Sequence[str]) -> int:
    """Run the enforcer with these arguments; returns the exit status.

    :raises SystemExit: after ``--help`` and ``--version``, and for switches that do not exist.
    """
    try:
        conf = _configuration(argv)
        settings = Settings.from_conf(conf)
        enforcer = _assemble(conf, settings)
        if conf.once:
            return _report(enforcer.once())
        LOG.info("enforcing the verdicts of %s as %s", settings.endpoint, settings.name)
        run_until_stopped(enforcer.run, grace=_GRACE_SECONDS)
        return EXIT_DONE
    except (EnforcerError, ClientError) as error:
        return _fail(describe(error))
    except cfg.Error as error:
        return _fail(" ".join(str(error).split()))


def _configuration(argv: Sequence[str]) -> cfg.ConfigOpts:
    conf = cfg.ConfigOpts()
    logging.register_options(conf)
    # A driver that cannot be loaded is our own error message already.
    quiet = [*logging.get_default_log_levels(), "stevedore=ERROR"]
    logging.set_defaults(default_log_levels=quiet)
    # What a command prints stays apart from its log.
    conf.set_default("use_stderr", True)
    enforcer_conf.register_opts(conf)
    enforcer_conf.register_cli_opts(conf)
    try:
        conf(
            list(argv),
            project="oat",
            prog="oat-enforcer",
            version=importlib.metadata.version("oat-trusted-filter"),
            description=_DESCRIPTION,
            epilog=_EPILOG,
        )
    except SystemExit as stop:
        # argparse ends with 2 for a mistake, which here means an incident.
        raise SystemExit(EXIT_ERROR if stop.code else 0) from None
    logging.setup(conf, "oat-enforcer")
    return conf


def _assemble(conf: cfg.ConfigOpts, settings: Settings) -> Enforcer:
    settings.make_client().close()  # what is missing now is a mistake; later it may come back
    placement = Placement(load_adapter(conf))
    election: Election = Alone()
    reporter: Reporter | None = None
    if not settings.dry_run:  # it neither takes the place of one that acts nor passes for one
        reporter = Reporter(settings.make_client, settings.name, settings.region)
        if settings.coordination_url is not None:
            election = CoordinatedElection(
                settings.coordination_url, region=settings.region, name=settings.name
            )
    return Enforcer(
        Follower(settings.make_client, region=settings.region, grace=settings.outage_grace),
        election,
        [TraitKeeper(placement, full_interval=settings.full_interval, dry_run=settings.dry_run)],
        reporter,
        refresh_interval=settings.refresh_interval,
    )


def _report(counts: Counts | None) -> int:
    if counts is None:
        _say("another enforcer acts")
        return EXIT_DONE
    _say(str(counts))
    if counts.failed or counts.pending:
        return EXIT_FAILED
    return EXIT_INCIDENT if counts.incidents else EXIT_DONE


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _fail(text: str) -> int:
    sys.stderr.write(f"oat-enforcer: {text}\n")
    return EXIT_ERROR
