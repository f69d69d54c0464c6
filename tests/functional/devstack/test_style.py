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
"""The shell of the plugin, and what its README says about it."""

import re
import subprocess
import sys

from tests.functional.devstack.node import HERE, REPOSITORY

PLUGIN = REPOSITORY / "devstack"
SHELL = [
    *(PLUGIN / name for name in ("plugin.sh", "settings", "override-defaults", "lib/oat")),
    *sorted(HERE.glob("*.sh")),
]


def test_bashate_has_nothing_to_say():
    # As errors also what it would only warn of.
    checked = subprocess.run(
        [sys.executable, "-m", "bashate.bashate", "--max-line-length=100",
         "--error=E005,E006,E042", *map(str, SHELL)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )  # fmt: skip
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_the_readme_explains_every_setting_and_its_default():
    readme = (PLUGIN / "README.rst").read_text()
    explained = dict(re.findall(r"^``(OAT_\w+)``\s+(?:``(.*?)``)?", readme, re.MULTILINE))
    defaults = {}
    for name in ("override-defaults", "settings"):
        text = (PLUGIN / name).read_text()
        defaults |= dict(re.findall(r"^(OAT_\w+)=\$\{\1:-(.*)\}$", text, re.MULTILINE))
        defaults |= {
            setting: default
            for setting, default, again in re.findall(
                r"^ *(OAT_\w+)=\$\(trueorfalse (\w+) (\w+)\)$", text, re.MULTILINE
            )
            if setting == again
        }
    settable = set(defaults)
    assert settable | {"OAT_CA_FILE"} == set(explained)
    told = {name: default for name, default in explained.items() if default}
    for name in ("OAT_SMOKE_IMAGE", "OAT_ENDPOINT", "OAT_CA_FILE"):
        # What these are made of is said in words.
        told.pop(name, None)
    assert told == {name: defaults[name] for name in told}
