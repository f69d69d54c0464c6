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
"""The history: a report for each change and none else, and evidence that can be judged again."""

import hashlib
import struct
from dataclasses import replace

import pytest
from sqlalchemy import func, select

from oat_trusted_filter.backend.api import kept
from oat_trusted_filter.backend.api.upkeep import purge_history
from oat_trusted_filter.backend.store import reports
from oat_trusted_filter.backend.store.tables import boot_logs, rule_documents, rule_versions
from oat_trusted_filter.tcg.algorithms import BANKS
from oat_trusted_filter.tcg.bootlog import EV_NO_ACTION, parse_boot_log
from tests.unit.backend.test_ima import Machine, put_policy, take_list

OTHER = {"secure_boot": "optional", "requirements": [{"kind": "platform", "pcrs": [7]}]}


def history(place, name="node-1", **query):
    return place.get("/v1/reports", params={"host": name, **query})["reports"]


def said(place, name="node-1"):
    return [(report["cause"], report["level"]) for report in reversed(history(place, name))]


def again(place, report):
    return place.get(f"/v1/reports/{report['id']}/appraisal")


def count(place, table):
    with place.store.read() as connection:
        return connection.scalar(select(func.count()).select_from(table))


@pytest.fixture
def host(place):
    """A trusted host."""
    made = place.approved_host()
    made.attest()
    place.trust(made)
    return made


@pytest.mark.every_database
def test_each_change_is_a_report_and_a_renewal_is_none(place, host):
    assert said(place) == [("evidence", "untrusted"), ("rules", "trusted")]
    for _ in range(3):
        place.clock.pass_by(60)
        host.attest()
    newest, first = history(place)
    assert newest["confirmed_until"] == place.get("/v1/hosts/node-1")["appraised_at"]
    assert newest["at"] < newest["confirmed_until"]
    assert first["confirmed_until"] == first["at"]
    place.clock.pass_by(400)
    assert said(place)[2:] == [("lapse", "unknown")]
    host.attest()
    host.boot("machine-a-cmdline")
    host.attest()
    host.boot("machine-a-loader")
    host.attest()
    # The first of the two boots differs in what the policy does not ask for.
    assert said(place)[3:] == [
        ("evidence", "trusted"), ("evidence", "trusted"), ("evidence", "untrusted"),
    ]  # fmt: skip


def test_a_restart_of_the_same_boot_is_no_report(place, host):
    before = len(history(place))
    host.boot("machine-a")
    host.attest()
    assert len(history(place)) == before


@pytest.mark.every_database
def test_every_report_gives_the_same_answer_again(place, host):
    host.boot("machine-a-loader")
    host.attest()
    place.trust(host)
    host.attest()
    place.call("PUT", "/v1/policies/default", OTHER)
    for reference in place.get("/v1/reference-sets")["reference_sets"]:
        place.call("DELETE", f"/v1/reference-sets/{reference['name']}")
    host.attest()
    place.call("DELETE", "/v1/hosts/node-1")
    found = history(place)
    assert {report["level"] for report in found} == {"trusted", "untrusted"}
    for report in found:
        answer = again(place, report)
        assert answer["same"], report
        assert answer["level"] == report["level"]
        assert answer["findings"] == report["findings"]
        assert answer["signature"] == ("verified" if report["cause"] == "evidence" else "absent")


def padded(log, number):
    """The log with an event that no PCR knows of."""
    banks = parse_boot_log(log).banks
    event = struct.pack("<III", 0, EV_NO_ACTION, len(banks))
    for bank in banks:
        event += struct.pack("<H", BANKS[bank]) + bytes(hashlib.new(bank).digest_size)
    return log + event + struct.pack("<II", 4, number)


@pytest.mark.every_database
def test_C4_a_host_that_pads_its_boot_log_does_not_fill_the_database(place, host):
    log = host.boot_log
    before = said(place)
    for number in range(5):
        place.clock.pass_by(60)
        host.log_is(padded(log, number))
        assert host.attest() == "trusted"
    assert said(place) == [*before, ("evidence", "trusted")]
    # The first one, of the report before, and the last one.
    assert count(place, boot_logs) == 2
    for report in history(place):
        assert again(place, report)["same"]
    # An hour later there is another one.
    for number in range(5, 8):
        place.clock.pass_by(60 if number > 5 else 3600)
        host.log_is(padded(log, number))
        host.attest()
    assert said(place)[-2:] == [("evidence", "trusted")] * 2


