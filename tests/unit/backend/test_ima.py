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
"""IMA logs from the submission to the verdict."""

import tracemalloc

import pytest
from sqlalchemy import func, select

from oat_trusted_filter.backend.api import ima as api_ima
from oat_trusted_filter.backend.appraisal import appraise
from oat_trusted_filter.backend.store import ima as store_ima
from oat_trusted_filter.backend.store import renewing, verdicts
from oat_trusted_filter.backend.store.tables import ima_files, ima_states
from oat_trusted_filter.tcg.algorithms import DIGESTERS
from oat_trusted_filter.tcg.ima import MAX_PART_BYTES
from tests.lab.boots import Boot
from tests.lab.file_keys import FileKey
from tests.lab.measuring import Kernel
from tests.lab.quotes import SigningKey
from tests.unit.backend.attesting import b64


class Machine:
    """A host whose kernel measures files, and its agent."""

    def __init__(self, host):
        self.host = host
        self.name = host.name
        self.largest = MAX_PART_BYTES
        self.boot()

    def boot(self, name="machine-a"):
        self.host.boot(name)
        self.kernel = Kernel(Boot(name).ima_log)
        self.offset = None

    def run(self, *paths, content=b"program", signature=b""):
        """Use files."""
        for path in paths:
            self._extend(self.kernel.run(path, content, signature))

    def violate(self, path):
        self._extend(self.kernel.violate(path))

    def kexec(self):
        self._extend(self.kernel.kexec())

    def _extend(self, data):
        values = self.host.values
        for bank, digest in self.kernel.extends(data, values).items():
            values[bank][10] = DIGESTERS[bank](values[bank][10] + digest)

    def part(self, offset):
        """A part of the log as the agent sends it."""
        if offset is None:
            return {"offset": None}
        data = self.kernel.log[offset : offset + self.largest]
        return {
            "offset": offset,
            "data": b64(data),
            "more": offset + len(data) < len(self.kernel.log),
        }

    def submit(self, **part):
        """One submission; with what is given instead of a good part."""
        body = self.host.evidence()
        part = {**self.part(self.offset), **part}
        body["ima_log"] = {name: value for name, value in part.items() if value is not ...}
        return self.host.submit(body)

    def round(self):
        """A round of the agent: the answer, which is a verdict."""
        body = self.host.evidence()
        body["ima_log"] = self.part(self.offset)
        answer = self.host.submit(body)
        if answer.status_code == 409:
            assert answer.json["code"] == "ima-offset"
            body["ima_log"] = self.part(answer.json["ima_offset"])
            answer = self.host.submit(body)
        assert answer.status_code == 200, answer.text
        self.offset = answer.json["ima_offset"]
        return answer.json


def put_policy(place, **fields):
    document = place.get("/v1/policies/default") | {"ima": fields}
    answer = place.call("PUT", "/v1/policies/default", document)
    assert answer.status_code == 200, answer.text


def take_list(place, *machines, name="files"):
    body = {"name": name, "kind": "ima", "from_hosts": [machine.name for machine in machines]}
    answer = place.call("POST", "/v1/reference-sets", body)
    assert answer.status_code == 201, answer.text
    return answer.json


def delete(place, name="files"):
    assert place.call("DELETE", f"/v1/reference-sets/{name}").status_code == 204


def shown(place, machine):
    return place.get(f"/v1/hosts/{machine.name}")


def level(place, machine):
    return shown(place, machine)["level"]


def codes(answer):
    return [finding["code"] for finding in answer["findings"]]


def count(place, table):
    with place.store.read() as connection:
        return connection.scalar(select(func.count()).select_from(table))


@pytest.fixture
def machine(place):
    """A trusted host; nobody has asked for its IMA log."""
    host = place.approved_host()
    host.attest()
    place.trust(host)
    made = Machine(host)
    made.run("/usr/bin/login", "/usr/sbin/sshd")
    return made


@pytest.fixture
def enforced(place, machine):
    """A host trusted with all files it has used."""
    put_policy(place, mode="enforce", exclude=["/var/log/.*"])
    assert machine.round()["level"] == "untrusted"
    take_list(place, machine)
    assert machine.round()["level"] == "trusted"
    return machine


# What is asked for


