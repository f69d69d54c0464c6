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
"""The reply to ``GET /v1/verdicts`` is believed only where it is what it has to be."""

import copy

import pytest

from oat_trusted_filter.client.errors import BadReply
from oat_trusted_filter.client.verdicts import parse_not_modified, parse_reply

BODY = {
    "epoch": "e",
    "cursor": 3,
    "lease": 30.0,
    "full": True,
    "hosts": [
        {
            "region": "",
            "host": "compute-1",
            "service_host": "service-1",
            "resource_provider": None,
            "level": "untrusted",
            "reason": "pcr-mismatch",
            "tags": {"rack": "7"},
        }
    ],
    "deleted": [{"region": "r", "host": "compute-2"}],
    "lapsing": [
        {"region": "", "host": "compute-1", "seconds": 4.5},
        {"region": "", "host": "compute-1", "seconds": 3, "tags_only": True},
    ],
}


def body(**changes):
    return {**copy.deepcopy(BODY), **changes}


def test_all_fields_are_read():
    reply = parse_reply(BODY, {"ETag": '"e:3"', "OAT-Lease": "30"}, 100.0)
    (record,) = reply.hosts
    assert (record.host, record.level, record.reason) == ("compute-1", "untrusted", "pcr-mismatch")
    assert (record.service_host, record.resource_provider) == ("service-1", None)
    assert record.tags == {"rack": "7"}
    assert reply.deleted == (("r", "compute-2"),)
    assert reply.lapsing == (("", "compute-1", 4.5, False), ("", "compute-1", 3.0, True))
    assert (reply.lease, reply.sent_at, reply.etag, reply.since) == (30.0, 100.0, '"e:3"', "e:3")
    assert reply.full
    assert not reply.not_modified


def test_fields_of_a_later_release_do_no_harm():
    extra = body(news=1)
    extra["hosts"][0]["news"] = [1, 2]
    assert parse_reply(extra, {}, 0.0).hosts[0].host == "compute-1"


def test_the_shorter_of_two_leases_counts():
    assert parse_reply(body(lease=7), {"oat-lease": "30"}, 0.0).lease == 7.0
    assert parse_reply(body(lease=30), {"OAT-LEASE": "7"}, 0.0).lease == 7.0
    assert parse_reply(body(lease=-5), {}, 0.0).lease == 0.0


def test_a_304_needs_a_lease():
    assert parse_not_modified({"oat-lease": "12.5"}, 7.0).lease == 12.5
    for headers in ({}, {"OAT-Lease": "long"}, {"OAT-Lease": "inf"}, {"OAT-Lease": "nan"}):
        with pytest.raises(BadReply) as caught:
            parse_not_modified(headers, 0.0)
        assert caught.value.code == "reply-invalid"


@pytest.mark.parametrize("value", [None, [], "text", 7, True])
def test_a_reply_that_is_no_object_is_refused(value):
    with pytest.raises(BadReply):
        parse_reply(value, {}, 0.0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epoch", ""),
        ("epoch", 7),
        ("epoch", None),
        ("cursor", -1),
        ("cursor", "3"),
        ("cursor", 3.0),
        ("cursor", True),
        ("lease", None),
        ("lease", "30"),
        ("lease", True),
        ("lease", float("inf")),
        ("lease", float("nan")),
        ("lease", 10**400),
        ("full", 1),
        ("full", None),
        ("hosts", None),
        ("hosts", {}),
        ("hosts", ["compute-1"]),
        ("hosts", [{"region": "", "host": ""}]),
        ("hosts", [{"region": "", "host": "compute-1"}]),
        ("hosts", [{"region": "", "host": "compute-1", "level": "Trusted"}]),
        ("hosts", [{"region": "", "host": "compute-1", "level": ["trusted"]}]),
        ("hosts", [{"region": None, "host": "compute-1", "level": "trusted"}]),
        ("deleted", None),
        ("deleted", [{"host": "compute-1"}]),
        ("lapsing", None),
        ("lapsing", [{"region": "", "host": "compute-1"}]),
        ("lapsing", [{"region": "", "host": "compute-1", "seconds": "4"}]),
    ],
)
def test_a_field_that_is_not_what_it_has_to_be_is_named(field, value):
    with pytest.raises(BadReply) as caught:
        parse_reply(body(**{field: value}), {}, 0.0)
    assert caught.value.code == "reply-invalid"
    assert field in str(caught.value) or "level of host 'compute-1'" in str(caught.value)
    assert len(str(caught.value)) <= 300


@pytest.mark.parametrize("field", list(BODY))
def test_no_field_may_be_missing(field):
    less = body()
    del less[field]
    with pytest.raises(BadReply):
        parse_reply(less, {"OAT-Lease": "30"}, 0.0)


def test_what_a_filter_does_not_need_is_not_a_reason_to_refuse():
    record = {
        "region": "",
        "host": "compute-1",
        "level": "trusted",
        "reason": None,
        "service_host": 7,
        "tags": "none",
    }
    (found,) = parse_reply(body(hosts=[record]), {}, 0.0).hosts
    assert (found.reason, found.service_host, dict(found.tags)) == ("", None, {})