def test_C4_a_host_that_changes_all_the_time_does_not_fill_the_database(place_maker):
    place = place_maker(history_reports=3)
    host = place.approved_host()
    host.attest()
    place.trust(host)
    log = host.boot_log
    for number in range(4):
        host.boot("machine-a-loader")
        host.log_is(padded(host.boot_log, number))
        assert host.attest() == "untrusted"
        host.boot("machine-a")
        host.log_is(padded(log, number))
        assert host.attest() == "trusted"
    assert [level for _, level in said(place)] == ["trusted", "untrusted", "trusted"]
    assert count(place, boot_logs) == 3


def test_refused_evidence_can_be_refused_again(place, host):
    host.values["sha256"][2] = bytes(32)
    assert host.submit().status_code == 422
    newest = history(place)[0]
    assert (newest["level"], newest["reason"]) == ("untrusted", "boot-log-mismatch")
    answer = again(place, newest)
    assert (answer["same"], answer["signature"]) == (True, "verified")
    assert count(place, boot_logs) == 1


def test_a_log_that_does_not_fit_is_kept_only_if_it_is_small(place, host, monkeypatch):
    monkeypatch.setattr(kept, "LARGEST_ODD_LOG", 1000)
    host.values["sha256"][2] = bytes(32)
    host.submit()
    answer = place.call("GET", f"/v1/reports/{history(place)[0]['id']}/appraisal")
    assert (answer.status_code, answer.json["code"]) == (409, "report-without-evidence")


def test_a_lapse_has_nothing_to_be_judged_again(place, host):
    place.clock.pass_by(400)
    lapse = history(place)[0]
    answer = place.call("GET", f"/v1/reports/{lapse['id']}/appraisal")
    assert (answer.status_code, answer.json["code"]) == (409, "report-without-evidence")
    shown = place.get(f"/v1/reports/{lapse['id']}")
    assert shown["evidence_of"] == history(place)[-1]["id"]
    assert shown["pcrs"]["sha256"]["7"] == host.values["sha256"][7].hex()


def test_evidence_that_was_tampered_with_in_the_database_does_not_pass(place, host):
    host.boot("machine-a-loader")
    host.attest()
    host.boot("machine-a")
    host.attest()
    good, bad = history(place)[0], history(place)[1]
    with place.store.read() as connection:
        evidence = reports.basis(connection, reports.by_id(connection, int(bad["id"]))).evidence
    changed = kept.unpacked(evidence)
    with place.store.read() as connection:
        other = reports.basis(connection, reports.by_id(connection, int(good["id"]))).evidence
    changed.pcrs = kept.unpacked(other).pcrs
    data = kept.zlib.compress(kept.msgspec.json.encode(changed))
    where = reports.reports.c.id == int(bad["id"])
    place.store.write(
        lambda c: c.execute(reports.reports.update().where(where).values(evidence=data))
    )
    answer = again(place, bad)
    assert not answer["same"]
    assert answer["findings"][0]["code"] == "pcr-digest"


def test_ima(place, host):
    machine = Machine(host)
    machine.run("/usr/bin/login")
    put_policy(place, mode="enforce")
    machine.round()
    take_list(place, machine)
    machine.round()
    machine.run("/usr/bin/evil")
    machine.round()
    put_policy(place, mode="report")
    before = len(history(place))
    for number in range(3):
        machine.run(f"/usr/bin/more-{number}")
        machine.round()
    assert len(history(place)) == before
    put_policy(place, mode="enforce")
    place.call("DELETE", "/v1/reference-sets/files")
    machine.round()
    found = history(place)
    assert len({report["level"] for report in found}) > 1
    assert "ima-unknown-file" in {report["reason"] for report in found}
    for report in found:
        assert again(place, report)["same"], report


def test_an_ima_log_that_does_not_fit(place, host):
    machine = Machine(host)
    put_policy(place, mode="enforce")
    machine.round()
    host.values["sha256"][10] = bytes(32)
    machine.submit()
    newest = history(place)[0]
    assert newest["reason"] == "ima-log-mismatch"
    assert again(place, newest)["same"]
    put_policy(place, mode="report")
    machine.round()
    machine.submit(data="AAAA")
    for report in history(place):
        assert again(place, report)["same"], report


