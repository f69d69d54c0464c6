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
"""What the demonstration prints: steps with the time, commands as they were run, tables."""

import sys
import textwrap
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from prettytable import PrettyTable

#: Where the programs of the package are.
PROGRAMS = Path(sys.executable).parent

_STARTED = time.monotonic()


def step(title: str) -> None:
    """Begin a chapter."""
    print(f"\n== {time.monotonic() - _STARTED:5.1f} s  {title}", flush=True)


def say(text: str) -> None:
    """One line of progress."""
    print(f"   {text}", flush=True)


def command(*words: str, output: str = "") -> None:
    """A command as one would type it, and what it printed."""
    print(f"   $ {' '.join(words)}")
    if output.strip():
        print(textwrap.indent(output.rstrip(), "     "))
    sys.stdout.flush()


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table."""
    shown = PrettyTable(list(columns), align="l", max_width=78)
    shown.add_rows([list(row) for row in rows])
    print(textwrap.indent(shown.get_string(), "   "), flush=True)
