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
"""What is about one host costs as much among ten thousand as alone: nothing reads a whole table."""

import re

import pytest
from sqlalchemy import event

from tests.lab.makers import authority
from tests.unit.backend.test_enrolments import HOUR, Machine, at

#: Those with a row for each host, or more.
LONG = re.compile(
    r"SCAN (hosts|verdicts|tag_records|reports|audit|deletions|spent_challenges|enrolment_tokens"
    r"|boot_logs|ima_states|ima_files)\b"
    # All of those that are approved.
    r"|approved_name>"
)


@pytest.fixture
def scans(store):
    """Statements that read through a long table, each with what SQLite says of it."""
    found = []

    def explain(connection, cursor, statement, parameters, context, many):
        if not many and statement.startswith(("SELECT", "UPDATE", "DELETE")):
            cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            steps = [row[3] for row in cursor.fetchall()]
            found.extend((step, statement) for step in steps if LONG.search(step))

    event.listen(store.engine, "before_cursor_execute", explain)
    yield found
    event.remove(store.engine, "before_cursor_execute", explain)


def test_nothing_about_one_host_reads_through_all_of_them(place_maker, tmp_path, scans):
    maker = authority("maker", start=at(-HOUR), end=at(2 * HOUR))
    (tmp_path / "ek-ca").mkdir()
    (tmp_path / "ek-ca" / "maker.pem").write_bytes(maker.pem)
    place = place_maker(ek_ca_dir=tmp_path / "ek-ca")
    machine = Machine(place, "node-1", maker)
    assert machine.enrol() == "pending"
    key = {"ek_fingerprint": place.get("/v1/hosts/node-1")["ek_fingerprint"]}
    assert place.call("POST", "/v1/hosts/node-1/approve", key).status_code == 200
    assert machine.enrol() == "approved"
    assert machine.attest() == "untrusted"
    before = list(scans)
    place.trust(machine)
    scans[:] = before  # a change of the rules is about all hosts
    machine.attest()
    assert machine.enrol() == "approved"
    machine.boot("machine-a-loader")
    machine.attest()
    place.get("/v1/hosts/node-1")
    place.get("/v1/reports?host=node-1")
    assert place.call("DELETE", "/v1/hosts/node-1").status_code == 204
    assert not scans
