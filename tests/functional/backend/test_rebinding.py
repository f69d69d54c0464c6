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
"""Other keys for a name, other names for a key, and tokens, against the real service."""

import threading

import pytest

from tests.functional.backend.parts import ComputeHost, b64


def told(operator):
    """What relying parties are told: the level by name."""
    hosts = operator.call("GET", "/v1/verdicts")["hosts"]
    return {item["host"]: item["level"] for item in hosts}


def history(operator, name):
    """Causes and levels of the reports of a name, the newest first."""
    reports = operator.call("GET", f"/v1/reports?host={name}")["reports"]
    return [(item["cause"], item["level"]) for item in reports]


def refused(operator, path, body):
    """Status and code of a request that fails."""
    answer = operator.http.call("POST", path, body, token=operator.backend.admin_token)
    return answer.status, answer.code


@pytest.fixture
def board(trusted, backend, tpms):
    """Another main board in a trusted host."""
    return ComputeHost(backend, tpms[1], trusted.name)


def test_B2_only_an_operator_who_names_the_key_rebinds(trusted, board, operator):
    before = operator.show(trusted.name)
    assert board.round().code == "host-pending"
    assert operator.show(trusted.name) == before
    board.enrol()
    for body, outcome in (
        ({}, (400, "field-invalid")),
        ({"ek_fingerprint": "0" * 64}, (404, "host-unknown")),
    ):
        assert refused(operator, f"/v1/hosts/{trusted.name}/rebind", body) == outcome
    assert trusted.round().level == "trusted"

    body = {"ek_fingerprint": board.fingerprint}
    shown = operator.call("POST", f"/v1/hosts/{trusted.name}/rebind", body)
    # The record goes on, what was proven does not.
    assert (shown["id"], shown["created_at"]) == (before["id"], before["created_at"])
    assert (shown["state"], shown["ek_fingerprint"]) == ("approved", board.fingerprint)
    assert (shown["level"], shown["findings"][0]["code"]) == ("unknown", "not-attested")
    assert told(operator)[trusted.name] == "unknown"
    assert len(operator.hosts(trusted.name)) == 1

    assert trusted.submit().code == "signature-invalid"
    assert board.round().level == "trusted"
    assert history(operator, trusted.name)[:3] == [
        ("evidence", "trusted"), ("rebind", "unknown"), ("rules", "trusted"),
    ]  # fmt: skip
    # Once more is no mistake.
    assert operator.call("POST", f"/v1/hosts/{trusted.name}/rebind", body)["level"] == "trusted"


def test_only_what_has_proven_itself_takes_over_and_only_from_an_approved_one(
    host, backend, tpms, operator
):
    host.enrol()
    path = f"/v1/hosts/{host.name}/rebind"
    assert refused(operator, path, {"ek_fingerprint": host.fingerprint}) == (403, "host-pending")
    assert refused(operator, "/v1/hosts/nobody/rebind", {"ek_fingerprint": host.fingerprint}) == (
        404, "host-unknown",
    )  # fmt: skip


def test_a_renamed_host_goes_on_and_its_old_name_is_forgotten(trusted, operator):
    before = operator.show(trusted.name)
    snapshot = operator.call("GET", "/v1/verdicts")
    new = trusted.named(f"{trusted.name}-b")
    shown = operator.call("POST", f"/v1/hosts/{trusted.name}/rename", {"host": new.name})
    assert (shown["id"], shown["host"], shown["level"]) == (before["id"], new.name, "unknown")
    since = f"{snapshot['epoch']}:{snapshot['cursor']}"
    news = operator.call("GET", f"/v1/verdicts?since={since}")
    assert news["deleted"] == [{"region": "", "host": trusted.name}]
    assert [item["host"] for item in news["hosts"]] == [new.name]

    assert new.round().level == "trusted"
    # What it was known for under its old name is found under the new one.
    assert history(operator, new.name)[:3] == [
        ("evidence", "trusted"), ("rename", "unknown"), ("rules", "trusted"),
    ]  # fmt: skip
    # As long as its agent has the old name the host is a stranger under it.
    assert trusted.submit().code == "host-unknown"
    # And back again: the name is in use again.
    operator.call("POST", f"/v1/hosts/{new.name}/rename", {"host": trusted.name})
    assert trusted.round().level == "trusted"
    since = f"{news['epoch']}:{news['cursor']}"
    again = operator.call("GET", f"/v1/verdicts?since={since}")
    assert again["deleted"] == [{"region": "", "host": new.name}]


