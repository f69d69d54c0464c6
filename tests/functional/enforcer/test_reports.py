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
"""The backend is told that the enforcer lives, if it wants to know."""

import json
import logging

from oat_trusted_filter.enforcer.report import INTERVAL


def test_reports_say_who_leads_and_what_was_done(bench):
    bench.backend.takes_reports = True
    bench.placement.add("compute-1")
    bench.backend.say("trusted", "compute-1", "compute-2")
    bench.turn()
    (report,) = map(json.loads, bench.backend.reports)
    assert bench.backend.requests[-1][0] == "/v1/enforcers/enforcer-1"
    assert report == {
        "region": "",
        "leader": True,
        "counts": {
            "set": 1,
            "removed": 0,
            "failed": 0,
            "incidents": 0,
            "unchanged": 0,
            "waiting": 1,
            "pending": 0,
        },
    }


def test_a_report_comes_with_a_change_and_otherwise_now_and_then(bench):
    bench.backend.takes_reports = True
    bench.placement.add("compute-1")
    bench.turn()
    bench.turn()
    assert len(bench.backend.reports) == 1
    bench.backend.say("trusted", "compute-1")
    bench.turn()
    assert len(bench.backend.reports) == 2
    bench.turn()  # now it is unchanged
    count = len(bench.backend.reports)
    bench.turn()
    assert len(bench.backend.reports) == count
    bench.clock.pass_by(INTERVAL)
    bench.turn()
    assert len(bench.backend.reports) == count + 1


def test_a_backend_without_reports_is_no_trouble(bench, caplog):
    bench.turn()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_report_that_fails_is_told_once_and_harms_nothing(bench, caplog):
    host = bench.placement.add("compute-1")

    def fault(handler):
        if handler.command == "PUT":
            handler.send_response(500)
            handler.send_header("Content-Length", "0")
            handler.end_headers()

    bench.backend.takes_reports = True
    handlers = bench.backend._server.RequestHandlerClass
    handlers.do_PUT = fault
    bench.backend.say("trusted", "compute-1")
    for _ in range(3):
        bench.turn()
        bench.clock.pass_by(INTERVAL)
    assert bench.placement.traits(host)
    assert caplog.text.count("took no report") == 1