def test_mode_off_asks_for_nothing(place, machine):
    answer = machine.submit(offset=None, data=..., more=...)

    assert answer.json["level"] == "trusted"
    assert answer.json["ima_offset"] is None
    # Whoever sends it all the same is not listened to.
    assert machine.submit(offset=77, data=b64(b"rubbish")).json["level"] == "trusted"
    assert shown(place, machine)["ima"] is None


def test_a_host_is_told_which_part_is_wanted(place, machine):
    put_policy(place, mode="enforce")

    answer = machine.submit()
    assert (answer.status_code, answer.json["code"]) == (409, "ima-offset")
    assert answer.json["ima_offset"] == 0
    assert machine.round()["ima_offset"] == len(machine.kernel.log)
    assert machine.submit(offset=None).json["ima_offset"] == len(machine.kernel.log)


def test_the_question_spends_no_challenge_and_costs_no_trust(place, enforced):
    body = enforced.host.evidence() | {"ima_log": {"offset": 1}}
    assert enforced.host.submit(body).status_code == 409
    assert level(place, enforced) == "trusted"
    body["ima_log"] = enforced.part(enforced.offset)
    assert enforced.host.submit(body).json["level"] == "trusted"


def test_a_stranger_is_not_told_where_the_log_stands(enforced):
    body = enforced.host.evidence(key=SigningKey.ecc()) | {"ima_log": {"offset": None}}

    answer = enforced.host.submit(body)

    assert (answer.status_code, answer.json["code"]) == (400, "signature-invalid")
    assert "ima_offset" not in answer.json


@pytest.mark.parametrize(
    "part",
    [
        {"offset": -1},
        {"offset": "0"},
        {"offset": 2**60},
        {"offset": 0, "data": "*"},
        {"offset": 0, "data": None},
        {"offset": 0, "data": "", "more": "yes"},
        {"offset": 0, "data": b64(bytes(MAX_PART_BYTES + 1))},
    ],
)
def test_a_part_that_is_none_is_refused(machine, part):
    answer = machine.host.submit(machine.host.evidence() | {"ima_log": part})

    assert (answer.status_code, answer.json["code"]) == (400, "field-invalid")


# From the log to the verdict


def test_enforce_wants_to_know_every_file(place, machine):
    put_policy(place, mode="enforce")
    answer = machine.round()
    assert answer["level"] == "untrusted"
    assert set(codes(answer)) == {"ima-unknown-file"}
    assert "/usr/sbin/sshd" in [finding["description"] for finding in answer["findings"]]

    created = take_list(place, machine)
    assert created["kind"] == "ima"
    assert ["/usr/bin/login", "/usr/sbin/sshd"] in created["files"].values()
    # At once, from the files it has shown.
    assert level(place, machine) == "trusted"
    answer = machine.round()
    assert (answer["level"], answer["findings"]) == ("trusted", [])
    assert "files" in shown(place, machine)["reference_sets"]

    machine.run("/tmp/evil", content=b"evil")
    answer = machine.round()
    assert answer["level"] == "untrusted"
    assert [finding["description"] for finding in answer["findings"]] == ["/tmp/evil"]
    # It stays so: what was used was used.
    assert machine.round()["level"] == "untrusted"


def test_report_costs_no_trust(place, machine):
    put_policy(place, mode="report")
    answer = machine.round()

    assert answer["level"] == "trusted"
    assert {finding["severity"] for finding in answer["findings"]} == {"warning"}
    (told,) = place.get("/v1/verdicts")["hosts"]
    assert (told["level"], "reason" in told) == ("trusted", False)
    # Not even what enforce would not accept at all.
    answer = machine.submit(data=b64(b"rubbish"), offset=machine.offset)
    machine.run("/bin/x")
    answer = machine.submit(data=b64(b"rubbish"), offset=machine.offset)
    assert (answer.status_code, answer.json["level"]) == (200, "trusted")
    assert codes(answer.json) == ["ima-log-truncated"]
    assert answer.json["ima_offset"] == 0
    machine.offset = 0
    assert machine.round()["level"] == "trusted"


@pytest.mark.parametrize("mode", ["report", "enforce"])
def test_a_host_without_a_log(place, machine, mode):
    put_policy(place, mode=mode)

    answer = machine.host.submit()

    assert codes(answer.json) == ["ima-log-missing"]
    assert answer.json["level"] == {"report": "trusted", "enforce": "untrusted"}[mode]


