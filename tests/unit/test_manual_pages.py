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
"""Every program has a page that is its manual page as well, made of its own options."""

import configparser
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "doc" / "source"


def programs():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = setup["entry_points"]["console_scripts"].split("\n")
    return {line.partition(" = ")[0] for line in lines if line}


def test_every_program_has_a_manual_page():
    pages = runpy.run_path(str(DOCS / "conf.py"))["man_pages"]
    assert {name for _, name, *_ in pages} == programs()
    for page, *_ in pages:
        assert (DOCS / f"{page}.rst").exists()


@pytest.mark.parametrize("name", sorted(programs() - {"oat"}))
def test_the_options_on_a_page_are_those_of_the_program(name):
    page = (DOCS / "reference" / f"{name}.rst").read_text()
    function = name.removeprefix("oat-").replace("-", "_")
    assert f":func: {function}\n   :prog: {name}\n" in page
    parser = runpy.run_path(str(DOCS / "programs.py"))[function]()
    assert "--config-file" in parser.format_help()