def test_a_host_that_waits_under_its_new_name_is_renamed_to_it(trusted, operator):
    before = operator.show(trusted.name)
    new = trusted.named(f"{trusted.name}-b")
    assert new.enrol(service_host="compute-7") == "pending"
    shown = operator.call("POST", f"/v1/hosts/{trusted.name}/rename", {"host": new.name})
    assert (shown["id"], shown["service_host"]) == (before["id"], "compute-7")
    assert len(operator.hosts(new.name)) == 1
    assert operator.hosts(trusted.name) == []
    assert new.round().level == "trusted"


def test_A12_the_key_of_one_host_does_not_replace_that_of_another(
    trusted, backend, tpms, operator
):
    other = ComputeHost(backend, tpms[1])
    other.enrol()
    operator.approve(other)
    assert trusted.named(other.name).enrol() == "pending"
    body = {"ek_fingerprint": trusted.fingerprint}
    path = f"/v1/hosts/{other.name}/rebind"
    assert refused(operator, path, body) == (409, "ek-already-approved")
    assert operator.show(trusted.name)["level"] == "trusted"


def test_B2_nobody_is_renamed_to_a_name_that_is_taken(trusted, backend, tpms, operator):
    other = ComputeHost(backend, tpms[1])
    other.enrol()
    operator.approve(other)
    path = f"/v1/hosts/{other.name}/rename"
    assert refused(operator, path, {"host": trusted.name}) == (409, "host-already-approved")
    assert refused(operator, path, {"host": "no such name"}) == (400, "field-invalid")
    assert trusted.round().level == "trusted"
    assert operator.show(other.name)["ek_fingerprint"] == other.fingerprint


def test_another_attestation_key_of_the_same_tpm_keeps_the_record(trusted, operator):
    before = operator.show(trusted.name)
    rsa = trusted.with_settings(ak_algorithm="rsa")
    assert rsa.round().level == "trusted"
    after = operator.show(trusted.name)
    kept = ("id", "created_at", "state", "ek_fingerprint", "policy")
    assert {key: after[key] for key in kept} == {key: before[key] for key in kept}
    assert trusted.submit().code in ("signature-invalid", "signature-scheme")


@pytest.fixture
def token(operator):
    """Makes a token; what the answer says of it."""

    def make(**fields):
        return operator.call("POST", "/v1/enrolment-tokens", fields)

    return make


def listed(operator, made):
    """The token as it is in the list."""
    found = operator.call("GET", "/v1/enrolment-tokens")["enrolment_tokens"]
    return next((item for item in found if item["id"] == made["id"]), None)


def finish(host, token):
    """Enrol with this token; the answer."""
    begun = host.http.call("POST", "/v1/enrolments", host.enrolment(token=token))
    assert begun.status == 201, begun.body
    body = {"secret": b64(host.secret(begun.json))}
    answer = host.http.call("PUT", f"/v1/enrolments/{begun.json['id']}", body)
    assert answer.status == 200, answer.body
    return answer.json


@pytest.fixture
def newcomer(backend, tpms, operator):
    """A host whose key is approved under no other name."""
    host = ComputeHost(backend, tpms[2])
    yield host
    for name in (host.name, f"{host.name}-b"):
        for item in operator.hosts(name):
            query = f"?ek_fingerprint={item['ek_fingerprint']}"
            operator.call("DELETE", f"/v1/hosts/{name}{query}")


def test_a_token_stands_for_an_operators_approval_once(newcomer, backend, operator, token):
    made = token(host=newcomer.name)
    assert (made["state"], made["created_by"]) == ("unused", "admin")
    answer = finish(newcomer, made["token"])
    assert answer["state"] == "approved"
    assert newcomer.round().level == "untrusted"
    used = listed(operator, made)
    assert (used["state"], used["used_by"]) == ("used", f"/{newcomer.name}")
    assert "token" not in used

    operator.call("DELETE", f"/v1/hosts/{newcomer.name}")
    again = finish(newcomer, made["token"])
    assert (again["state"], again["token_refused"]["code"]) == ("pending", "enrolment-token-used")
    # C6: it is neither in the database nor in the log.
    stored = b"".join(path.read_bytes() for path in backend.state_dir.glob("oat.sqlite*"))
    assert made["id"].encode() in stored
    assert made["token"].encode() not in stored
    assert made["token"] not in backend.log