def test_only_what_is_new_is_sent(enforced):
    before = enforced.offset
    assert enforced.round()["ima_offset"] == before
    enforced.run("/usr/bin/login")
    body = enforced.part(before)
    assert len(body["data"]) < 400
    assert enforced.round()["ima_offset"] > before
    # An agent that was restarted is told.
    enforced.offset = None
    assert enforced.round()["level"] == "trusted"


def test_a_signature_vouches_for_a_file(place, enforced):
    key, other = FileKey.rsa(), FileKey.ecc()
    exclude = ["/var/log/.*"]
    enforced.run("/usr/bin/new", content=b"new", signature=key.sign(b"new"))
    assert enforced.round()["level"] == "untrusted"

    put_policy(place, mode="enforce", exclude=exclude, keys=[other.pem, key.certificate()])
    # Of signatures nobody has looked at only the log can tell.
    assert (level(place, enforced), codes(shown(place, enforced))) == (
        "unknown", ["ima-log-incomplete"],
    )  # fmt: skip
    assert enforced.round()["level"] == "trusted"

    put_policy(place, mode="enforce", exclude=exclude, keys=[other.pem])
    assert enforced.round()["level"] == "untrusted"


def test_violations_and_another_kernel_are_shown(place, enforced):
    enforced.violate("/var/log/messages")
    assert enforced.round()["level"] == "trusted"
    enforced.violate("/usr/bin/login")
    enforced.kexec()
    answer = enforced.round()
    assert codes(answer) == ["ima-violation", "ima-unknown-file"]
    known = shown(place, enforced)["ima"]
    assert known == {
        "complete": True, "entries": 9, "bytes": len(enforced.kernel.log), "files": 8,
        "files_kept": True, "unknown": 2, "violations": 2, "kexec": True,
    }  # fmt: skip


def test_a_reboot_begins_anew(place, enforced):
    enforced.run("/tmp/evil", content=b"evil")
    assert enforced.round()["level"] == "untrusted"
    enforced.boot()
    assert enforced.round()["level"] == "trusted"
    assert shown(place, enforced)["ima"]["entries"] == 4
    # What was seen before the reboot is not taken for good.
    delete(place)
    assert len(take_list(place, enforced)["files"]) == 3


# A long log


def test_a_long_log_comes_over_several_rounds(place, enforced):
    enforced.run(*(f"/opt/{number}" for number in range(40)))
    enforced.largest = 1000
    answers = [enforced.round()]
    while answers[-1]["ima_offset"] < len(enforced.kernel.log):
        answers.append(enforced.round())

    assert len(answers) > 2
    for answer in answers[:-1]:
        # A known file is none to worry about, but what comes later may be.
        assert answer["findings"][-1]["code"] == "ima-log-incomplete"
        assert answer["interval"] == 1.0
    assert answers[-1]["interval"] == 60.0
    take_list(place, enforced, name="more")
    assert enforced.round()["level"] == "trusted"


def test_what_is_not_known_yet_is_neither_good_nor_bad(place, enforced):
    enforced.run(*["/usr/bin/login"] * 20)
    enforced.largest = 1000
    assert enforced.round()["level"] == "unknown"
    assert shown(place, enforced)["ima"]["complete"] is False
    answer = place.call(
        "POST", "/v1/reference-sets", {"name": "x", "kind": "ima", "from_hosts": ["node-1"]}
    )
    assert (answer.status_code, answer.json["code"]) == (409, "host-without-evidence")
    # Other rules do not make it known either.
    put_policy(place, mode="enforce", exclude=[".*"])
    assert level(place, enforced) == "unknown"
    put_policy(place, mode="report")
    assert level(place, enforced) == "trusted"
    assert codes(shown(place, enforced)) == ["ima-log-incomplete"]


def test_D9_a_host_that_never_comes_to_the_end_is_never_trusted(place, enforced):
    enforced.run("/tmp/evil", content=b"evil")
    for _ in range(3):
        answer = enforced.submit(data="", more=True)
        assert answer.json["level"] == "unknown"


# Attacks


def refused(place, machine, code, **part):
    answer = machine.submit(**part)
    assert (answer.status_code, answer.json["code"]) == (422, code), answer.text
    assert answer.json["level"] == "untrusted"
    assert (level(place, machine), codes(shown(place, machine))) == ("untrusted", [code])
    # It heals as soon as the log is in order again.
    assert machine.round()["level"] == "trusted"