def test_rules_are_kept_once_and_only_if_something_refers_to_them(place, host):
    for number in range(5):
        place.call("PUT", f"/v1/policies/p{number}", OTHER)
    assert count(place, rule_versions) == 2
    assert count(place, rule_documents) == 1


def test_differences(place, host):
    host.boot("machine-a-cmdline")
    host.attest()
    newest, *_, oldest = history(place)
    found = place.get(f"/v1/reports/{oldest['id']}/differences/{newest['id']}")
    assert {item["pcr"] for item in found["pcrs"]} >= {8}
    (lines,) = [item for item in found["facts"] if item["fact"] == "kernel_command_lines"]
    assert lines["before"] != lines["after"]
    assert {event["pcr"] for event in found["events"]["added"]} >= {8}
    assert found["before"]["id"] == oldest["id"]
    same = place.get(f"/v1/reports/{newest['id']}/differences/{newest['id']}")
    assert same["pcrs"] == same["facts"] == []
    assert same["events"] == {"removed": [], "added": [], "reordered": []}


def test_the_report_that_stood_at_a_moment(place, host):
    place.clock.pass_by(10)
    host.boot("machine-a-loader")
    host.attest()
    newest, older, _ = history(place)
    (found,) = history(place, until=older["at"], limit=1)
    assert found["id"] == older["id"]
    first = place.get("/v1/reports", params={"host": "node-1", "limit": 2})
    assert [report["id"] for report in first["reports"]] == [newest["id"], older["id"]]
    rest = place.get("/v1/reports", params={"host": "node-1", "marker": first["marker"]})
    assert len(rest["reports"]) == 1
    assert rest["marker"] is None
    assert history(place, "node-9") == []
    assert history(place, region="elsewhere") == []


@pytest.mark.parametrize("query", [{}, {"host": "a/b"}, {"host": "a", "limit": 0},
                                   {"host": "a", "until": "yesterday"}])  # fmt: skip
def test_odd_questions(place, query):
    answer = place.call("GET", "/v1/reports", params=query)
    assert (answer.status_code, answer.json["code"]) == (400, "field-invalid")


@pytest.mark.parametrize("number", ["0", "x", "9" * 30, "-1", "99"])
def test_reports_there_are_not(place, number):
    for path in ("", "/appraisal", "/differences/1"):
        answer = place.call("GET", f"/v1/reports/{number}{path}")
        assert (answer.status_code, answer.json["code"]) == (404, "report-unknown")


def purge(place, *, before=0, most=1000):
    days = (place.clock() - before) / 86_400_000
    settings = replace(place.settings, history_days=days, history_reports=most)
    return purge_history(place.store, settings, place.clock())


@pytest.mark.every_database
def test_old_reports_go_and_what_the_rest_needs_stays(place, host):
    old = place.clock()
    place.clock.pass_by(100)
    host.boot("machine-a-loader")
    host.attest()
    place.clock.pass_by(400)
    assert said(place)[-1] == ("lapse", "unknown")
    assert purge(place, before=old) == 0
    # The lapse rests on the evidence before it.
    assert purge(place, before=place.clock()) == 2
    assert said(place) == [("evidence", "untrusted"), ("lapse", "unknown")]
    assert count(place, boot_logs) == 1
    assert count(place, rule_versions) == 1
    assert again(place, history(place)[1])["same"]


def test_as_many_as_are_wanted_stay(place, host):
    for boot in ("machine-a-loader", "machine-a", "machine-a-loader", "machine-a"):
        host.boot(boot)
        host.attest()
    assert purge(place, most=2) == 4
    assert said(place) == [("evidence", "untrusted"), ("evidence", "trusted")]


@pytest.mark.every_database
def test_the_last_word_about_a_host_stays_until_the_host_goes(place, host):
    place.clock.pass_by(10**6)
    purge(place, before=place.clock())
    assert said(place)[-1] == ("lapse", "unknown")
    place.call("DELETE", "/v1/hosts/node-1")
    purge(place, before=place.clock() + 1)
    assert history(place) == []
    for table in (boot_logs, rule_versions, rule_documents):
        assert count(place, table) == 0
