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
"""Which hosts pass, and what is said about the others."""

from dataclasses import dataclass

from oat_trusted_filter.client.verdicts import Lapse, VerdictRecord, VerdictReply
from oat_trusted_filter.scheduler.decision import Account, decide, printable
from oat_trusted_filter.scheduler.extra_specs import Demand, Level, TagDemand
from oat_trusted_filter.scheduler.snapshot import View, apply_reply

TRUSTED, UNTRUSTED = Demand(), Demand(Level.UNTRUSTED)


@dataclass
class Node:
    nodename: str


VERDICTS = {
    "good": ("trusted", ""),
    "bad": ("untrusted", "pcr-mismatch"),
    "worse": ("untrusted", "secure-boot-off"),
    "silent": ("unknown", "verdict-lapsed"),
    "ending": ("trusted", ""),
}
NODES = [Node(name) for name in (*VERDICTS, "stranger")]


def view(now=100.0):
    answer = VerdictReply(
        lease=30.0,
        sent_at=100.0,
        epoch="e",
        cursor=1,
        full=True,
        hosts=tuple(VerdictRecord("", host, *said) for host, said in VERDICTS.items()),
        lapsing=(Lapse("", "ending", 10.0),),
    )
    return View(apply_reply(None, answer, "", 60.0), now, None)


def names(nodes):
    return [node.nodename for node in nodes]


def test_trusted_flavors_get_hosts_that_are_trusted_now():
    assert names(decide(NODES, TRUSTED, view()).passed) == ["good", "ending"]
    assert names(decide(NODES, TRUSTED, view(111.0)).passed) == ["good"]
    assert decide(NODES, TRUSTED, view(131.0)).passed == []


def test_untrusted_flavors_get_hosts_known_to_be_that():
    assert names(decide(NODES, UNTRUSTED, view()).passed) == ["bad", "worse"]
    assert decide(NODES, UNTRUSTED, view(131.0)).passed == []


def tagged_view(now=100.0, lapsing=()):
    """Hosts of two zones; the last one is not trusted."""
    answer = VerdictReply(
        lease=30.0,
        sent_at=100.0,
        epoch="e",
        cursor=1,
        full=True,
        hosts=tuple(
            VerdictRecord("", host, level, reason, tags=tags)
            for host, level, reason, tags in (
                ("eu-a", "trusted", "", {"zone": "eu-1", "rack": "7"}),
                ("eu-b", "trusted", "", {"zone": "eu-2"}),
                ("us", "trusted", "", {"zone": "us-1", "rack": ["no", "text"]}),
                ("none", "trusted", "", {}),
                ("bad", "untrusted", "pcr-mismatch", {"zone": "eu-1"}),
            )
        ),
        lapsing=lapsing,
    )
    return View(apply_reply(None, answer, "", 60.0), now, None)


def asking(**tags):
    """A demand for these tags."""
    return Demand(tags=tuple(TagDemand(name, frozenset(v)) for name, v in sorted(tags.items())))


TAGGED = [Node(name) for name in ("eu-a", "eu-b", "us", "none", "bad", "stranger")]


def test_tags_of_trusted_hosts_are_what_counts():
    def passed(now=100.0, lapsing=(), **tags):
        return names(decide(TAGGED, asking(**tags), tagged_view(now, lapsing)).passed)

    assert passed(zone=["eu-1"]) == ["eu-a"]
    assert passed(zone=["eu-1", "eu-2"]) == ["eu-a", "eu-b"]
    assert passed(zone=["eu-1", "us-1"], rack=["7"]) == ["eu-a"]
    assert passed(zone=["EU-1"]) == passed(row=["1"]) == []
    assert passed(now=131.0, zone=["eu-1"]) == []


def test_E11_tags_end_in_their_own_time_and_the_trust_stays():
    lapsing = (Lapse("", "eu-a", 10.0, tags_only=True), Lapse("", "eu-b", 10.0))
    both = asking(zone=["eu-1", "eu-2"])
    assert names(decide(TAGGED, both, tagged_view(109.0, lapsing)).passed) == ["eu-a", "eu-b"]
    later = tagged_view(110.0, lapsing)
    assert decide(TAGGED, both, later).passed == []
    assert names(decide(TAGGED, TRUSTED, later).passed) == ["eu-a", "us", "none"]
    found = decide(TAGGED, both, later)
    assert {n.nodename: r for n, r in found.reasons()}["eu-a"] == "trusted (no tag zone)"