ENTRY = Kernel()
ENTRY.run("/usr/bin/login")


@pytest.mark.parametrize(
    ("rubbish", "code"),
    [
        (b"\0", "ima-log-truncated"),
        (ENTRY.log[:-1], "ima-log-truncated"),
        (ENTRY.log[:24] + b"\xff\0\0\0" + ENTRY.log[28:], "ima-log-template"),
        (ENTRY.log[:30] + b"!" + ENTRY.log[31:], "ima-log-template"),
        (ENTRY.log[:10] + b"!" + ENTRY.log[11:], "ima-log-digest"),
        (ENTRY.log[:-8] + b"!" + ENTRY.log[-7:], "ima-log-digest"),
        (ENTRY.log[:-5] + b"!" + ENTRY.log[-4:], "ima-log-digest"),
        (ENTRY.log[:-1] + b"\xff", "ima-log-entry"),
    ],
)
def test_D9_a_malformed_entry(place, enforced, rubbish, code):
    enforced.run("/usr/bin/login")
    refused(place, enforced, code, data=b64(rubbish))


def test_D9_an_over_long_path(place, enforced):
    longest = Kernel()
    longest.run("/" + "x" * 4096)
    enforced.run("/usr/bin/login")
    refused(place, enforced, "ima-log-entry", data=b64(longest.log))


def test_D9_a_log_shorter_than_pcr_10(place, enforced):
    enforced.run("/tmp/evil", content=b"evil")
    enforced.run("/usr/bin/login")
    answer = enforced.submit(data="")
    assert (answer.status_code, answer.json["code"]) == (422, "ima-log-mismatch")
    assert level(place, enforced) == "untrusted"


def test_D9_an_entry_skipped(place, enforced):
    good = Kernel()
    good.run("/usr/bin/login")
    enforced.run("/tmp/evil", content=b"evil")
    enforced.run("/usr/bin/login")
    for _ in range(2):
        answer = enforced.submit(data=b64(good.log))
        if answer.status_code == 409:
            # Since the first lie the whole log is wanted.
            whole = Boot("machine-a").ima_log + good.log
            answer = enforced.submit(offset=0, data=b64(whole))
        assert (answer.status_code, answer.json["code"]) == (422, "ima-log-mismatch")
        assert level(place, enforced) == "untrusted"


@pytest.mark.parametrize("more", [True, False])
def test_D9_an_offset_beyond_the_end_or_claimed_again(place, enforced, more):
    for offset in (0, 1, enforced.offset - 1, enforced.offset + 1, enforced.offset + 10**9):
        answer = enforced.submit(offset=offset, more=more)
        assert (answer.status_code, answer.json["code"]) == (409, "ima-offset")
        assert answer.json["ima_offset"] == enforced.offset
    assert level(place, enforced) == "trusted"


def test_D9_pcr_10_moves_between_quote_and_log(place, enforced):
    body = enforced.host.evidence()
    enforced.run("/usr/bin/login", "/tmp/evil", content=b"evil")
    body["ima_log"] = enforced.part(enforced.offset)

    answer = enforced.host.submit(body).json

    # What was measured after the quote counts in the next round.
    assert (answer["level"], answer["ima_offset"]) == ("trusted", enforced.offset)
    assert enforced.round()["level"] == "untrusted"


def test_D9_the_log_of_another_host(place, enforced):
    other = Machine(place.approved_host("node-2"))
    other.run("/usr/bin/other")
    answer = other.submit(offset=0, data=b64(enforced.kernel.log))
    assert (answer.status_code, answer.json["code"]) == (422, "ima-log-mismatch")


def test_A6_an_answered_challenge_brings_no_part_in(enforced):
    body = enforced.host.evidence() | {"ima_log": enforced.part(enforced.offset)}
    assert enforced.host.submit(body).status_code == 200
    assert enforced.host.submit(body).json["code"] == "challenge-spent"


# Other rules


def test_a_list_withdrawn_takes_trust_away_at_once(place, enforced):
    """And the one that comes gives it, without a word of the host."""
    document = place.get("/v1/reference-sets/files")
    delete(place)
    assert level(place, enforced) == "untrusted"
    assert set(codes(shown(place, enforced))) == {"ima-unknown-file"}
    assert enforced.round()["level"] == "untrusted"

    body = {"name": "again", "document": document}
    assert place.call("POST", "/v1/reference-sets", body).status_code == 201
    assert level(place, enforced) == "trusted"
    # Nor is the log asked for again.
    assert enforced.submit().json["level"] == "trusted"


