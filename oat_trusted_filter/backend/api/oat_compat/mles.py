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
"""``/WLMService/resources/mles``: white lists, to read and, if that is allowed, to write."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import falcon
import msgspec
from oslo_log import log as logging
from sqlalchemy import Connection

from oat_trusted_filter.backend.api.exchange import answer, decoded, read_body
from oat_trusted_filter.backend.api.oat_compat.asked import asked, done, said
from oat_trusted_filter.backend.api.oat_compat.catalogue import Catalogue, Mle, catalogue
from oat_trusted_filter.backend.api.oat_compat.errors import OatError
from oat_trusted_filter.backend.api.oat_compat.mle_bodies import (
    NO_VALUES,
    MleBody,
    SourceBody,
    Values,
    described,
    identity,
    number_in,
    pcr_in,
    title,
    values_in,
    wanted_by,
    with_values,
)
from oat_trusted_filter.backend.api.rules import Rules, moment_of
from oat_trusted_filter.backend.api.service import Service
from oat_trusted_filter.backend.appraisal import policy as policies
from oat_trusted_filter.backend.appraisal import reference as references
from oat_trusted_filter.backend.appraisal.rule_records import Policy, Provenance, ReferenceSet
from oat_trusted_filter.backend.store import audit, hosts, oat_mles, rules
from oat_trusted_filter.backend.store.oat_mles import BIOS, PREFIX, StoredMle

LOG = logging.getLogger(__name__)

_KNOWN = "WS_MLE_ALREADY_EXISTS"
_UNKNOWN = "WS_MLE_DOES_NOT_EXIST"


# -- reading ----------------------------------------------------------------------------------


def index(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """The MLEs with a text in their name, without their PCRs."""
    text = asked(req).get("searchCriteria", "")
    with service.store.read() as connection:
        found = [mle for mle in catalogue(service, connection).mles() if text in mle.stored.name]
    answer(resp, [mle.document(complete=False) for mle in found])


def show(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """One MLE with its white list."""
    answer(resp, _existing(service, wanted_by(asked(req))).document(complete=True))


def show_source(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """The hosts whose boot the values of an MLE were taken from."""
    said(resp, _existing(service, wanted_by(asked(req))).source)


# -- writing ----------------------------------------------------------------------------------


def create(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """Add an MLE, and judge all hosts anew."""
    body = decoded(read_body(req), MleBody)
    new, values = described(body), values_in(body.manifests or [])
    _store(service, req, "create", new, lambda before: values, new=True)
    done(resp)


def change(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """Replace the white list and the description of an MLE, and judge all hosts anew."""
    body = decoded(read_body(req), MleBody)
    changed, values = described(body), values_in(body.manifests or [])
    _store(service, req, "change", changed, lambda before: values)
    done(resp)


def delete(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """Forget an MLE that no host is judged by."""
    wanted = wanted_by(asked(req))

    def unused(connection: Connection, known: Rules) -> None:
        for host, bound, labels in hosts.bindings(connection):
            demanded = known.policy_of(bound, labels).requirements
            if any(requirement.kind == wanted.reference_set for requirement in demanded):
                raise OatError(
                    "WS_MLE_ASSOCIATION_EXISTS",
                    f"MLE '{wanted.name}' version '{wanted.version}' is used by host '{host}'.",
                )

    _store(service, req, "delete", wanted, lambda before: NO_VALUES, gone=unused)
    done(resp, json=True)


def add_pcr(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """Add a PCR to a white list, and judge all hosts anew."""
    wanted, bank, pcr, value = pcr_in(req)

    def added(before: Values) -> Values:
        if pcr in before.get(bank, {}):
            raise OatError(
                "WS_PCR_WHITELIST_ALREADY_EXISTS",
                f"PCR '{pcr}' is already in the white list of MLE '{wanted.name}'.",
            )
        return with_values(before, bank, pcr, value)

    _store(service, req, "change", wanted, added)
    done(resp)


def change_pcr(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """Replace a PCR of a white list, and judge all hosts anew."""
    wanted, bank, pcr, value = pcr_in(req)

    def changed(before: Values) -> Values:
        if pcr not in before.get(bank, {}):
            raise OatError(
                "WS_PCR_WHITELIST_DOES_NOT_EXIST",
                f"PCR '{pcr}' is not in the white list of MLE '{wanted.name}'.",
            )
        return with_values(before, bank, pcr, value)

    _store(service, req, "change", wanted, changed)
    done(resp)


def delete_pcr(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """Take a PCR off a white list, and judge all hosts anew."""
    query = asked(req)
    wanted, pcr = wanted_by(query), number_in(query.get("pcrName"))

    def without(before: Values) -> Values:
        left = {
            bank: {number: values for number, values in of_bank.items() if number != pcr}
            for bank, of_bank in before.items()
        }
        return {bank: of_bank for bank, of_bank in left.items() if of_bank}

    _store(service, req, "change", wanted, without)
    done(resp)


def set_source(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """Note the host an MLE is from."""
    body = decoded(read_body(req), SourceBody)
    if not body.host_name:
        raise OatError("AS_MISSING_INPUT", "Missing or invalid input 'hostName'.")
    _store(service, req, "change", identity(body.mle_data), _same, source=body.host_name)
    done(resp)


def change_source(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """Note another host an MLE is from."""
    set_source(service, req, resp)


def delete_source(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """Forget the host an MLE is from."""
    _store(service, req, "change", wanted_by(asked(req)), _same, source="")
    done(resp)


def _same(before: Values) -> Values:
    return before


def _store(
    service: Service,
    req: falcon.Request,
    action: str,
    mle: StoredMle,
    edit_values: Callable[[Values], Values],
    *,
    new: bool = False,
    gone: Callable[[Connection, Rules], None] | None = None,
    source: str | None = None,
) -> None:
    """Store an MLE with its reference set, and the policies that ask for it.

    :param mle: as it will be; with one that is there, and has no description here, that stays.
    :param edit_values: its PCRs, from what they are.
    :param new: there must be none yet; otherwise there must be one.
    :param gone: it is removed, unless this refuses.
    :param source: the host it is from; empty: none; None: that stays.
    """
    name, now, by = mle.reference_set, service.clock(), req.context.holder.name
    state: dict[str, Any] = {}

    def edit(before: Rules) -> Rules:
        with service.store.read() as connection:
            stored = {item.key: item for item in oat_mles.all_mles(connection)}.get(mle.key)
            _check_there(connection, mle, stored, new=new)
            if gone is not None:
                gone(connection, before)
        known = before.references.get(name)
        values = edit_values(known.pcrs if known else NO_VALUES)
        after = None
        if values and gone is None:
            provenance = Provenance("typed", by, moment_of(now))
            after = ReferenceSet(name, name, values, provenance=provenance)
        state.update(
            mle=_kept(mle, stored, source), known=known, after=after,
            policies=_following(before, name, after, removed=gone is not None),
        )  # fmt: skip
        left = {key: item for key, item in before.references.items() if key != name}
        changed = {
            key: state["policies"].get(key, item) for key, item in before.policies.items()
        }
        return replace(
            before,
            references=left if after is None else {**left, name: after},
            policies={key: item for key, item in changed.items() if item is not None},
        )

    def write(connection: Connection, generation: int) -> None:
        if gone is None:
            oat_mles.put_mle(connection, state["mle"])
        else:
            oat_mles.remove_mle(connection, mle)
        _write_set(connection, name, state["known"], state["after"], generation, now)
        _write_policies(connection, state["policies"], generation, now)
        audit.record(
            connection,
            actor=by,
            action=f"oat-mle.{action}",
            details={
                "mle": mle.name, "version": mle.version, "of": " ".join(mle.of).strip(),
                "reference_set": name,
            },
        )  # fmt: skip

    service.rule_changer.change(edit, write, now)
    LOG.info("%s wrote MLE %r version %r (%s)", by, mle.name, mle.version, action)


def _check_there(
    connection: Connection, mle: StoredMle, stored: StoredMle | None, *, new: bool
) -> None:
    named = title(mle)
    if new and stored is not None:
        raise OatError(_KNOWN, f"{named} is already configured in the system.")
    if not new and stored is None:
        raise OatError(_UNKNOWN, f"{named} does not exist.")
    if new and oat_mles.maker(connection, *mle.of) is None:
        code = "WS_MLE_OEM_DOES_NOT_EXIST" if mle.type == BIOS else "WS_MLE_OS_DOES_NOT_EXIST"
        raise OatError(code, f"'{' '.join(mle.of[1:]).strip()}' does not exist.")


def _kept(mle: StoredMle, stored: StoredMle | None, source: str | None) -> StoredMle:
    if stored is not None:
        described = mle.description or stored.description
        mle = replace(mle, description=described, source=stored.source)
    return mle if source is None else replace(mle, source=source or None)


def _following(
    before: Rules, name: str, after: ReferenceSet | None, *, removed: bool
) -> dict[str, Policy | None]:
    """The policies of this interface that ask for a set, as they will be; None: gone.

    A white list that was emptied is still asked for, as it was: nothing matches it then.
    """
    asking = [
        policy
        for policy in before.policies.values()
        if policy.name.startswith(PREFIX) and any(r.kind == name for r in policy.requirements)
    ]
    if removed:
        return {policy.name: None for policy in asking}
    if after is None:
        return {}
    pcrs = tuple(sorted({pcr for of_bank in after.pcrs.values() for pcr in of_bank}))
    return {
        policy.name: replace(
            policy,
            requirements=tuple(
                replace(r, pcrs=pcrs) if r.kind == name else r for r in policy.requirements
            ),
        )
        for policy in asking
    }


def _write_set(
    connection: Connection,
    name: str,
    known: ReferenceSet | None,
    after: ReferenceSet | None,
    generation: int,
    now: int,
) -> None:
    if after is None:
        if known is not None:
            rules.remove_reference_set(connection, name)
        return
    text = msgspec.json.encode(references.to_document(after)).decode()
    if known is None:
        rules.add_reference_set(connection, name, text, generation, now)
    else:
        rules.replace_reference_set(connection, name, text, generation)


def _write_policies(
    connection: Connection, changed: Mapping[str, Policy | None], generation: int, now: int
) -> None:
    for name, policy in changed.items():
        if policy is None:
            rules.remove_policy(connection, name)
        else:
            text = msgspec.json.encode(policies.to_document(policy)).decode()
            rules.put_policy(connection, name, text, generation, now)


def _existing(service: Service, wanted: StoredMle) -> Mle:
    with service.store.read() as connection:
        return found_in(catalogue(service, connection), wanted)


def found_in(known: Catalogue, wanted: StoredMle) -> Mle:
    """The MLE of this identity.

    :raises OatError: ``WS_MLE_DOES_NOT_EXIST``.
    """
    found = known.find(wanted)
    if found is None:
        raise OatError(_UNKNOWN, f"{title(wanted)} does not exist.")
    return found
