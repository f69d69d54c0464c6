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
"""Options: names, limits, and the generator of the sample file."""

import subprocess
import sys

import pytest
from oslo_config import cfg

from oat_trusted_filter.conf import enforcer as enforcer_conf
from oat_trusted_filter.enforcer.settings import Settings


def load(tmp_path, text=""):
    path = tmp_path / "enforcer.conf"
    path.write_text(text)
    conf = cfg.ConfigOpts()
    enforcer_conf.register_opts(conf)
    enforcer_conf.register_cli_opts(conf)
    conf(["--config-file", str(path)], project="oat")
    return conf


def test_what_counts_if_nothing_is_set(tmp_path):
    conf = load(tmp_path)
    settings = Settings.from_conf(conf)
    assert settings.refresh_interval < 5.0  # a flip reaches placement within five seconds
    assert settings.coordination_url is None
    assert settings.name
    assert (conf.placement.service_type, conf.placement.timeout) == ("placement", 30.0)
    assert conf.placement.valid_interfaces == ["internal", "public"]


@pytest.mark.parametrize("line", ["refresh_interval = 0", "timeout = -1", "outage_grace = -1"])
def test_values_that_make_no_sense_are_refused(tmp_path, line):
    with pytest.raises(cfg.Error):
        Settings.from_conf(load(tmp_path, f"[enforcer]\n{line}\n"))


def test_the_coordination_url_may_hold_a_password_and_is_not_shown(tmp_path):
    settings = Settings.from_conf(
        load(tmp_path, "[enforcer]\ncoordination_url = redis://:secret@host:6379\n")
    )
    assert "secret" not in repr(settings)


def test_the_sample_has_all_options_with_help():
    listed = dict(enforcer_conf.list_opts())
    names = {group.name: {opt.dest for opt in opts} for group, opts in listed.items()}
    assert {"endpoint", "outage_grace", "coordination_url"} <= names["enforcer"]
    assert {"auth_type", "auth_url", "username", "cafile", "endpoint_override"} <= (
        names["placement"]
    )
    assert all(opt.help for opts in listed.values() for opt in opts)


def test_options_are_read_without_the_libraries_of_the_enforcer():
    code = (
        "import sys; sys.modules['tooz'] = None; import oat_trusted_filter.conf.enforcer as c; "
        "c.list_opts()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_tooz_the_program_says_what_to_install():
    code = (
        "import sys; sys.modules['tooz'] = None; "
        "from oat_trusted_filter.cmd.enforcer import main; sys.exit(main())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert "install oat-trusted-filter[enforcer]" in done.stderr
