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
"""Every command that shows something shows it in every format."""

import csv
import io
import json

import pytest
import yaml
from cliff.commandmanager import CommandManager
from cliff.lister import Lister
from cliff.show import ShowOne

from oat_trusted_filter.cli.app import OatApp

FORMATS = {"csv", "json", "table", "value", "yaml"}
#: Commands that have nothing to show: they do something, or write what has a form of its own.
WITHOUT = {
    "audit export", "audit verify", "enrolment-token revoke", "host delete", "policy delete",
    "reference delete", "tag delete", "tag revoke",
}  # fmt: skip
TAG = {"name": "country", "values": ["de", "fr"]}


def commands():
    return sorted(CommandManager("oat.cli").commands)


@pytest.mark.parametrize("name", commands())
def test_a_command_has_every_format_or_nothing_to_show(name):
    factory, _, _ = CommandManager("oat.cli").find_command(name.split())
    parser = factory(OatApp(), None).get_parser(f"oat {name}")
    formats = [set(action.choices) for action in parser._actions if action.dest == "formatter"]
    if name in WITHOUT:
        assert formats == []
    elif issubclass(factory, Lister | ShowOne):
        assert formats[0] >= FORMATS
    else:
        assert (name, formats) == ("host watch", [{"json", "value"}])


READ = {
    "csv": lambda text: list(csv.DictReader(io.StringIO(text))),
    "json": json.loads,
    "yaml": yaml.safe_load,
    "value": str.splitlines,
}


@pytest.mark.parametrize(
    ("kind", "one", "many"),
    [
        ("csv", [{"name": "country", "values": "de, fr"}], None),
        ("json", TAG, [TAG]),
        ("yaml", TAG, [TAG]),
        ("value", ["country", "de, fr"], ["country de, fr"]),
    ],
)
def test_what_a_format_is(oat, api, kind, one, many):
    api("POST", "/v1/tags", json=TAG)
    api("GET", "/v1/tags", json={"tags": [TAG]})
    shown = oat("tag", "create", "country", "de", "-f", kind)
    listed = oat("tag", "list", "-f", kind)
    assert (shown.status, READ[kind](shown.out)) == (0, one)
    assert (listed.status, READ[kind](listed.out)) == (0, many or one)