def test_a_list_that_something_else_stands_in_for_is_withdrawn_without_harm(place, enforced):
    enforced.run("/usr/bin/newer", content=b"newer")
    enforced.round()
    take_list(place, enforced, name="newer")
    delete(place)
    assert level(place, enforced) == "trusted"
    assert enforced.submit().json["level"] == "trusted"


def test_files_that_were_too_many_to_keep_have_to_be_sent_again(place, enforced, monkeypatch):
    monkeypatch.setattr(api_ima, "MOST_KEPT", 400)
    enforced.run("/usr/bin/newer", content=b"newer")
    assert enforced.round()["level"] == "untrusted"
    assert shown(place, enforced)["ima"]["files_kept"] is False
    assert count(place, ima_files) == 0
    answer = place.call(
        "POST", "/v1/reference-sets", {"name": "x", "kind": "ima", "from_hosts": ["node-1"]}
    )
    assert (answer.status_code, answer.json["code"]) == (409, "host-without-evidence")

    put_policy(place, mode="enforce", exclude=["/usr/.*"])
    assert (level(place, enforced), codes(shown(place, enforced))) == (
        "unknown", ["ima-log-incomplete"],
    )  # fmt: skip
    assert enforced.submit().json["ima_offset"] == 0
    assert enforced.round()["level"] == "trusted"


def test_a_policy_that_begins_to_ask_leaves_nobody_trusted(place, machine):
    put_policy(place, mode="enforce", exclude=[".*"])
    assert (level(place, machine), codes(shown(place, machine))) == (
        "unknown", ["ima-log-incomplete"],
    )  # fmt: skip
    assert machine.round()["level"] == "trusted"
    put_policy(place, mode="off")
    assert machine.round()["ima_offset"] is None
    # What is known stays true.
    put_policy(place, mode="enforce", exclude=[".*"])
    assert level(place, machine) == "trusted"


def test_a_verdict_ends_with_the_list_it_rests_on(place, enforced):
    document = place.get("/v1/reference-sets/files") | {"valid_until": "2027-01-15T08:01:00Z"}
    delete(place)
    body = {"name": "short", "document": document}
    assert place.call("POST", "/v1/reference-sets", body).status_code == 201
    assert enforced.round()["expires_at"] == "2027-01-15T08:01:00.000Z"
    put_policy(place, mode="report")
    assert enforced.round()["expires_at"] == "2027-01-15T08:05:00.000Z"
    put_policy(place, mode="enforce", exclude=["/var/log/.*"])
    place.clock.pass_by(60)
    assert level(place, enforced) == "unknown"
    assert enforced.round()["level"] == "untrusted"


def test_E9_a_list_is_withdrawn_while_a_host_attests(place, enforced, monkeypatch):
    done = []

    def appraised(*arguments, judge=appraise.appraise_safely):
        verdict = judge(*arguments)
        if not done:
            done.append(verdict.level)
            delete(place)
        return verdict

    monkeypatch.setattr(appraise, "appraise_safely", appraised)
    assert enforced.round()["level"] == "untrusted"
    assert done == ["trusted"]
    assert level(place, enforced) == "untrusted"


def test_E1_a_fault_of_the_verifier_leaves_the_log_as_it_was(place, enforced, monkeypatch):
    def broken(*arguments):
        raise ZeroDivisionError

    monkeypatch.setattr(appraise, "check_ima", broken)
    assert enforced.submit().json["level"] == "unknown"
    monkeypatch.undo()
    assert enforced.submit().json["level"] == "trusted"


# What is kept


def test_two_submissions_at_once_leave_one_truth(place, enforced, monkeypatch):
    """Between the judgement and its storing another round of the host comes in."""
    genuine, done = renewing.renew, []
    enforced.run("/usr/bin/login")
    body = enforced.host.evidence() | {"ima_log": enforced.part(enforced.offset)}

    def renew(connection, *arguments):
        if not done:
            done.append(True)
            verdicts.overtake_all(connection)
            raise renewing.Overtaken
        return genuine(connection, *arguments)

    monkeypatch.setattr(renewing, "renew", renew)
    enforced.run("/usr/bin/login")
    assert enforced.host.submit(body).json["level"] == "trusted"
    monkeypatch.undo()
    assert enforced.round()["level"] == "trusted"
    assert shown(place, enforced)["ima"]["entries"] == 8


