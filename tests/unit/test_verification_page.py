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
"""The page about verification has the steps of the appraisal, under the same numbers."""

import re
from pathlib import Path

from oat_trusted_filter.backend.appraisal import appraise

PAGE = Path(__file__).resolve().parents[2] / "doc" / "source" / "reference" / "verification.rst"
STEP = re.compile(r"^ ?(\d+)\. (.+?)(?=^ ?\d+\. |^Steps |^ +From here|\Z)", re.M | re.S)
HEADING = re.compile(r"^(\d+)\. (.+)\n-+$", re.M)


def plain(text):
    """Without the codes of attacks, references and line ends."""
    text = re.sub(r"\((?:[A-Z]\d+(?:, )?)+\)", "", text)
    text = re.sub(r", see :mod:`[^`]+`", "", text)
    return " ".join(text.split())


def test_the_steps_are_those_of_the_code():
    of_code = {number: plain(text) for number, text in STEP.findall(appraise.__doc__)}
    of_page = dict(HEADING.findall(PAGE.read_text()))

    assert list(of_code) == [str(number) for number in range(1, len(of_code) + 1)]
    assert len(of_code) >= 11
    assert of_page == of_code


def test_each_step_says_what_it_protects_from():
    page = PAGE.read_text()
    sections = re.split(r"^\d+\. .+\n-+$", page, flags=re.M)[1:]
    of_sections = [section.split(".. _facts:")[0] for section in sections]

    for number, section in enumerate(of_sections, 1):
        assert "rotects from" in section, number
