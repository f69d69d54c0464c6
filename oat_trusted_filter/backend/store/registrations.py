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
"""Announcing many hosts at once: all of them, or none.

What is announced already is left as it is, so a list can be sent again, and as a whole when it has
grown.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, update

from oat_trusted_filter.backend.store import audit
from oat_trusted_filter.backend.store import hosts as bindings
from oat_trusted_filter.backend.store.audit import Entry
from oat_trusted_filter.backend.store.hosts import APPROVED, PENDING, REGISTERED, UNBOUND, Host
from oat_trusted_filter.backend.store.tables import hosts

Name = tuple[str, str]
#: Code and detail of what stands against a host that is bound to this policy and has these labels
#: (JSON).
Unfit = Callable[[str, str | None], tuple[str, str] | None]


class Announced(NamedTuple):
    """A host that is expected."""

    region: str
    host: str
    ek_fingerprint: str
    """Or the hash of the key."""
    policy: str | None
    labels: str | None
    """JSON."""
    accept_expired: bool

    @property
    def name(self) -> Name:
        """Region and host."""
        return self.region, self.host


class Conflict(NamedTuple):
    """What stands against one of the list."""

    place: int
    """From 0."""
    code: str
    detail: str


class Imported(NamedTuple):
    """What becomes of the hosts of a list, in numbers."""

    registered: int
    approved: int
    """They waited."""
    unchanged: int


class ImportConflicts(Exception):
    """The list does not fit what is known; nothing was stored.

    :param conflicts: in the order of the list.
    """

    def __init__(self, conflicts: Sequence[Conflict]) -> None:
        super().__init__(f"{len(conflicts)} of the hosts cannot be registered")
        self.conflicts = conflicts


@dataclass
class _Plan:
    """What has to be done."""

    new: list[Announced]
    waiting: list[tuple[Host, Announced]]
    accepted: list[Host]
    """An expired certificate is accepted of these from now on."""
    unchanged: int
    conflicts: list[Conflict]


def register_all(
    connection: Connection,
    wanted: Sequence[Announced],
    against: Unfit,
    actor: str,
    now: int,
    *,
    dry_run: bool,
) -> Imported:
    """Announce hosts, and approve those that wait with the key that is announced.

    Nobody may change the rules meanwhile: the caller has locked them.

    :param against: what the rules have against a policy and labels.
    :param actor: for the audit trail.
    :param dry_run: only say what would come of it.
    :raises ImportConflicts: of one or more of them.
    """
    plan = _plan(connection, wanted, against)
    if plan.conflicts:
        raise ImportConflicts(plan.conflicts)
    if not dry_run:
        _store(connection, plan, actor, now)
    return Imported(len(plan.new), len(plan.waiting), plan.unchanged)


def _plan(connection: Connection, wanted: Sequence[Announced], against: Unfit) -> _Plan:
    known: dict[Name, list[Host]] = {}
    holders: dict[str, Host] = {}
    for host in bindings.everything(connection):
        known.setdefault((host.region, host.host), []).append(host)
        if host.state == APPROVED:
            holders |= {key: host for key in (host.ek_fingerprint, host.ek_hash) if key}
    plan = _Plan([], [], [], 0, [])
    names: set[Name] = set()
    keys: set[str] = set()
    for place, item in enumerate(wanted):
        named = known.get(item.name, [])
        found = [
            *_twice(item, names, keys),
            *_against(item, named, holders.get(item.ek_fingerprint), against),
        ]
        plan.conflicts += [Conflict(place, code, detail) for code, detail in found]
        names.add(item.name)
        keys.add(item.ek_fingerprint)
        if not found:
            _place(plan, item, bindings.same_key(named, item.ek_fingerprint))
    return plan


def _place(plan: _Plan, item: Announced, same: Host | None) -> None:
    if same is None:
        plan.new.append(item)
    elif same.state == PENDING:
        plan.waiting.append((same, item))
    else:
        plan.unchanged += 1
        if item.accept_expired and not same.accept_expired:
            plan.accepted.append(same)


def _twice(item: Announced, names: set[Name], keys: set[str]) -> Iterator[tuple[str, str]]:
    """What stands against it in the list itself."""
    if item.name in names:
        yield "host-twice", f"host {item.host} is in the list twice"
    if item.ek_fingerprint in keys:
        yield "ek-twice", "this endorsement key is in the list twice"


def _against(
    item: Announced, named: Sequence[Host], holder: Host | None, against: Unfit
) -> Iterator[tuple[str, str]]:
    """What stands against it in what is known."""
    same = bindings.same_key(named, item.ek_fingerprint)
    policy, labels = (UNBOUND, None) if same is None else (same.policy, same.labels)
    unfit = against(item.policy or policy, item.labels or labels)
    if unfit is not None:
        yield unfit
        return
    if same is None:
        if any(other.state == APPROVED for other in named):
            yield (
                "host-already-approved",
                f"another endorsement key is approved for host {item.host}; "
                "oat host rebind puts one in the place of another",
            )
        elif any(other.state == REGISTERED for other in named):
            yield (
                "host-already-registered",
                f"host {item.host} is registered with another endorsement key; delete that first",
            )
    if same is None or same.state == PENDING:
        if holder is not None:
            yield (
                "ek-already-approved",
                f"this endorsement key is approved as {holder.host}; oat host rename gives a host "
                "another name",
            )
    elif item.policy not in (None, same.policy) or item.labels not in (None, same.labels):
        yield (
            "host-differs",
            f"host {item.host} is {same.state} already, with another policy or other labels",
        )


def _store(connection: Connection, plan: _Plan, actor: str, now: int) -> None:
    for host, item in plan.waiting:
        bindings.approve(connection, host)
        bindings.change(
            connection, host.id, policy=item.policy or host.policy,
            labels=item.labels or host.labels,
        )  # fmt: skip
    if plan.new:
        connection.execute(
            hosts.insert(),
            [
                {
                    **item._asdict(),
                    "policy": item.policy or UNBOUND,
                    "accept_expired": item.accept_expired or None,
                    "state": REGISTERED,
                    "created_at": now,
                }
                for item in plan.new
            ],
        )
    for host in plan.accepted:
        connection.execute(update(hosts).where(hosts.c.id == host.id).values(accept_expired=True))
    done = [*plan.new, *(item for _, item in plan.waiting)]
    entries = [Entry(actor, "host.register", *item.name, _details(item)) for item in done]
    entries += [
        Entry(
            actor, "host.register", host.region, host.host,
            {"ek_fingerprint": host.ek_fingerprint, "accept_expired": True},
        )
        for host in plan.accepted
    ]  # fmt: skip
    audit.record_all(connection, entries)


def _details(item: Announced) -> dict[str, str | bool]:
    said = {name: value for name, value in item._asdict().items() if value not in (None, False)}
    return {name: value for name, value in said.items() if name not in ("region", "host")}
