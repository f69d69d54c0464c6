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
"""Bindings: which endorsement key and attestation key stand for which name.

A binding is *registered* (an operator announced the endorsement key), *pending* (the key has proven
itself and waits for an operator) or *approved*. Several may wait under one name; the unique column
``approved_name`` lets one of them be approved.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Connection, RowMapping, delete, func, or_, select, update
from sqlalchemy.exc import IntegrityError

from oat_trusted_filter.backend.store import audit, changes, verdicts
from oat_trusted_filter.backend.store.errors import (
    BanksChanged,
    CertificateMissing,
    KeyTaken,
    NameTaken,
    NotFound,
)
from oat_trusted_filter.backend.store.tables import hosts

REGISTERED = "registered"
PENDING = "pending"
APPROVED = "approved"

#: Not bound to a policy directly: labels decide.
UNBOUND = ""

#: Status of the certificate of an endorsement key.
VERIFIED = "verified"
ABSENT = "absent"
#: Past its end when the key enrolled, and accepted by an operator.
EXPIRED = "expired"

#: Bindings that may wait under one name, and in all, by status of their certificate. Those without
#: certificate cost a stranger nothing, so they have a limit of their own: when it is reached the
#: oldest one makes room, and those with a certificate stay.
WAITING_PER_NAME = 8
WAITING_IN_ALL = 20_000


@dataclass(frozen=True, slots=True)
class Host:
    """A binding as it is stored. Moments are milliseconds since 1970."""

    id: int
    region: str
    host: str
    ek_fingerprint: str
    state: str
    ak_public: bytes | None
    banks: tuple[str, ...]
    software_tpm: bool | None
    """None: there is no certificate to tell."""
    ek_certificate_status: str | None
    manufacturer: str | None
    service_host: str | None
    resource_provider: str | None
    policy: str
    """The one the host is bound to directly, or :data:`UNBOUND`."""
    created_at: int
    enrolled_at: int | None
    labels: str | None
    """JSON; None: none."""
    override: str | None
    """JSON; None: none was ever made or it was taken back."""
    ek_hash: str | None
    """Another name of the key; None: it has not enrolled yet."""
    accept_expired: bool | None
    """An operator accepts its certificate past its end."""

    def has_key(self, name: str) -> bool:
        """Whether the endorsement key has this fingerprint or hash."""
        return name in (self.ek_fingerprint, self.ek_hash)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A binding whose endorsement key has just proven itself."""

    region: str
    host: str
    ek_fingerprint: str
    ak_public: bytes
    banks: tuple[str, ...]
    software_tpm: bool | None
    ek_certificate_status: str
    manufacturer: str | None
    service_host: str | None
    resource_provider: str | None
    ek_hash: str | None = None
    token: str | None = None
    """Digest of the enrolment token that came along."""


_COLUMNS = tuple(hosts.c[field.name] for field in fields(Host))
_ENROLLED_FIELDS = (
    "ek_fingerprint", "ek_hash", "ak_public", "software_tpm", "ek_certificate_status",
    "manufacturer", "service_host", "resource_provider",
)  # fmt: skip
_IDENTITY_FIELDS = ("service_host", "resource_provider", "software_tpm")


def approved_name(region: str, host: str) -> str:
    """Region and host as one key; neither may hold a slash."""
    return f"{region}/{host}"


def from_row(row: RowMapping) -> Host:
    """The binding in a row that has its columns."""
    values = {field.name: row[field.name] for field in fields(Host)}
    values["banks"] = _banks(values["banks"])
    return Host(**values)


def select_columns() -> tuple[Any, ...]:
    """The columns :func:`from_row` needs."""
    return _COLUMNS


def named(connection: Connection, region: str | None, host: str) -> list[Host]:
    """All bindings of a name, oldest first.

    :param region: None for all regions.
    """
    query = select(*_COLUMNS).where(hosts.c.host == host).order_by(hosts.c.id)
    if region is not None:
        query = query.where(hosts.c.region == region)
    return [from_row(row) for row in connection.execute(query).mappings()]


def lock(connection: Connection, region: str, host: str) -> None:
    """Let nobody else change the bindings of a name before this transaction ends.

    What a decision rests on has to be read after it. SQLite has one writer at a time anyway.
    """
    query = select(hosts.c.id).where(hosts.c.region == region, hosts.c.host == host)
    connection.execute(query.order_by(hosts.c.id).with_for_update()).all()


def everything(connection: Connection) -> list[Host]:
    """All bindings, oldest first."""
    query = select(*_COLUMNS).order_by(hosts.c.id)
    return [from_row(row) for row in connection.execute(query).mappings()]


def by_id(connection: Connection, number: int) -> Host | None:
    """One binding."""
    row = connection.execute(select(*_COLUMNS).where(hosts.c.id == number)).mappings().first()
    return None if row is None else from_row(row)


