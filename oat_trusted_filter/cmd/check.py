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
"""What the checks of an installation print: a line for each thing that was looked at."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Line:
    """What one look found."""

    usable: bool
    subject: str
    text: str
    advice: str = ""

    def __str__(self) -> str:
        line = f"{'OK' if self.usable else 'FAIL':4}  {self.subject:15}  {self.text}"
        return f"{line}; {self.advice}" if self.advice else line


def show_lines(lines: Iterable[Line], show: Callable[[str], None]) -> bool:
    """Show each line as it comes.

    :returns: whether all of it is usable.
    """
    usable = True
    for line in lines:
        show(" ".join(str(line).splitlines()))
        usable = usable and line.usable
    return usable