def test_tokens_that_are_not_good_for_a_host_are_not_used_up(
    newcomer, trusted, backend, tpms, operator, token
):
    for fields, text, code in (
        ({"host": "another-host"}, None, "enrolment-token-other-host"),
        ({"region": "elsewhere"}, None, "enrolment-token-other-host"),
        ({}, "no such token", "enrolment-token-unknown"),
    ):
        made = token(**fields)
        answer = finish(newcomer, text or made["token"])
        assert (answer["state"], answer["token_refused"]["code"]) == ("pending", code)
        assert listed(operator, made)["state"] == "unused"
    made = token()
    # B2: a token does not put another key in the place of an approved one,
    answer = finish(newcomer.named(trusted.name), made["token"])
    assert answer["token_refused"]["code"] == "enrolment-token-name-taken"
    # nor does it lend the name of a host to a machine that has one (A12).
    answer = finish(trusted.named(f"{newcomer.name}-b"), made["token"])
    assert answer["token_refused"]["code"] == "enrolment-token-key-taken"
    assert trusted.round().level == "trusted"
    assert listed(operator, made)["state"] == "unused"
    operator.call("DELETE", f"/v1/enrolment-tokens/{made['id']}")
    assert listed(operator, made) is None
    answer = finish(newcomer, made["token"])
    assert answer["token_refused"]["code"] == "enrolment-token-unknown"
    assert operator.http.call(
        "DELETE", f"/v1/enrolment-tokens/{made['id']}", token=backend.admin_token
    ).code == "enrolment-token-unknown"  # fmt: skip


def test_B7_a_token_is_not_enough_without_a_certificate(newcomer, operator, token):
    made = token(host=newcomer.name)
    body = newcomer.enrolment(token=made["token"], ek_certificate=None)
    begun = newcomer.http.call("POST", "/v1/enrolments", body)
    secret = {"secret": b64(newcomer.secret(begun.json))}
    answer = newcomer.http.call("PUT", f"/v1/enrolments/{begun.json['id']}", secret).json
    assert answer["state"] == "pending"
    assert answer["token_refused"]["code"] == "enrolment-token-no-certificate"
    assert listed(operator, made)["state"] == "unused"
    assert newcomer.submit().code == "host-pending"


def test_of_two_hosts_with_one_token_exactly_one_gets_in(
    newcomer, backend, tpms, operator, token
):
    made = token()
    for item in operator.call("GET", "/v1/hosts")["hosts"]:
        path = f"/v1/hosts/{item['host']}?ek_fingerprint={item['ek_fingerprint']}"
        operator.call("DELETE", path)
    pair = [newcomer, ComputeHost(backend, tpms[1], f"{newcomer.name}-b")]
    ready = []
    for host in pair:
        body = host.enrolment(token=made["token"])
        begun = host.http.call("POST", "/v1/enrolments", body).json
        ready.append((begun["id"], {"secret": b64(host.secret(begun))}))
    barrier = threading.Barrier(2)
    answers = []

    def run(number, body):
        barrier.wait()
        answers.append(newcomer.http.call("PUT", f"/v1/enrolments/{number}", body).json)

    threads = [threading.Thread(target=run, args=item) for item in ready]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer["state"] for answer in answers) == ["approved", "pending"]
    (loser,) = (answer for answer in answers if answer["state"] == "pending")
    assert loser["token_refused"]["code"] == "enrolment-token-used"
    assert len([item for item in pair if operator.show(item.name)["state"] == "approved"]) == 1


@pytest.mark.parametrize("lifetime", [0, -1, 10**9, "1d", None])
def test_odd_lifetimes_of_tokens(operator, lifetime):
    assert refused(operator, "/v1/enrolment-tokens", {"lifetime": lifetime}) == (
        400, "field-invalid",
    )  # fmt: skip
