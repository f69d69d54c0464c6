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
"""Finding what is wrong with an audit trail: each way to tamper with one is named."""

import pytest

from oat_trusted_filter import trail
from oat_trusted_filter.trail import BEGINNING, Head, Row, digest_of, faults


def chain(number, *, first=1, previous=BEGINNING, action="thing.do", details="{}"):
    rows = []
    for sequence in range(first, first + number):
        row = Row(sequence, 1000 + sequence, "ann", action, "", f"h{sequence}", details,
                  previous, "")  # fmt: skip
        previous = digest_of(row)
        rows.append(row._replace(digest=previous))
    return rows


def head_of(rows):
    return Head(rows[-1].sequence, rows[-1].digest)


def found(rows, *heads):
    return [(fault.code, fault.sequence) for fault in faults(rows, heads)]


@pytest.fixture
def rows():
    return chain(9)


def test_a_whole_trail(rows):
    assert found(rows, head_of(rows), head_of(rows[:4])) == []
    assert found([], Head(0, BEGINNING)) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [("at", 1), ("actor", "bob"), ("action", "x.y"), ("region", "r"), ("host", "h"),
     ("details", '{"a":1}'), ("details", "no json"), ("digest", "0" * 64)],
)  # fmt: skip
def test_a_changed_row_is_named(rows, field, value):
    rows[3] = rows[3]._replace(**{field: value})
    assert ("row-changed", 4) in found(rows, head_of(chain(9)))


def test_a_removed_row_is_named(rows):
    del rows[3:5]
    ((code, sequence),) = found(rows, head_of(rows))
    assert (code, sequence) == ("row-removed", 4)
    assert "rows 4 to 5" in faults(rows, [])[0].message


def test_removed_rows_at_the_start_are_named(rows):
    assert found(rows[2:], head_of(rows)) == [("row-removed", 1)]


def test_reordered_rows_are_named(rows):
    rows[2], rows[5] = rows[5]._replace(sequence=3), rows[2]._replace(sequence=6)
    codes = found(rows, head_of(rows))
    assert ("row-moved", 3) in codes
    assert ("row-moved", 6) in codes
    moved = [fault.message for fault in faults(rows, []) if fault.code == "row-moved"]
    assert moved == ["row 3 was written as row 6", "row 6 was written as row 3"]


def test_a_trail_that_was_cut_off_is_named(rows):
    assert found(rows[:6], head_of(rows)) == [("cut-off", 7)]
    assert found([], head_of(rows)) == [("cut-off", 1)]


def test_a_trail_that_was_cut_off_and_continued_is_named(rows):
    other = rows[:6] + chain(5, first=7, previous=rows[5].digest, details='{"other":1}')
    assert found(other, head_of(other)) == []
    assert found(other, head_of(other), head_of(rows)) == [("rewritten", 9)]


def test_a_trail_that_was_written_anew_is_named(rows):
    forged = chain(9, details='{"forged":true}')
    assert found(forged, head_of(rows)) == [("rewritten", 9)]


def test_a_row_put_in_between_is_named(rows):
    (foreign,) = chain(1, first=5, previous=rows[3].digest, details='{"x":1}')
    rows[4] = foreign
    assert found(rows, head_of(rows)) == [("chain-broken", 6)]


def test_heads_that_contradict_each_other(rows):
    assert found(rows, head_of(rows), Head(9, "0" * 64)) == [("rewritten", 9)]


def test_a_purge_accounts_for_the_rows_it_took(rows):
    details = trail.canonical({"through": 6, "digest": rows[5].digest})
    rows += chain(1, first=10, previous=rows[-1].digest, action=trail.PURGE, details=details)
    assert found(rows[6:], head_of(rows), head_of(rows[:3])) == []
    assert found(rows[7:], head_of(rows)) == [("row-removed", 1)]
    wrong = rows[6]._replace(previous="0" * 64)
    assert ("chain-broken", 7) in found([wrong, *rows[7:]])
