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
"""The sample configuration files under etc/oat are what the generator makes of the options."""

import configparser
import re
from pathlib import Path

import pytest
from oslo_config import cfg, generator
from oslo_policy import generator as policy_generator

REPOSITORY = Path(__file__).resolve().parents[2]
RECIPES = sorted((REPOSITORY / "etc" / "oat-config-generator").glob("*.conf"))
OUR_NAMESPACES = "oat_trusted_filter."
#: Groups of options that belong to a library, whose words change from release to release.
THEIR_GROUPS = {"placement"}
REMEDY = "run: tox -e genconfig"

_BEGIN = re.compile(r"^#\n# From (\S+)\n#$", re.MULTILINE)
_GROUP = re.compile(r"^\[(.+)\]$", re.MULTILINE)


def _output_of(recipe):
    written = configparser.ConfigParser(strict=False)
    written.read(recipe)
    return REPOSITORY / written["DEFAULT"]["output_file"]


def _groups(text):
    """The text of each group of options that is ours, by name."""
    found = {}
    parts = _GROUP.split(text)
    for group, body in zip(parts[1::2], parts[2::2], strict=True):
        blocks = _BEGIN.split(body)
        ours = [
            f"{name}\n{options.strip()}"
            for name, options in zip(blocks[1::2], blocks[2::2], strict=True)
            if name.startswith(OUR_NAMESPACES)
        ]
        if ours:
            found[group] = "" if group in THEIR_GROUPS else "\n".join([blocks[0].strip(), *ours])
    return found


@pytest.fixture(params=RECIPES, ids=lambda recipe: recipe.stem)
def recipe(request):
    return request.param


def test_a_sample_says_what_the_options_say(recipe, tmp_path):
    made = tmp_path / "made.conf"
    generator.main(["--config-file", str(recipe), "--output-file", str(made)])
    wanted, found = _groups(made.read_text()), _groups(_output_of(recipe).read_text())
    assert wanted, "the options are not among the entry points: install the project anew"
    assert list(found) == list(wanted), REMEDY
    for group, text in wanted.items():
        assert found[group] == text, REMEDY


def test_a_sample_sets_nothing(recipe):
    """So it can be put in place as it is."""
    lines = _output_of(recipe).read_text().splitlines()
    assert [line for line in lines if line and line[0] not in "#["] == []


def test_all_namespaces_have_a_sample_and_all_samples_a_recipe():
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    namespaces = {
        line.split("=")[0].strip()
        for line in setup["entry_points"]["oslo.config.opts"].strip().splitlines()
    }
    used = {
        line.split("=")[1].strip()
        for recipe in RECIPES
        for line in recipe.read_text().splitlines()
        if line.startswith("namespace")
    }
    assert {name for name in used if name.startswith(OUR_NAMESPACES)} == namespaces
    samples = set((REPOSITORY / "etc/oat").glob("*.conf"))
    assert {_output_of(recipe) for recipe in RECIPES} == samples
    remedy = (REPOSITORY / "tox.ini").read_text()
    assert [
        recipe.name for recipe in RECIPES if f"--config-file {_relative(recipe)}" in remedy
    ] == [recipe.name for recipe in RECIPES]


def test_the_sample_of_the_rules_says_what_the_routes_say(tmp_path):
    recipe = REPOSITORY / "etc/oat-policy-generator.conf"
    made = tmp_path / "made"
    policy_generator.generate_sample(
        ["--config-file", str(recipe), "--output-file", str(made)], cfg.ConfigOpts()
    )
    kept = REPOSITORY / "etc/oat/policy.yaml.sample"
    remedy = f"run: oslopolicy-sample-generator --config-file {_relative(recipe)}"
    assert kept.read_text() == made.read_text(), remedy
    assert f"--config-file {_relative(recipe)}" in (REPOSITORY / "tox.ini").read_text()


def _relative(path):
    return path.relative_to(REPOSITORY)
