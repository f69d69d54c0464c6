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
"""The audit trail: what is written into it, what is not, and that the rows form a chain."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from oat_trusted_filter import trail
from oat_trusted_filter.backend.manage.credentials import create_token, create_user, keep_token
from oat_trusted_filter.backend.store import audit, hosts
from oat_trusted_filter.backend.store.credentials import ADMIN, READER
from tests.unit.backend.conftest import candidate_of

pytestmark = pytest.mark.every_database

POLICY = {"secure_boot": "optional", "requirements": [{"kind": "platform", "pcrs": [7]}]}


def rows_of(store, after=0):
    with store.read() as connection:
        return list(audit.everything(connection, after))


def acts(store, after=0):
    """Actor, action, host and details of the rows."""
    return [
        (row.actor, row.action, row.host, json.loads(row.details)) for row in rows_of(store, after)
    ]


def length(store):
    with store.read() as connection:
        return audit.head(connection).sequence


def test_rows_are_chained(store):
    for number in range(3):
        store.write(
            lambda connection, n=number: audit.record(
                connection, actor="ann", action="thing.do", host="höst", details={"b": n, "a": "ü"}
            )
        )
    first, second, third = rows_of(store)
    assert [row.sequence for row in (first, second, third)] == [1, 2, 3]
    assert (first.previous, second.previous) == (trail.BEGINNING, first.digest)
    assert (third.previous, third.details) == (second.digest, '{"a":"ü","b":2}')
    for row in (first, second, third):
        assert trail.digest_of(row) == row.digest
    with store.read() as connection:
        assert audit.head(connection) == (3, third.digest)


def test_the_digest_does_not_change_from_release_to_release():
    """As sha256sum says it."""
    row = trail.Row(7, 1, "ann", "host.approve", "r", "h", '{"x":["1",2]}', "0" * 64, "")
    assert trail.digest_of(row) == (
        "23a3412679593f95420f898625131c8905016fe4d2a0fabb8ce6013c068ef039"
    )


def test_a_row_is_there_with_what_it_tells_of_or_neither_is(store):
    def work(connection):
        audit.record(connection, actor="ann", action="thing.do")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        store.write(work)
    assert rows_of(store) == []


def test_writers_at_once_make_one_chain(store):
    def work(number):
        for _ in range(10):
            store.write(
                lambda connection: audit.record(connection, actor=f"{number}", action="thing.do")
            )

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    rows = rows_of(store)
    assert [row.sequence for row in rows] == list(range(1, 41))
    assert all(b.previous == a.digest for a, b in zip(rows, rows[1:], strict=False))


def test_what_operators_do(place):
    host = place.approved_host()
    other = f"{7:064x}"
    place.call("POST", "/v1/hosts", {"host": "node-2", "ek_fingerprint": other})
    place.store.write(lambda c: hosts.enrol(c, candidate_of(AsHost("node-3")), place.clock()))
    (pending,) = [h for h in place.get("/v1/hosts")["hosts"] if h["state"] == "pending"]
    key = {"ek_fingerprint": pending["ek_fingerprint"]}
    place.call("POST", "/v1/hosts/node-3/approve", key)
    place.call("DELETE", f"/v1/hosts/{host.name}")
    place.call("PUT", "/v1/policies/default", POLICY)
    document = {"kind": "platform", "pcrs": {"sha256": {"7": ["ab" * 32]}}}
    place.call("POST", "/v1/reference-sets", {"name": "good", "document": document})
    place.call("DELETE", "/v1/reference-sets/good")
    found = acts(place.store)
    assert {actor for actor, *_ in found} == {"noauth"}
    assert [(action, name) for _, action, name, _ in found] == [
        ("host.register", "node-2"), ("host.approve", "node-3"), ("host.delete", "node-1"),
        ("policy.set", ""), ("reference-set.create", ""), ("reference-set.delete", ""),
    ]  # fmt: skip
    assert found[0][3] == {"ek_fingerprint": other, "state": "registered"}
    assert found[1][3] == {**key, "state": "approved"}
    assert found[3][3]["policy"] == "default"
    assert found[5][3] == {"reference_set": "good"}


class AsHost:
    """A host as :func:`candidate_of` needs it."""

    def __init__(self, name):
        self.name, self.region, self.key = name, "", self
        self.public = b"ak"


def test_what_is_refused_leaves_no_row(place):
    before = length(place.store)
    for method, path, body in (
        ("POST", "/v1/hosts", {"host": "a/b", "ek_fingerprint": "0" * 64}),
        ("POST", "/v1/hosts/node-9/approve", {"ek_fingerprint": "0" * 64}),
        ("DELETE", "/v1/hosts/node-9", None),
        ("PUT", "/v1/policies/default", {"secure_boot": "maybe"}),
        ("DELETE", "/v1/reference-sets/none", None),
    ):
        assert place.call(method, path, body).status_code >= 400
    assert length(place.store) == before


def test_verdicts(place):
    host = place.approved_host()
    start = length(place.store)
    host.attest()
    place.trust(host)
    place.clock.pass_by(400)
    place.get("/v1/hosts")
    host.attest()
    found = [(a, d) for _, a, name, d in acts(place.store, start) if name == host.name]
    assert [(action, d["cause"], d["level"]) for action, d in found] == [
        ("verdict.change", "evidence", "untrusted"),
        ("verdict.change", "rules", "trusted"),
        ("verdict.change", "lapse", "unknown"),
        ("verdict.change", "evidence", "trusted"),
    ]
    assert "no-reference" in " ".join(found[0][1]["findings"])
    assert found[2][1]["findings"] == ["verdict-lapsed"]


def test_renewals_of_an_unchanged_verdict_write_no_row(place):
    host = place.approved_host()
    host.attest()
    before = length(place.store)
    host.attest()
    assert length(place.store) == before
    place.trust(host)
    before = length(place.store)
    host.attest()
    assert length(place.store) == before


def test_an_expected_host_is_approved_by_the_verifier(store):
    candidate = candidate_of(AsHost("node-1"))
    key = candidate.ek_fingerprint
    store.write(lambda c: hosts.register(c, "", "node-1", key, 0))
    store.write(lambda c: hosts.enrol(c, candidate, 1))
    assert [act[:3] for act in acts(store)] == [("verifier", "host.approve", "node-1")]
    store.write(lambda c: hosts.enrol(c, candidate, 2))
    assert len(rows_of(store)) == 1
    other = candidate_of(AsHost("node-1"), ek_fingerprint=key, ak_public=b"another")
    store.write(lambda c: hosts.enrol(c, other, 3))
    assert acts(store)[1][1] == "host.renew"


def test_credentials(store):
    token = create_token(store, "dashboard", READER)
    keep_token(store, "dashboard", READER, token)
    create_user(store, "ann", ADMIN, "correct horse")
    found = acts(store)
    assert [(action, details["name"]) for _, action, _, details in found] == [
        ("token.create", "dashboard"), ("user.create", "ann"),
    ]  # fmt: skip
    assert all(actor.startswith("oat-manage:") for actor, *_ in found)
    for row in rows_of(store):
        assert token not in row.details
        assert "horse" not in row.details
