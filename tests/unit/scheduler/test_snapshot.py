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
"""A snapshot says what the backend said, for as long as it may be used and not longer."""

import pytest

from oat_trusted_filter.client.errors import BadReply
from oat_trusted_filter.client.verdicts import Lapse, VerdictRecord, VerdictReply
from oat_trusted_filter.scheduler.snapshot import (
    LAPSED,
    NO_VERDICTS,
    NOT_ENROLLED,
    HostVerdict,
    View,
    apply_reply,
)

MAX_AGE = 60.0


def record(host, level="trusted", reason="", region=""):
    return VerdictRecord(region, host, level, reason)


def reply(*records, **fields):
    fields = {
        "lease": 30.0,
        "sent_at": 100.0,
        "etag": '"e:5"',
        "epoch": "e",
        "cursor": 5,
        "full": True,
        **fields,
    }
    return VerdictReply(hosts=records, **fields)


def not_modified(**fields):
    return VerdictReply(**{"lease": 30.0, "sent_at": 110.0, "not_modified": True, **fields})


def applied(known, answer, region="", max_age=MAX_AGE):
    return apply_reply(known, answer, region, max_age)


def view(snapshot, now=100.0):
    return View(snapshot, now, None)


def test_a_full_reply_is_all_there_is():
    before = applied(None, reply(record("a"), record("b")))
    after = applied(before, reply(record("b", "untrusted", "pcr-mismatch"), epoch="f", cursor=1))
    assert after.since == "f:1"
    assert after.trusted == frozenset()
    assert view(after).verdict_on("a") == NOT_ENROLLED
    assert view(after).verdict_on("b") == ("untrusted", "pcr-mismatch")


def test_changes_are_added_to_what_is_known():
    before = applied(None, reply(record("a"), record("b"), record("c")))
    after = applied(
        before,
        reply(
            record("b", "unknown", "verdict-lapsed"),
            record("d"),
            full=False,
            cursor=8,
            etag='"e:8"',
            deleted=(("", "c"),),
        ),
    )
    assert after.trusted == {"a", "d"}
    assert view(after).verdict_on("b") == ("unknown", "verdict-lapsed")
    assert view(after).verdict_on("c") == NOT_ENROLLED
    assert (after.since, after.etag) == ("e:8", '"e:8"')
    assert before.trusted == {"a", "b", "c"}, "a snapshot never changes"


def test_a_host_that_is_deleted_and_enrolled_again_counts_as_it_is_now():
    before = applied(None, reply(record("a")))
    after = applied(before, reply(record("a"), full=False, cursor=9, deleted=(("", "a"),)))
    assert after.trusted == {"a"}


@pytest.mark.parametrize(
    "changes", [{"epoch": "other"}, {"cursor": 4}], ids=["another epoch", "an earlier cursor"]
)
def test_E11_changes_to_something_else_are_refused(changes):
    before = applied(None, reply(record("a")))
    with pytest.raises(BadReply):
        applied(before, reply(**{"full": False, "cursor": 6, **changes}))


def test_E11_changes_to_nothing_are_refused():
    with pytest.raises(BadReply):
        applied(None, reply(record("a"), full=False))
    with pytest.raises(BadReply):
        applied(None, not_modified())


def test_the_lease_counts_from_the_moment_the_request_was_sent():
    snapshot = applied(None, reply(record("a"), sent_at=100.0, lease=30.0))
    assert view(snapshot, 129.9).trusted == {"a"}
    over = view(snapshot, 130.0)
    assert (over.valid, over.trusted) == (False, frozenset())
    assert over.verdict_on("a") == NO_VERDICTS


def test_the_operator_can_only_shorten_the_lease():
    assert applied(None, reply(lease=30.0), max_age=10).expires_at == 110.0
    assert applied(None, reply(lease=30.0), max_age=999).expires_at == 130.0
    again = applied(applied(None, reply(), max_age=10), not_modified(lease=30.0), max_age=10)
    assert again.expires_at == 120.0


def test_a_304_renews_the_lease_and_changes_nothing_else():
    before = applied(None, reply(record("a"), record("b", "untrusted")))
    after = applied(before, not_modified(sent_at=110.0, lease=30.0))
    assert (after.sent_at, after.expires_at) == (110.0, 140.0)
    assert (after.since, after.etag) == (before.since, before.etag)
    assert after.verdicts is before.verdicts
    assert after.trusted is before.trusted


