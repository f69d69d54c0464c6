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
"""The program ``oat-status``: whether this installation is ready for this release."""

from collections.abc import Sequence

from oslo_config import cfg
from oslo_upgradecheck.upgradecheck import Code, Result, UpgradeCommands, main

from oat_trusted_filter.backend.program import DEFAULT_CONFIG_FILE, open_store
from oat_trusted_filter.backend.settings import Settings, StartError
from oat_trusted_filter.backend.signing import read_keys
from oat_trusted_filter.backend.store import migrate
from oat_trusted_filter.conf import backend as backend_conf

_PROJECT = "oat"


class Checks(UpgradeCommands):
    """What has to be done before the service of this release starts."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        super().__init__()
        self._conf = conf

    def _schema(self) -> Result:
        try:
            store = open_store(Settings.from_conf(self._conf), need_synced=False)
        except StartError as error:
            return Result(Code.FAILURE, str(error))
        try:
            found, wanted = migrate.version(store)
        finally:
            store.close()
        if found == wanted:
            return Result(Code.SUCCESS)
        return Result(
            Code.FAILURE,
            f"the database is at revision {found or 'none'}, this release needs {wanted}: stop the "
            "service, take a backup and run oat-manage db sync",
        )

    def _signing_key(self) -> Result:
        try:
            read_keys(Settings.from_conf(self._conf).signing_key)
        except StartError as error:
            return Result(Code.FAILURE, str(error))
        return Result(Code.SUCCESS)

    _upgrade_checks = (("Database schema", _schema), ("Signing key", _signing_key))


def run(argv: Sequence[str]) -> int:
    """Run ``upgrade check``; returns 0 if all is well, 1 for warnings, 2 for failures."""
    conf = cfg.ConfigOpts()
    backend_conf.register_opts(conf)
    return int(
        main(
            conf,
            _PROJECT,
            Checks(conf),
            argv=list(argv),
            default_config_files=[DEFAULT_CONFIG_FILE],
        )
    )