def test_a_service_goes_on_where_another_one_stopped(place_maker, place, enforced):
    enforced.host.place = place_maker()
    enforced.run("/usr/bin/login")
    assert enforced.submit().json["level"] == "trusted"


def test_what_is_known_goes_with_the_host(place, enforced):
    assert (count(place, ima_states), count(place, ima_files)) == (1, 1)
    assert place.call("DELETE", "/v1/hosts/node-1").status_code == 204
    assert (count(place, ima_states), count(place, ima_files)) == (0, 0)


def test_a_tpm_that_was_cleared_begins_anew(place, enforced):
    place.store.write(
        lambda c: verdicts.forget_tpm_state(c, enforced.host.binding.id, identity_changed=False)
    )
    assert count(place, ima_states) == 0
    assert enforced.round()["level"] == "trusted"


def test_odd_names_are_kept_as_they_are(place, enforced):
    paths = ["/opt/a\nb", "/opt/\r\x0b\x85\u2028x", "/opt/\x00", "/opt/ü", "/opt/\U0001f512"]
    enforced.run(*paths)
    enforced.round()
    listed = take_list(place, enforced, name="odd")["files"].values()
    assert {path for known in listed for path in known} >= set(paths)
    assert enforced.round()["level"] == "trusted"


def test_lists_are_long_so_an_overview_has_only_their_length(place, enforced):
    (found,) = [
        item for item in place.get("/v1/reference-sets")["reference_sets"] if item["kind"] == "ima"
    ]
    assert "files" not in found
    whole = place.get("/v1/reference-sets/files")["files"]
    assert found["file_count"] == len(whole) > 3


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"from_hosts": []}, 400, "field-invalid"),
        ({"from_hosts": ["node-1"], "pcrs": [10]}, 400, "field-invalid"),
        ({"from_hosts": ["nobody"]}, 404, "host-unknown"),
        ({"from_hosts": ["node-2"]}, 409, "host-without-evidence"),
    ],
)
def test_lists_that_are_none_are_refused(place, enforced, body, status, code):
    place.approved_host("node-2")
    answer = place.call("POST", "/v1/reference-sets", {"name": "x", "kind": "ima", **body})
    assert (answer.status_code, answer.json["code"]) == (status, code), answer.text


def test_lists_of_hosts_leave_out_what_may_be_anything(place, enforced):
    enforced.run("/var/log/rotated")
    other = Machine(place.approved_host("node-2"))
    other.run("/usr/bin/other", content=b"other")
    other.round()
    enforced.round()
    listed = take_list(place, enforced, other, name="both")["files"].values()
    paths = {path for known in listed for path in known}
    assert {"/usr/bin/login", "/usr/bin/other"} <= paths
    assert "/var/log/rotated" not in paths


MILLION = pytest.param(1_000_000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])


@pytest.mark.parametrize("entries", [100_000, MILLION])
def test_D9_a_long_log_needs_the_memory_of_a_part(place, machine, entries):
    """No two entries are alike; beside the log itself, which this process holds as well."""
    put_policy(place, mode="enforce", exclude=["/usr/lib/.*", "/.*"])
    for number in range(entries):
        machine.run(f"/usr/lib/x86_64-linux-gnu/{number}.so", content=number.to_bytes(4))
    rounds = 1
    while machine.round()["ima_offset"] + 2 * MAX_PART_BYTES < len(machine.kernel.log):
        rounds += 1
    tracemalloc.start()
    while not shown(place, machine)["ima"]["complete"]:
        answer = machine.round()
        rounds += 1
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert answer["level"] == "trusted"
    known = shown(place, machine)["ima"]
    assert (known["files"], known["unknown"]) == (entries + 5, 0)
    assert rounds <= len(machine.kernel.log) // MAX_PART_BYTES + 2
    assert peak < 16 * MAX_PART_BYTES
    with place.store.read() as connection:
        stored = store_ima.load(connection, machine.host.binding.id)
        assert len(stored.document) < 10_000
        assert len(store_ima.files(connection, machine.host.binding.id)) < api_ima.MOST_KEPT