def test_a_lease_of_nothing_is_no_lease():
    assert not view(applied(None, reply(record("a"), lease=0.0)), 100.0).valid


def test_E11_a_host_lapses_in_its_own_time_without_a_word_from_anybody():
    snapshot = applied(
        None,
        reply(
            record("a"),
            record("b"),
            record("c"),
            lapsing=(Lapse("", "b", 20.0), Lapse("", "a", 5.0)),
        ),
    )
    assert view(snapshot, 104.9).trusted == {"a", "b", "c"}
    assert view(snapshot, 105.0).trusted == {"b", "c"}
    assert view(snapshot, 105.0).verdict_on("a") == LAPSED
    assert view(snapshot, 120.0).trusted == {"c"}


def test_E11_a_304_says_that_nobody_lapses_within_its_lease():
    before = applied(None, reply(record("a"), lapsing=(Lapse("", "a", 5.0),)))
    after = applied(before, not_modified(sent_at=104.0, lease=30.0))
    assert view(after, 133.9).trusted == {"a"}
    assert view(after, 134.0).trusted == frozenset()


def test_E11_the_list_of_lapses_is_replaced_and_not_added_to():
    before = applied(
        None, reply(record("a"), record("b"), lapsing=(Lapse("", "a", 5.0), Lapse("", "b", 6.0)))
    )
    after = applied(
        before, reply(full=False, cursor=6, sent_at=104.0, lapsing=(Lapse("", "b", 25.0),))
    )
    assert view(after, 128.9).trusted == {"a", "b"}
    assert view(after, 129.0).trusted == {"a"}


def test_a_lapse_of_a_host_that_is_not_trusted_anyway_says_so():
    snapshot = applied(
        None, reply(record("a", "untrusted", "pcr-mismatch"), lapsing=(Lapse("", "a", 5.0),))
    )
    assert view(snapshot, 104.0).verdict_on("a").level == "untrusted"
    assert view(snapshot, 106.0).verdict_on("a") == LAPSED


def test_E4_a_host_of_the_same_name_in_another_region_is_another_host():
    answer = reply(
        record("a", "untrusted", "pcr-mismatch", region="south"),
        record("a", region="north"),
        lapsing=(Lapse("south", "a", 1.0),),
    )
    north = applied(None, answer, region="north")
    assert view(north, 105.0).trusted == {"a"}
    south = applied(None, answer, region="south")
    assert view(south, 100.5).verdict_on("a").level == "untrusted"
    assert view(applied(None, answer, region="")).verdict_on("a") == NOT_ENROLLED
    deleted = reply(full=False, cursor=6, deleted=(("south", "a"),))
    assert view(applied(north, deleted, region="north")).trusted == {"a"}


@pytest.mark.parametrize("turn", [1, -1])
def test_E4_of_two_verdicts_on_one_host_the_worse_counts(turn):
    levels = [record("a"), record("a", "untrusted", "pcr-mismatch"), record("a", "unknown")]
    snapshot = applied(None, reply(*levels[::turn]))
    assert view(snapshot).verdict_on("a") == ("untrusted", "pcr-mismatch")
    assert snapshot.trusted == frozenset()


def test_without_a_snapshot_nothing_is_known():
    nothing = View(None, 0.0, "backend-unreachable")
    assert (nothing.valid, nothing.trusted) == (False, frozenset())
    assert nothing.verdict_on("a") == NO_VERDICTS


def test_verdicts_are_counted():
    snapshot = applied(
        None,
        reply(
            record("a", "untrusted", "pcr-mismatch"),
            record("b", "untrusted", "pcr-mismatch"),
            record("c", "unknown", "not-enrolled"),
            lapsing=(Lapse("", "b", 5.0),),
        ),
    )
    mismatch = HostVerdict("untrusted", "pcr-mismatch")
    assert view(snapshot).count(["a", "b", "c", "d"]) == {mismatch: 2, NOT_ENROLLED: 2}
    assert view(snapshot, 106.0).count(["a", "b", "d"]) == {
        mismatch: 1,
        LAPSED: 1,
        NOT_ENROLLED: 1,
    }
    assert view(snapshot, 200.0).count(["a", "d"]) == {NO_VERDICTS: 2}