def test_a_host_with_other_tags_is_refused_with_the_reason():
    found = decide(TAGGED, asking(zone=["eu-1", "us-1"], rack=["7"]), tagged_view())
    assert {node.nodename: reason for node, reason in found.reasons()} == {
        "eu-b": "trusted (no tag rack, not zone=eu-1,us-1 but eu-2)",
        "us": "trusted (no tag rack)",
        "none": "trusted (no tag rack, no tag zone)",
        "bad": "untrusted (pcr-mismatch)",
        "stranger": "unknown (not-enrolled)",
    }
    assert str(Account.of(found)) == (
        "1 of 6 hosts pass; 3 trusted (other tags), 1 unknown (not-enrolled), "
        "1 untrusted (pcr-mismatch)"
    )


def test_a_server_that_is_there_stays_whatever_becomes_of_tags():
    found = decide(TAGGED, asking(zone=["eu-1"]), tagged_view(), lenient=True)
    assert names(found.refused) == ["bad"]


def test_hosts_with_tags_are_found_once_for_a_snapshot():
    snapshot = tagged_view()._snapshot
    first = View(snapshot, 100.0, None).trusted_with(asking(zone=["eu-1"]).tags)
    assert View(snapshot, 101.0, None).trusted_with(asking(zone=["eu-1"]).tags) is first


def test_a_lenient_pass_refuses_only_the_contrary():
    found = decide(NODES, TRUSTED, view(), lenient=True)
    assert names(found.passed) == ["good", "silent", "ending", "stranger"]
    found = decide(NODES, UNTRUSTED, view(), lenient=True)
    assert names(found.passed) == ["bad", "worse", "silent", "stranger"]
    assert decide(NODES, TRUSTED, view(131.0), lenient=True).passed == NODES


def test_each_host_passes_or_is_refused_with_a_reason():
    found = decide(NODES, TRUSTED, view(111.0))
    assert {node.nodename: reason for node, reason in found.reasons()} == {
        "bad": "untrusted (pcr-mismatch)",
        "worse": "untrusted (secure-boot-off)",
        "silent": "unknown (verdict-lapsed)",
        "ending": "unknown (verdict-lapsed)",
        "stranger": "unknown (not-enrolled)",
    }
    found = decide(NODES[:1], UNTRUSTED, view())
    assert [reason for _, reason in found.reasons()] == ["trusted (no reason given)"]


def test_the_summary_names_levels_and_reasons():
    def summary(nodes, demand=TRUSTED, now=100.0, **options):
        return str(Account.of(decide(nodes, demand, view(now), **options)))

    assert summary(NODES[:1]) == "1 of 1 hosts pass"
    assert summary(NODES[:2]) == "1 of 2 hosts pass; 1 untrusted (pcr-mismatch)"
    assert summary(NODES) == (
        "2 of 6 hosts pass; 2 unknown (1 verdict-lapsed, 1 not-enrolled), "
        "2 untrusted (1 pcr-mismatch, 1 secure-boot-off)"
    )
    assert summary(NODES, UNTRUSTED).startswith("2 of 6 hosts pass; 2 unknown")
    assert summary(NODES, lenient=True).startswith("4 of 6 hosts pass; 2 unknown")


def test_a_summary_stays_short():
    records = tuple(VerdictRecord("", f"h{n}", "untrusted", f"reason-{n % 10}") for n in range(100))
    answer = VerdictReply(lease=30.0, sent_at=100.0, epoch="e", cursor=1, full=True, hosts=records)
    many = View(apply_reply(None, answer, "", 60.0), 100.0, None)
    nodes = [Node(f"h{n}") for n in range(100)]
    assert str(Account.of(decide(nodes, TRUSTED, many))) == (
        "0 of 100 hosts pass; 100 untrusted (10 reason-0, 10 reason-1, 10 reason-2, 70 others)"
    )


def test_nothing_of_the_backend_breaks_a_line_of_the_log():
    assert printable("ok\nERROR forged\x1b[31m") == "ok?ERROR forged?[31m"
    assert len(printable("x" * 1000)) == 100
