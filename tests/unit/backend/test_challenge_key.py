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
"""The key of the challenges is replaced while several API hosts serve."""

import shutil

import pytest

from oat_trusted_filter.backend.api.challenge import Challenges
from oat_trusted_filter.backend.api.problems import Problem
from oat_trusted_filter.backend.challenge_key import read_challenge_keys, rotated
from oat_trusted_filter.backend.watched import WatchedFile

NOW = 1_800_000_000_000
LIFETIME = 60_000


@pytest.fixture
def files(tmp_path):
    """The file of each of two API hosts."""
    found = tmp_path / "one", tmp_path / "two"
    found[0].write_text("5a" * 32)
    shutil.copy(*found)
    return found


def server(path):
    keys = WatchedFile(path, read_challenge_keys)
    return Challenges(lambda: keys.value, LIFETIME)


def rotate(path, now, since):
    path.write_bytes(rotated(read_challenge_keys(path), now, since))


def test_nobody_is_refused_while_the_key_changes(files):
    one, two = map(server, files)
    rotate(files[0], NOW, NOW + 600_000)
    for moment in (NOW, NOW + 599_999):
        # The other one has not got the file yet.
        two.check(one.issue("", "a", moment), "", "a", moment)
    before = one.issue("", "a", NOW + 599_999)
    shutil.copy(*files)
    later = NOW + 600_001
    for issuer, judge in ((one, two), (two, one)):
        judge.check(issuer.issue("", "a", later), "", "a", later)
        judge.check(before, "", "a", later)


def test_after_the_next_rotation_the_first_key_is_gone(files):
    one = server(files[0])
    first = one.issue("", "a", NOW)
    rotate(files[0], NOW, NOW)
    one.check(first, "", "a", NOW)
    second = one.issue("", "a", NOW)
    rotate(files[0], NOW + 1, NOW + 1)
    one.check(second, "", "a", NOW + 1)
    with pytest.raises(Problem) as caught:
        one.check(first, "", "a", NOW + 1)
    assert caught.value.code == "challenge-invalid"


def test_a_file_that_is_broken_changes_nothing(files):
    one = server(files[0])
    text = one.issue("", "a", NOW)
    files[0].write_text("nonsense")
    one.check(text, "", "a", NOW)
    files[0].unlink()
    one.check(text, "", "a", NOW)
