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
"""``oat complete`` in a real bash."""

import shutil
import subprocess

import pytest

BASH = shutil.which("bash")


@pytest.mark.parametrize(
    ("line", "completions"),
    [
        ("oat ho", {"host"}),
        ("oat host ap", {"approve"}),
        ("oat host re", {"rebind", "register", "rename"}),
        ("oat host approve --ek", {"--ek-fingerprint"}),
        ("oat enrolment-token ", {"create", "list", "revoke"}),
    ],
)
def test_bash_completes(oat, tmp_path, line, completions):
    ran = oat("complete")
    assert ran.status == 0
    script = tmp_path / "oat"
    script.write_text(ran.out)
    asked = subprocess.run(
        [BASH, "--norc", "-euc",
         'source "$1"; COMP_WORDS=($2); [[ $2 != *" " ]] || COMP_WORDS+=("");'
         ' COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); set +u; "$(complete -p oat | sed'
         " -E 's/.*-F (\\S+) .*/\\1/')\"; printf '%s\\n' \"${COMPREPLY[@]}\"",
         "bash", str(script), line],
        check=True,
        capture_output=True,
        text=True,
        timeout=20,
    )  # fmt: skip
    assert set(asked.stdout.split()) == completions
