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
"""``oat host import``: what lists may look like, and where mistakes are said to be."""

import json

import pytest

KEY, OTHER = "ab" * 32, "cd" * 32
DONE = {"registered": 2, "approved": 0, "unchanged": 0}

CSV = f"""\
Host, Region, EK_Fingerprint, policy, labels, accept_expired
node-1, r1, {":".join([KEY[:2]] * 32).upper()}, strict, rack=a1; zone = z, yes
node-2,,{OTHER},,,
"""
JSON = f"""\
{{"hosts": [
\t{{"host": "node-1", "region": "r1", "ek_hash": "{KEY}", "policy": "strict",
\t  "labels": {{"rack": "a1", "zone": "z"}}, "accept_expired": true}},
\t{{"host": "node-2", "ek_fingerprint": "{OTHER}"}}
]}}
"""
YAML = f"""\
# of March
- host: node-1
  region: r1
  ek_fingerprint: {KEY}
  policy: strict
  labels: {{rack: a1, zone: z}}
  accept_expired: true
- {{host: node-2, ek_fingerprint: "{OTHER}"}}
"""
SENT = {
    "hosts": [
        {"host": "node-1", "region": "r1", "ek_fingerprint": KEY, "policy": "strict",
         "labels": {"rack": "a1", "zone": "z"}, "accept_expired": True},
        {"host": "node-2", "region": "", "ek_fingerprint": OTHER},
    ],
    "dry_run": False,
}  # fmt: skip


@pytest.fixture
def file(tmp_path):
    def write(text, name="hosts.csv"):
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write


@pytest.mark.parametrize(
    ("name", "text"), [("h.csv", CSV), ("h.json", JSON), ("h.yaml", YAML), ("h.YML", YAML)]
)
def test_one_list_in_three_languages(oat, api, file, name, text):
    sent = api("POST", "/v1/registrations", status_code=201, json=DONE)
    ran = oat("host", "import", file(text, name), "-f", "json")
    assert ran.status == 0, ran.err
    assert json.loads(ran.out) == DONE
    assert sent.last_request.json() == SENT


def test_what_looks_like_a_number_stays_a_text(oat, api, file):
    sent = api("POST", "/v1/registrations", status_code=201, json=DONE)
    digits = "12" * 32
    assert oat("host", "import", file(f"- {{host: 007, ek_hash: {digits}}}", "h.yaml")).status == 0
    assert sent.last_request.json()["hosts"] == [
        {"host": "007", "region": "", "ek_fingerprint": digits}
    ]


def test_region_dry_run_and_format_can_be_given(oat, api, file):
    sent = api("POST", "/v1/registrations", json=DONE)
    path = file(f"host,ek_fingerprint\nnode-1,{KEY}\n", "list")
    assert oat("host", "import", path).status == 2
    ran = oat("host", "import", path, "--input-format", "csv", "--region", "r9", "--dry-run")
    assert ran.status == 0
    assert sent.last_request.json()["hosts"][0]["region"] == "r9"
    assert sent.last_request.json()["dry_run"] is True


def test_a_long_list_is_checked_in_parts_and_sent_as_a_whole(oat, api, file):
    sent = api("POST", "/v1/registrations", json=DONE)
    lines = [f"node-{n},{n:064x}" for n in range(4500)]
    ran = oat("host", "import", file("\n".join(["host,ek_fingerprint", *lines])), watched=True)
    assert ran.status == 0
    shown = [f"{done} of 4500 hosts checked" for done in (2000, 4000, 4500)]
    # Each takes the place of the one before, and in the end the line is empty.
    assert ran.err.split("\r\x1b[K") == ["", *shown, ""]
    sizes = [(len(r.json()["hosts"]), r.json()["dry_run"]) for r in sent.request_history]
    assert sizes == [(2000, True), (2000, True), (500, True), (4500, False)]


def test_progress_does_not_go_into_files(oat, api, file):
    api("POST", "/v1/registrations", json=DONE)
    lines = [f"node-{n},{n:064x}" for n in range(2500)]
    ran = oat("host", "import", file("\n".join(["host,ek_fingerprint", *lines])))
    assert (ran.status, ran.err) == (0, "")


@pytest.mark.parametrize(
    ("name", "text", "line", "words"),
    [
        ("h.csv", "node-1,abc\n", 1, "headings"),
        ("h.csv", "host,host\n", 1, "headings"),
        ("h.csv", f"host,ek_fingerprint\nnode-1,{KEY},more\n", 2, "fields"),
        ("h.csv", f"host,ek_fingerprint\nnode-1,{KEY}\nnode-2\n", 3, "fields"),
        ("h.csv", "host,ek_fingerprint\nnode-1,abc\n", 2, "64 hex digits"),
        ("h.csv", f"host,ek_fingerprint\n,{KEY}\n", 2, "host is missing"),
        ("h.csv", "host,ek_fingerprint\nnode-1,\n", 2, "ek_fingerprint is missing"),
        ("h.csv", f"host,ek_hash,colour\nnode-1,{KEY},blue\n", 2, "colour"),
        ("h.csv", f"host,ek_hash,labels\nnode-1,{KEY},blue\n", 2, "name=value"),
        ("h.csv", f"host,ek_hash,ek_fingerprint\nnode-1,{KEY},{KEY}\n", 2, "one thing"),
        ("h.csv", f"host,ek_hash,accept_expired\nnode-1,{KEY},maybe\n", 2, "neither true nor"),
        ("h.csv", f'host,ek_hash\nnode-1,{KEY}\n"node-2,{KEY}\n', 3, "not CSV"),
        ("h.json", '{"hosts": [\n{"host": "a" "b"}\n]}', 2, "neither JSON nor YAML"),
        ("h.json", '{"hosts": {}}', 1, "not a list"),
        ("h.json", '{"hosts": [], "more": 1}', 1, "not a list"),
        ("h.json", '[\n"node-1"]', 2, "named fields"),
        ("h.json", f'[{{"host": "a",\n"host": "b", "ek_hash": "{KEY}"}}]', 2, "twice"),
        ("h.json", f'[{{"ek_hash": "{KEY}",\n"host": ["a"]}}]', 2, "neither a text"),
        ("h.yaml", f"- ek_hash: {KEY}\n  host: {{a: b}}\n", 1, "host is missing"),
    ],
)
def test_mistakes_are_said_with_their_line_and_nothing_is_sent(
    oat, api, file, name, text, line, words
):
    path = file(text, name)
    ran = oat("host", "import", path)
    assert ran.status == 1
    first, last = ran.err.splitlines()
    assert first.startswith(f"{path}:{line}: ")
    assert words in first
    assert last.startswith("import-refused: nothing was imported, 1 mistakes")
    assert api.history() == []


def test_what_the_backend_refuses_is_said_with_its_line(oat, api, file):
    api("POST", "/v1/registrations", status_code=422, json={
        "code": "import-refused", "detail": "no", "error_count": 300,
        "errors": [{"index": 1, "code": "host-twice", "detail": "evil\x1b[2J\nlines"}],
    })  # fmt: skip
    path = file(YAML, "h.yaml")
    ran = oat("host", "import", path)
    assert ran.status == 1
    first, last = ran.err.splitlines()
    assert first.startswith(f"{path}:8: host-twice: evil\\x1b[2J")
    assert "300 mistakes" in last
    assert "299 more than shown" in last


@pytest.mark.parametrize("text", ["host,ek_fingerprint\n", ""])
def test_a_list_without_hosts(oat, api, file, text):
    assert oat("host", "import", file(text)).status in (1, 2)
    assert oat("host", "import", file("[]", "h.json")).status == 2
    assert api.history() == []
