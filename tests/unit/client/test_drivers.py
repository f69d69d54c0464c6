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
"""Attestation drivers are found by name, and what is none is said."""

import pytest

from oat_trusted_filter.client.drivers import base
from oat_trusted_filter.client.drivers.base import AttestationDriver, find_driver
from oat_trusted_filter.client.drivers.oat import OatDriver
from oat_trusted_filter.client.errors import ClientError


def test_the_default_driver_is_installed_with_this_package():
    assert find_driver("oat") is OatDriver


def test_a_driver_nobody_brings_is_said():
    with pytest.raises(ClientError) as caught:
        find_driver("nobodys")
    assert (caught.value.code, str(caught.value)) == (
        "driver-unknown",
        "there is no attestation driver 'nobodys'",
    )


@pytest.mark.parametrize("name", ["not-there", "no-driver"])
def test_a_driver_that_cannot_be_used_is_said(monkeypatch, tmp_path, name):
    package = tmp_path / "others-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: others\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text(
        "[tests.attestation_drivers]\nnot-there = others.driver:Driver\nno-driver = pathlib:Path\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(base, "NAMESPACE", "tests.attestation_drivers")
    with pytest.raises(ClientError) as caught:
        find_driver(name)
    assert caught.value.code == "driver-broken"


def test_a_driver_has_to_answer():
    with pytest.raises(TypeError):
        AttestationDriver()
