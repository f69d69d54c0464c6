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
"""The end of an authority is said before it comes."""

import datetime
import logging

import pytest

from oat_trusted_filter.backend.api import ek_authorities
from tests.lab.makers import authority
from tests.unit.backend.conftest import START

DAY = datetime.timedelta(days=1)
NOW = datetime.datetime.fromtimestamp(START / 1000, datetime.UTC)


@pytest.fixture
def place(place_maker, tmp_path):
    """A service that believes four makers."""
    folder = tmp_path / "ek-ca"
    folder.mkdir()
    for name, start, end in (
        ("young", 1, 900), ("old", -900, 13), ("good", -900, 15), ("dead", -900, 0),
    ):  # fmt: skip
        made = authority(name, start=NOW + start * DAY, end=NOW + end * DAY)
        (folder / f"{name}.pem").write_bytes(made.pem)
    return place_maker(ek_ca_dir=folder)


def test_the_first_to_end_is_shown_first(place):
    found = place.get("/v1/ek-authorities")["ek_authorities"]
    assert [(item["subject"], item["validity"]) for item in found] == [
        ("Common Name: dead", "expired"),
        ("Common Name: old", "expiring"),
        ("Common Name: good", "valid"),
        ("Common Name: young", "future"),
    ]
    assert all(len(item["fingerprint"]) == 64 for item in found)


def test_the_log_warns_of_those_that_end_soon_or_have_ended(place, caplog):
    with caplog.at_level(logging.WARNING):
        ek_authorities.warn(place.service)
    assert len(caplog.messages) == 2
    assert all("old" in text or "dead" in text for text in caplog.messages)


def test_without_authorities_there_are_none(place_maker):
    assert place_maker().get("/v1/ek-authorities") == {"ek_authorities": []}