def bindings(connection: Connection) -> list[tuple[str, str, str | None]]:
    """Name, policy and labels of all hosts."""
    query = select(hosts.c.host, hosts.c.policy, hosts.c.labels).order_by(hosts.c.id)
    return [(row.host, row.policy, row.labels) for row in connection.execute(query)]


def change(connection: Connection, number: int, **values: str | None) -> None:
    """Set policy, labels or override.

    :raises NotFound: ``host-unknown``.
    """
    changed = connection.execute(update(hosts).where(hosts.c.id == number).values(values))
    if changed.rowcount == 0:
        raise NotFound("host-unknown", "the host was deleted at this moment")


def approved_names(connection: Connection, ek_fingerprint: str) -> list[str]:
    """Region and name of the hosts this endorsement key is approved for.

    :param ek_fingerprint: or its hash.
    """
    query = select(hosts.c.approved_name).where(
        or_(hosts.c.ek_fingerprint == ek_fingerprint, hosts.c.ek_hash == ek_fingerprint),
        hosts.c.approved_name.is_not(None),
    )
    return list(connection.scalars(query))


def waiting(connection: Connection, region: str, host: str) -> list[Host]:
    """The pending bindings of a name."""
    return [item for item in named(connection, region, host) if item.state == PENDING]


def same_key(
    known: Sequence[Host], ek_fingerprint: str, ek_hash: str | None = None
) -> Host | None:
    """The binding of a name that is for this endorsement key; None: there is none.

    :param ek_hash: by which it may have been announced.
    """
    for item in known:
        if item.has_key(ek_fingerprint):
            return item
    announced = (item for item in known if item.state == REGISTERED)
    return next((item for item in announced if item.ek_fingerprint == ek_hash), None)


def register(
    connection: Connection,
    region: str,
    host: str,
    ek_fingerprint: str,
    now: int,
    *,
    accept_expired: bool = False,
) -> Host:
    """Announce an endorsement key; if it waits already, approve it.

    :param ek_fingerprint: or its hash.
    :param accept_expired: accept its certificate past its end.
    :raises NameTaken: another one is approved for the name.
    :raises KeyTaken: this one is approved for another name.
    """
    lock(connection, region, host)
    known = named(connection, region, host)
    for item in known:
        if item.has_key(ek_fingerprint):
            if item.state == PENDING:
                return approve(connection, item)
            if accept_expired and not item.accept_expired:
                values = {"accept_expired": True}
                connection.execute(update(hosts).where(hosts.c.id == item.id).values(values))
            return existing(connection, item.id)
    if any(item.state == APPROVED for item in known):
        raise _taken(region, host)
    check_key(connection, region, host, ek_fingerprint)
    return _added(
        connection,
        region=region,
        host=host,
        ek_fingerprint=ek_fingerprint,
        state=REGISTERED,
        created_at=now,
        accept_expired=accept_expired or None,
    )


def approve(connection: Connection, host: Host) -> Host:
    """Let a pending binding stand for its name.

    :raises NameTaken: another endorsement key is approved for the name.
    :raises KeyTaken: this endorsement key is approved for another name.
    """
    lock(connection, host.region, host.host)
    host = existing(connection, host.id)
    if host.state != APPROVED:
        check_key(connection, host.region, host.host, host.ek_fingerprint)
        try:
            with connection.begin_nested():
                connection.execute(
                    update(hosts)
                    .where(hosts.c.id == host.id)
                    .values(state=APPROVED, approved_name=approved_name(host.region, host.host))
                )
        except IntegrityError as error:
            raise _taken(host.region, host.host) from error
        changes.forget_deletion(connection, host.region, host.host)
        verdicts.create(connection, host.id)
    return existing(connection, host.id)


def remove(connection: Connection, host: Host) -> None:
    """Forget a binding, its verdict and its evidence."""
    # The host as it was read may have been approved since.
    query = select(hosts.c.approved_name).where(hosts.c.id == host.id).with_for_update()
    if connection.scalar(query) is not None:
        verdicts.remove(connection, host.id)
        changes.mark_deleted(connection, host.region, host.host)
    connection.execute(delete(hosts).where(hosts.c.id == host.id))


