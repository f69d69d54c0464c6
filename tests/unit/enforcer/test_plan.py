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
"""Which provider gets which traits, and who may have set them."""

from oat_trusted_filter.enforcer.ledger import Ledger
from oat_trusted_filter.enforcer.placement import Provider
from oat_trusted_filter.enforcer.plan import NOTHING, Entitlement, Picture, entitlement, make_plan
from oat_trusted_filter.enforcer.standing import HostStanding
from oat_trusted_filter.traits import TRUSTED, tag_trait

UUID = "0d5a6c5e-7b1c-4b5a-9d6f-3f1f6f0f2a11"
OTHER = "7f6f2f36-52a3-4c8e-9ef0-1f2f3f4f5f6f"
ONE = Provider(UUID, "compute-1", root=True)
TWO = Provider(OTHER, "compute-2", root=True)


def picture(present=None):
    return Picture(roots={UUID: ONE, OTHER: TWO}, present=present or {})


def may(host, *traits, provider=None, level="trusted"):
    return Entitlement(host, level, "", provider, frozenset(traits))


def test_only_trusted_hosts_may_have_anything():
    tags = {"zone": "eu"}
    for level in ("untrusted", "unknown"):
        assert entitlement(HostStanding("h", level, "r", None, tags))[0].traits == NOTHING
    found, refused = entitlement(HostStanding("h", "trusted", "", None, {**tags, "": "x"}))
    assert found.traits == {TRUSTED, tag_trait("zone", "eu")}
    assert [(one.host, one.name, one.error.code) for one in refused] == [("h", "", "tag-empty")]


def test_the_recorded_uuid_counts_then_the_name():
    plan = make_plan(picture(), [may("compute-1", TRUSTED)])
    assert plan.targets[UUID].traits == {TRUSTED}
    plan = make_plan(picture(), [may("compute-1", TRUSTED, provider=OTHER)])
    assert set(plan.targets) == {OTHER}
    assert plan.oddities == {
        f"host compute-1: the resource provider it enrolled with, {OTHER}, is that of 'compute-2'"
    }


def test_a_name_is_never_taken_for_a_uuid_nor_the_reverse():
    odd = Picture(roots={UUID: Provider(UUID, OTHER, root=True)}, present={})
    assert make_plan(odd, [may("compute-1", TRUSTED, provider=OTHER)]).targets == {}
    assert make_plan(odd, [may(UUID, TRUSTED)]).targets == {}


def test_only_hosts_that_may_have_something_wait():
    plan = make_plan(picture(), [may("compute-8", TRUSTED), may("compute-9", level="unknown")])
    assert [host.host for host in plan.waiting] == ["compute-8"]


def test_the_worst_claim_counts_in_any_order():
    claims = [may("compute-1", TRUSTED), may("compute-2", provider=UUID, level="untrusted")]
    for order in (claims, claims[::-1]):
        plan = make_plan(picture(), order)
        assert plan.targets[UUID].traits == NOTHING
        assert f"resource provider {UUID} ('compute-1') is claimed by several hosts" in (
            plan.oddities
        )


def test_what_nobody_claims_should_have_nothing():
    plan = make_plan(picture({OTHER: frozenset({TRUSTED})}), [], unsure=[UUID, "gone"])
    assert {uuid: target.traits for uuid, target in plan.targets.items()} == {
        OTHER: NOTHING,
        UUID: NOTHING,
    }


def test_a_credit_lasts_until_the_trait_is_seen_absent():
    ledger = Ledger()
    ledger.credit([may("compute-1", TRUSTED), may("x", TRUSTED, provider=OTHER)])
    assert ledger.credited(ONE) == ledger.credited(TWO) == {TRUSTED}
    ledger.review(picture({UUID: frozenset({TRUSTED})}))
    assert ledger.credited(ONE) == {TRUSTED}
    assert ledger.credited(TWO) == NOTHING
    ledger.settle(ONE, NOTHING)
    assert ledger.credited(ONE) == NOTHING


def test_credits_of_a_dry_run_last():
    ledger = Ledger(settling=False)
    ledger.credit([may("compute-1", TRUSTED)])
    ledger.review(picture())
    ledger.settle(ONE, NOTHING)
    assert ledger.credited(ONE) == {TRUSTED}
