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
"""Lists of files for IMA."""

import json

import pytest
import yaml

from tests.unit.cli.test_host import host

DIGEST = "ab" * 32
FILES = {f"sha256:{DIGEST}": ["/bin/sh"]}
ANSWER = {"name": "good", "kind": "ima", "pcrs": {}, "events": [], "files": FILES, "differing": []}


@pytest.fixture
def created(oat, api, tmp_path):
    """What is sent to create a set from this text."""

    def create(text, *options):
        sent = api("POST", "/v1/reference-sets", status_code=201, json=ANSWER)
        file = tmp_path / "list"
        file.write_text(text)
        ran = oat("reference", "create", "good", "--kind", "ima", "--file", str(file), *options)
        return ran, sent.last_request.json() if sent.called else None

    return create


@pytest.mark.parametrize(
    ("text", "files"),
    [
        (f"{DIGEST}  /bin/sh\n", FILES),
        (f"{DIGEST} */bin/sh", FILES),
        (f"{DIGEST.upper()}  /bin/sh\n\n", FILES),
        (
            f"{DIGEST}  /bin/sh\n{'cd' * 48}  /a\n{DIGEST}  /bin/dash\n{'ef' * 64}  /b\n",
            {f"sha256:{DIGEST}": ["/bin/sh", "/bin/dash"], f"sha384:{'cd' * 48}": ["/a"],
             f"sha512:{'ef' * 64}": ["/b"]},
        ),
        # A name with a line break and a backslash as sha256sum writes it, and with a blank, which
        # the kernel writes otherwise.
        (f"\\{DIGEST}  /a\\nb\\\\c\n", {f"sha256:{DIGEST}": ["/a\nb\\c"]}),
        (f"{DIGEST}  /a b\u2028c\n", {f"sha256:{DIGEST}": ["/a_b\u2028c"]}),
    ],
)  # fmt: skip
def test_a_list_of_sha256sum_becomes_a_document(created, text, files):
    ran, sent = created(text)
    assert (ran.status, ran.err) == (0, "")
    assert sent == {"name": "good", "document": {"kind": "ima", "files": files}}


@pytest.mark.parametrize("dump", [json.dumps, yaml.safe_dump])
def test_a_document_is_one_as_well(created, dump):
    _, sent = created(dump({"kind": "ima", "files": FILES}))
    assert sent == {"name": "good", "document": {"kind": "ima", "files": FILES}}


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (f"{DIGEST}  /bin/sh\nrubbish\n", "line 2"),
        (f"{DIGEST}  /bin/sh\n{DIGEST}\n", "line 2"),
        (f"{DIGEST}  /bin/sh\n{'ab' * 20}  /sha1\n", "line 2"),
        ("", "no object"),
        (f"{'ab' * 20}  /sha1\n", "no object"),
    ],
)
def test_anything_else_is_wrong_use(created, text, where):
    ran, sent = created(text)
    assert (ran.status, sent) == (2, None)
    assert where in ran.err


def test_pcrs_do_not_go_with_it(created):
    ran, sent = created(f"{DIGEST}  /bin/sh\n", "--pcr", "10")
    assert (ran.status, sent) == (2, None)


def test_lists_are_shown_by_their_length_or_in_full(oat, api):
    listed = {key: value for key, value in ANSWER.items() if key != "files"} | {"file_count": 77}
    api("GET", "/v1/reference-sets", json={"reference_sets": [listed]})
    api("GET", "/v1/reference-sets/good", json=ANSWER)
    assert "| 77 " in " ".join(oat("reference", "list").out.split())
    assert f"sha256:{DIGEST} /bin/sh" in oat("reference", "show", "good").out
    assert json.loads(oat("reference", "show", "good", "-f", "json").out)["files"] == FILES


def test_a_host_shows_what_it_has_used(oat, api):
    known = {"complete": False, "entries": 7, "bytes": 900, "files": 6, "files_kept": True,
             "unknown": 2, "violations": 1, "kexec": True}  # fmt: skip
    warning = {"code": "ima-unknown-file", "message": "PCR 10: /x\x1b[31m", "severity": "warning"}
    api("GET", "/v1/hosts/node-1", json=host(findings=[warning], ima=known))
    shown = oat("host", "show", "node-1").out
    assert "7 entries, 2 unknown files, 1 violations, kexec seen; more to come" in shown
    assert "1. warning: PCR 10: /x\\x1b[31m" in shown
    api("GET", "/v1/hosts/node-1", json=host(ima=None))
    assert "kexec" not in oat("host", "show", "node-1").out