def enrol(connection: Connection, candidate: Candidate, now: int) -> Host:
    """Record an endorsement key that has proven itself.

    The same key under the same name renews its record, approved or not: so a TPM that was cleared
    or an agent with another attestation key heals by itself. Any other key waits apart.

    :raises BanksChanged: the binding is approved, and the TPM is said to have fewer banks now.
    :raises CertificateMissing: as :func:`check_certificate`.
    """
    lock(connection, candidate.region, candidate.host)
    known = named(connection, candidate.region, candidate.host)
    same = same_key(known, candidate.ek_fingerprint, candidate.ek_hash)
    if same is None:
        return _insert(connection, candidate, now)
    check_certificate(same, candidate)
    if same.state == APPROVED and not set(same.banks) <= set(candidate.banks):
        raise BanksChanged(
            f"host {candidate.host} is approved with PCR banks {', '.join(same.banks)} and now "
            f"shows {', '.join(candidate.banks)}; if that is right, delete the host and approve it"
        )
    state = PENDING if same.state == REGISTERED else same.state
    connection.execute(
        update(hosts)
        .where(hosts.c.id == same.id)
        .values(state=state, enrolled_at=now, **enrolled_values(candidate))
    )
    identity = [getattr(same, field) for field in _IDENTITY_FIELDS]
    moved = identity != [getattr(candidate, field) for field in _IDENTITY_FIELDS]
    other_key = same.ak_public != candidate.ak_public
    cleared = False
    if same.state == APPROVED:
        # The counters of the TPM may have started anew with TPM2_Clear.
        cleared = verdicts.forget_tpm_state(connection, same.id, identity_changed=moved)
    renewed = existing(connection, same.id)
    taken = any(item.state == APPROVED for item in known) or approved_names(
        connection, candidate.ek_fingerprint
    )
    if same.state == REGISTERED and not taken:
        renewed = approve(connection, renewed)
        audit_act(connection, audit.VERIFIER, "host.approve", renewed)
    elif same.state == APPROVED and (moved or other_key or cleared):
        details = {"other_attestation_key": other_key}
        audit_act(connection, audit.VERIFIER, "host.renew", renewed, details)
    return renewed


def check_key(connection: Connection, region: str, name: str, ek_fingerprint: str) -> None:
    """See that an endorsement key is approved for no other name.

    :param ek_fingerprint: or its hash.
    :raises KeyTaken: it is.
    """
    for taken in approved_names(connection, ek_fingerprint):
        if taken != approved_name(region, name):
            raise KeyTaken(
                f"this endorsement key is approved as {taken.strip('/')}; oat host rename gives a "
                "host another name"
            )


def check_certificate(known: Host, enrolled: Candidate | Host) -> None:
    """See that a key that has shown its certificate once still does.

    Else a software TPM, or one that was revoked, would pass for one nothing is known of.

    :raises CertificateMissing: it does not.
    """
    if known.ek_certificate_status in (VERIFIED, EXPIRED) and (
        enrolled.ek_certificate_status == ABSENT
    ):
        raise CertificateMissing(
            f"host {enrolled.host} has shown the certificate of its TPM before and now enrols "
            "without it; if that is right, delete the host and approve it"
        )


def audit_act(
    connection: Connection,
    actor: str,
    action: str,
    host: Host,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Record what was done to a binding."""
    audit.record(
        connection,
        actor=actor,
        action=action,
        region=host.region,
        host=host.host,
        details={
            "ek_fingerprint": host.ek_fingerprint, "state": host.state, **(details or {})
        },  # fmt: skip
    )


def _insert(connection: Connection, candidate: Candidate, now: int) -> Host:
    _make_room(connection, candidate)
    return _added(
        connection,
        region=candidate.region,
        host=candidate.host,
        state=PENDING,
        created_at=now,
        enrolled_at=now,
        **enrolled_values(candidate),
    )


def _added(connection: Connection, **values: Any) -> Host:
    result = connection.execute(hosts.insert().values(policy=UNBOUND, **values))
    key = result.inserted_primary_key
    assert key is not None  # noqa: S101  every insert of a single row has one
    return existing(connection, key[0])


def _make_room(connection: Connection, candidate: Candidate) -> None:
    """Let the oldest of its kind go if there are too many."""
    kind = (
        hosts.c.state == PENDING,
        hosts.c.ek_certificate_status == candidate.ek_certificate_status,
    )
    name = (hosts.c.region == candidate.region, hosts.c.host == candidate.host)
    for limit, where in ((WAITING_PER_NAME, (*kind, *name)), (WAITING_IN_ALL, kind)):
        count = connection.scalar(select(func.count()).select_from(hosts).where(*where))
        if count is not None and count >= limit:
            oldest = select(hosts.c.id).where(*where).order_by(hosts.c.enrolled_at, hosts.c.id)
            number = connection.scalar(oldest.limit(1))
            connection.execute(delete(hosts).where(hosts.c.id == number))


def enrolled_values(key: Candidate | Host) -> dict[str, Any]:
    """The columns that an enrolment fills."""
    values = {field: getattr(key, field) for field in _ENROLLED_FIELDS}
    return {**values, "banks": ",".join(key.banks)}


def existing(connection: Connection, number: int) -> Host:
    """A binding that was there a moment ago.

    :raises NotFound: ``host-unknown``.
    """
    host = by_id(connection, number)
    if host is None:
        raise NotFound("host-unknown", "the host was deleted at this moment")
    return host


def _taken(region: str, host: str) -> NameTaken:
    where = f" in region {region}" if region else ""
    return NameTaken(
        f"another endorsement key is approved for host {host}{where}; oat host rebind puts one "
        "that waits in its place"
    )


def _banks(text: str | None) -> tuple[str, ...]:
    return tuple(text.split(",")) if text else ()
