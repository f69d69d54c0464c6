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
"""Whatever happens in whatever order, placement ends with the traits the verdicts say.

Verdicts change, hosts are forgotten, resource providers come and go, strangers and other services
change traits, placement fails before and after it did what it was asked for, the backend is silent,
time passes and the enforcer is started anew; all against a real placement service.
"""

import itertools

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oat_trusted_filter.enforcer.keeper import LONGEST_PAUSE
from oat_trusted_filter.traits import TRUSTED, is_ours, tag_trait
from tests.functional.enforcer.bench import FULL_INTERVAL, Backend, Bench
from tests.functional.enforcer.placement_lab import CUT, LOSE_REPLY, Front
from tests.lab.scripted_backend import status

HOSTS = ("compute-1", "compute-2", "compute-3")
ZONES = ("eu-1", "eu_1", None)
CONFLICT = "conflict"

hosts = st.sampled_from(HOSTS)
levels = st.sampled_from(["trusted", "trusted", "untrusted", "unknown"])
foreign = st.sampled_from([TRUSTED, tag_trait("zone", "eu-1"), tag_trait("geo", "mars")])
faults = st.lists(st.sampled_from([None, 503, CUT, LOSE_REPLY, CONFLICT]), min_size=1, max_size=6)
events = st.one_of(
    st.tuples(st.just("judge"), hosts, levels, st.sampled_from(ZONES), st.booleans()),
    st.tuples(st.just("forget"), hosts),
    st.tuples(st.just("appear"), hosts),
    st.tuples(st.just("vanish"), hosts),
    st.tuples(st.just("intrude"), hosts, foreign),
    st.tuples(st.just("strip"), hosts),
    st.tuples(st.just("go_wrong"), faults),
    st.tuples(st.just("silence"), st.booleans()),
    st.tuples(st.just("pass_by"), st.sampled_from([1.0, 15.0, 60.0, FULL_INTERVAL])),
    st.tuples(st.just("restart")),
    st.tuples(st.just("turn")),
    st.tuples(st.just("turn")),
)


class World:
    """What really is, beside what the enforcer makes of it."""

    def __init__(self, bench):
        self.bench = bench
        self.placement = bench.placement
        self.verdicts = {}
        self.providers = {}
        self.others = {}
        self.touched = set()
        self.faults = []
        self.numbers = itertools.count()
        bench.front.fault = self.fault
        for host in HOSTS[:2]:
            self.appear(host)

    # -- what happens ------------------------------------------------------------------------------

    def judge(self, host, level, zone, recorded):
        uuid = self.providers.get(host) if recorded else None
        tags = {"zone": zone} if zone else {}
        self.verdicts[host] = (level, tags, uuid)
        self.bench.backend.judge(level, host, tags=tags, provider=uuid)

    def forget(self, host):
        self.verdicts.pop(host, None)
        self.bench.backend.forget(host)

    def appear(self, host):
        if host not in self.providers:
            uuid = self.providers[host] = self.placement.add(host)
            nested = self.placement.add(f"{host}_numa0", parent=uuid)
            self.others[uuid] = {"HW_CPU_X86_VMX"}
            self.placement.change(uuid, add=self.others[uuid])
            self.placement.change(nested, add={"CUSTOM_NESTED"})

    def vanish(self, host):
        uuid = self.providers.pop(host, None)
        if uuid is not None:
            self.placement.remove(self.placement.providers()[f"{host}_numa0"])
            self.placement.remove(uuid)

    def intrude(self, host, trait):
        if host in self.providers:
            self.touched.add(self.providers[host])
            self.placement.change(self.providers[host], add={trait})

    def strip(self, host):
        if host in self.providers:
            uuid = self.providers[host]
            self.placement.change(uuid, drop=self.ours(uuid))

    def go_wrong(self, faults):
        self.faults = list(faults)

    def fault(self, method, path):
        fault = self.faults.pop(0) if self.faults else None
        if fault != CONFLICT:
            return fault
        uuid = path.split("/")[2]
        if method == "PUT" and uuid in self.others:
            # Another service is faster, so placement itself answers 409.
            trait = f"CUSTOM_OTHER_{next(self.numbers)}"
            self.others[uuid].add(trait)
            self.placement.change(uuid, add={trait})
        return None

    def silence(self, silent):
        self.bench.backend.fault = status(503) if silent else None

    def pass_by(self, seconds):
        self.bench.clock.pass_by(seconds)

    def restart(self):
        self.bench.restart()

    def turn(self):
        undisturbed = not self.faults and self.bench.backend.fault is None
        done = self.bench.turn()
        if done is None or done.error is not None or done.counts.failed:
            return
        if done.full:
            self.touched.clear()
        if undisturbed:
            for host, uuid in self.providers.items():
                if uuid not in self.touched:
                    assert self.ours(uuid) <= self.allowed(host), f"{host} has too much"

    # -- what should be ----------------------------------------------------------------------------

    def ours(self, uuid):
        return {trait for trait in self.placement.traits(uuid) if is_ours(trait)}

    def allowed(self, name):
        """What the provider of this name may have by all verdicts that lead to it."""
        claims = [
            {TRUSTED, *(tag_trait(*tag) for tag in tags.items())} if level == "trusted" else set()
            for host, (level, tags, uuid) in self.verdicts.items()
            if (uuid == self.providers[name] if uuid else host == name)
        ]
        return set.intersection(*claims) if claims else set()

    def settle(self):
        """Everything works again, and time passes."""
        self.faults.clear()
        self.bench.backend.fault = None
        for _ in range(3):
            self.pass_by(LONGEST_PAUSE)
            self.bench.turn()
        done = self.bench.full_pass()
        assert (done.error, done.counts.failed, done.counts.pending) == (None, 0, 0)
        for host, uuid in self.providers.items():
            assert self.ours(uuid) == self.allowed(host)
            assert self.placement.traits(uuid) - self.ours(uuid) == self.others[uuid]
            nested = self.placement.providers()[f"{host}_numa0"]
            assert self.placement.traits(nested) == {"CUSTOM_NESTED"}
        # And then there is nothing to do.
        self.bench.front.requests.clear()
        done = self.bench.full_pass()
        assert (done.counts.set, done.counts.removed, done.counts.incidents) == (0, 0, 0)
        assert self.bench.front.writes == []


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(sequence=st.lists(events, min_size=3, max_size=20))
def test_the_right_traits_in_the_end(placement_service, tmp_path, sequence):
    placement_service.wipe()
    with Front(placement_service) as front, Backend(tmp_path) as backend:
        bench = Bench(placement_service, front, backend)
        bench.start()
        world = World(bench)
        try:
            for name, *arguments in sequence:
                getattr(world, name)(*arguments)
            world.settle()
        finally:
            bench.stop()
