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
"""What relying parties and auditors get signed."""

import jwt
import pytest

from oat_trusted_filter import trail
from oat_trusted_filter.backend.manage.signing_key import rotate
from oat_trusted_filter.backend.store import audit


def keys(place):
    return jwt.PyJWKSet.from_dict(place.get("/.well-known/jwks.json"))


def token_of(place, name="node-1"):
    answer = place.call("GET", f"/v1/hosts/{name}/verdict.jwt")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/eat+jwt"
    assert answer.headers["cache-control"] == "no-store"
    return answer.text


def claims(place, token):
    header = jwt.get_unverified_header(token)
    assert header["typ"] == "eat+jwt"
    options = {"verify_exp": False, "verify_iat": False}
    return jwt.decode(token, keys(place)[header["kid"]], algorithms=["ES256"], options=options)


def test_a_verdict_as_an_attestation_result(place):
    host = place.approved_host()
    host.attest()
    place.trust(host)
    found = claims(place, token_of(place))
    shown = place.get("/v1/hosts/node-1")
    assert found["eat_profile"].startswith("tag:")
    assert found["iat"] == place.clock() // 1000
    assert found["exp"] == place.clock() // 1000 + 300
    assert set(found["ear.verifier-id"]) == {"developer", "build"}
    result = found["submods"]["node-1"]
    assert result["ear.status"] == "affirming"
    assert set(result["ear.trustworthiness-vector"].values()) == {2}
    assert result["ear.appraisal-policy-id"] == "default"
    assert result["oat.ek-fingerprint"] == shown["ek_fingerprint"]
    assert result["oat.reference-sets"] == shown["reference_sets"]


@pytest.mark.parametrize(("seconds", "status"), [(0, "contraindicated"), (400, "none")])
def test_what_is_not_trusted_is_not_affirmed(place, seconds, status):
    place.approved_host().attest()
    place.clock.pass_by(seconds)
    found = claims(place, token_of(place))
    assert found["submods"]["node-1"]["ear.status"] == status
    assert ("exp" in found) == (seconds == 0)
    assert found["submods"]["node-1"]["oat.findings"]


def test_what_an_operator_vouches_for_was_not_recognised(place):
    place.approved_host().attest()
    body = {"level": "trusted", "seconds": 100, "reason": "firmware bug 7"}
    assert place.call("PUT", "/v1/hosts/node-1/override", body).status_code == 200
    result = claims(place, token_of(place))["submods"]["node-1"]
    assert (result["ear.status"], result["oat.findings"][0]) == ("affirming", "override")
    vector = {"instance-identity": 2, "configuration": 0, "executables": 0}
    assert result["ear.trustworthiness-vector"] == vector


def test_tokens_of_a_rotated_key_stay_provable(place):
    place.approved_host()
    token = token_of(place)
    new = rotate(place.settings.signing_key)
    assert claims(place, token)["submods"]
    assert jwt.get_unverified_header(token_of(place))["kid"] == new


def test_hosts_there_are_not(place):
    answer = place.call("GET", "/v1/hosts/node-9/verdict.jwt")
    assert (answer.status_code, answer.json["code"]) == (404, "host-unknown")


def audited(place, **query):
    return place.get("/v1/audit", params=query)


def test_the_trail_page_by_page(place):
    for number in range(5):
        place.store.write(
            lambda c, n=number: audit.record(
                c, actor="ann", action="thing.do", host=f"h{n % 2}", details={"n": n}
            )
        )
    first = audited(place, limit=2)
    assert [row["sequence"] for row in first["rows"]] == [1, 2]
    rest = audited(place, marker=first["marker"])
    assert [row["sequence"] for row in rest["rows"]] == [3, 4, 5]
    assert rest["marker"] is None
    newest = audited(place, newest_first="true", limit=2)
    assert [row["sequence"] for row in newest["rows"]] == [5, 4]
    older = audited(place, newest_first="true", marker=newest["marker"])
    assert [row["sequence"] for row in older["rows"]] == [3, 2, 1]
    of_host = audited(place, host="h1")["rows"]
    assert [row["details"] for row in of_host] == [{"n": 1}, {"n": 3}]
    assert audited(place, actor="bob")["rows"] == []
    rows = [
        trail.Row(**{**row, "details": trail.canonical(row["details"])})
        for row in first["rows"] + rest["rows"]
    ]
    head = place.get("/v1/audit/head")
    said = place.service.signing.verify(head["head"], trail.HEAD_TYPE)
    assert (said["sequence"], said["digest"]) == (5, rows[-1].digest)
    assert (head["sequence"], head["digest"]) == (5, rows[-1].digest)
    assert trail.faults(rows, [trail.Head(5, said["digest"])]) == []


def test_purging_is_told_in_the_trail(place):
    for _ in range(3):
        place.store.write(lambda c: audit.record(c, actor="ann", action="thing.do"))
    late = 2**50
    assert place.store.write(lambda c: audit.purge(c, late, "ann")) == 3
    assert place.store.write(lambda c: audit.purge(c, 0, "ann")) == 0
    (row,) = audited(place)["rows"]
    assert (row["sequence"], row["action"]) == (4, trail.PURGE)
    made = trail.Row(**{**row, "details": trail.canonical(row["details"])})
    assert trail.faults([made], []) == []
