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
"""``oat complete``: completion of commands and options for bash."""

import argparse

from cliff.complete import CompleteCommand

#: What cliff's script takes from the package bash-completion, for machines without it.
_WITHOUT_PACKAGE = """\
declare -F _get_comp_words_by_ref >/dev/null || _get_comp_words_by_ref() {
  words=("${COMP_WORDS[@]}")
  cur=${words[COMP_CWORD]}
  prev=${words[COMP_CWORD - 1]}
}
"""


class Complete(CompleteCommand):
    """Write the script that completes the commands of oat in bash: source <(oat complete)."""

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """Write it."""
        if parsed_args.shell == "bash":
            self.app.stdout.write(_WITHOUT_PACKAGE)
        return super().take_action(parsed_args)
