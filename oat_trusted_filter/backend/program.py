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
"""What the programs of the backend have in common: configuration, log, and one line on failure."""

import importlib.metadata
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from oslo_config import cfg
from oslo_log import log as logging
from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError

from oat_trusted_filter.backend.settings import Settings, StartError
from oat_trusted_filter.backend.store import schema
from oat_trusted_filter.backend.store.engine import Store, StoreError
from oat_trusted_filter.conf import backend as backend_conf

DEFAULT_CONFIG_FILE = "/etc/oat/oat.conf"
EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2

# These write a line for every statement or connection at the level of information.
_QUIET = ("sqlalchemy=WARNING", "alembic=WARNING", "_granian=WARNING")


def parse_configuration(
    argv: Sequence[str],
    prog: str,
    *,
    description: str,
    cli_opts: Sequence[cfg.Opt] = (),
) -> cfg.ConfigOpts:
    """Read command line and configuration file, and set up the log.

    :raises StartError: ``configuration``.
    :raises SystemExit: after ``--help`` and for mistakes on the command line.
    """
    conf = cfg.ConfigOpts()
    logging.register_options(conf)
    logging.set_defaults(default_log_levels=[*logging.get_default_log_levels(), *_QUIET])
    # What a command was asked for goes to standard output, and nothing else.
    conf.set_default("use_stderr", True)
    backend_conf.register_opts(conf)
    conf.register_cli_opts(list(cli_opts))
    try:
        conf(
            list(argv),
            project="oat",
            prog=prog,
            version=importlib.metadata.version("oat-trusted-filter"),
            default_config_files=[DEFAULT_CONFIG_FILE],
            description=description,
        )
    except cfg.Error as error:
        raise StartError("configuration", " ".join(str(error).split())) from error
    logging.setup(conf, prog)
    return conf


def open_store(settings: Settings, *, need_synced: bool = True) -> Store:
    """Open the database.

    :raises StartError: ``state-dir-unwritable``, ``database-unusable``, ``database-not-synced``.
    """
    try:
        store = Store(settings.database)
        if store.sqlite:
            _check_writable(make_url(settings.database).database)
        if need_synced and not schema.synced(store):
            raise StartError(
                "database-not-synced",
                "the database has no tables, or those of another release: "
                "run oat-manage --config-file FILE db sync",
            )
    except StoreError as error:
        raise StartError("database-unusable", str(error)) from error
    except DBAPIError as error:
        raise StartError(
            "database-unusable", f"the database cannot be used: {error.orig}"
        ) from error  # fmt: skip
    return store


def _check_writable(path: str | None) -> None:
    """SQLite writes its journal beside the file, so the folder has to be writable too."""
    if not path or path == ":memory:":
        raise StartError("configuration", "[database] connection names no file for SQLite")
    file = Path(path).absolute()
    if not file.parent.is_dir():
        raise StartError(
            "database-not-synced",
            f"the folder {file.parent} of the database does not exist: "
            "run oat-manage --config-file FILE db sync",
        )
    for where in (file.parent, file):
        if where.exists() and not os.access(where, os.W_OK):
            raise StartError(
                "state-dir-unwritable", f"{where} cannot be written by the user {os.getuid()}"
            )


def fail(prog: str, error: StartError) -> int:
    """Write the one line about it; returns the exit status."""
    sys.stderr.write(f"{prog}: {' '.join(str(error).split())} [{error.code}]\n")
    return EXIT_FAILED
